import { text } from 'node:stream/consumers';
import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import { parseServerAddress } from '../../protocol/reference.ts';
import { DockerConfig, keyOf } from '../credentials/config.ts';
import type { RegistryAuth } from '../engine.ts';
import { ask } from '../prompt.ts';
import { Exit, type Context, type Run } from './command.ts';

interface Options {
  readonly username?: string;
  readonly password?: string;
  readonly passwordStdin?: boolean;
}

/** `layerctl login`. */
export const login: Run<Options> = async (context, [server = ''], options) => {
  const registry = parseServerAddress(server);
  const config = await DockerConfig.load(context.configDirectory, context.env);
  const password = await givenPassword(context, options);
  const isTold = options.username !== undefined || password !== undefined;
  const stored = isTold ? undefined : await config.forRegistry(registry, context.signal);
  if (stored !== undefined && (await isAccepted(context, config, registry, stored))) return Exit.ok;
  const auth = await askFor(context, registry, { username: options.username, password, known: stored?.username });
  await logIn(context, config, registry, auth);
  return Exit.ok;
};

/** The password of the options, from standard input where that is asked for. */
async function givenPassword({ input, err }: Context, options: Options): Promise<string | undefined> {
  if (options.passwordStdin !== true) {
    if (options.password === undefined) return undefined;
    await err.line('WARNING! Using --password via the CLI is insecure. Use --password-stdin.');
    return options.password;
  }
  if (options.password !== undefined) {
    throw new LayerdError('invalid', '--password and --password-stdin exclude each other');
  }
  if (options.username === undefined) throw new LayerdError('invalid', '--password-stdin needs --username');
  const password = (await text(input())).replace(/\r?\n$/, '');
  if (password === '') throw new LayerdError('invalid', 'there is no password on standard input');
  return password;
}

/** Whether the registry still takes what is stored; other failures than its refusal are not asked about. */
async function isAccepted(
  context: Context,
  config: DockerConfig,
  registry: string,
  stored: RegistryAuth,
): Promise<boolean> {
  const { username } = stored;
  await context.err.line(
    `Authenticating with existing credentials...${username === undefined ? '' : ` [Username: ${username}]`}`,
  );
  try {
    await logIn(context, config, registry, stored);
    return true;
  } catch (error) {
    if (!isKind(error, 'unauthorized')) throw error;
    await context.err.line(`layerctl: the stored credentials are refused: ${messageOf(error)}`);
    return false;
  }
}

async function askFor(
  context: Context,
  registry: string,
  { username, password, known }: Record<'username' | 'password' | 'known', string | undefined>,
): Promise<RegistryAuth> {
  if ((username === undefined || password === undefined) && context.input().isTTY !== true) {
    throw new LayerdError(
      'invalid',
      'cannot ask for user name and password, since standard input is no terminal: give --username and --password-stdin',
    );
  }
  const suggestion = known === undefined ? '' : ` (${known})`;
  const typed = username ?? ((await ask(context, `Username${suggestion}: `, { secret: false })).trim() || known);
  if (typed === undefined || typed === '') throw new LayerdError('invalid', 'a user name is needed');
  const secret = password ?? (await ask(context, 'Password: ', { secret: true }));
  if (secret === '') throw new LayerdError('invalid', 'a password is needed');
  return { username: typed, password: secret, serveraddress: keyOf(registry) };
}

async function logIn(
  { client, out, err, signal }: Context,
  config: DockerConfig,
  registry: string,
  auth: RegistryAuth,
): Promise<void> {
  const { Status, IdentityToken: identitytoken = '' } = await client.logIn(auth, { signal });
  const { password: _, ...account } = auth;
  const path = await config.store(registry, identitytoken === '' ? auth : { ...account, identitytoken }, signal);
  if (path !== undefined) {
    await err.lines([
      '',
      `WARNING! Your credentials are stored unencrypted in '${path}'.`,
      'Configure a credential helper to remove this warning. See',
      'https://docs.docker.com/go/credential-store/',
      '',
    ]);
  }
  await out.line(Status);
}
