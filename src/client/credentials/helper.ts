import { LayerdError } from '../../protocol/errors.ts';

/** A helper may ask its user; one that hangs must not hang us for ever. */
const HELPER_TIMEOUT_MS = 60_000;
/** Credentials are never larger: 1 MiB. */
const MAX_ANSWER_BYTES = 1024 * 1024;
/** What helpers print when they know nothing of the server (docker-credential-helpers, `credentials/error.go`). */
const NOT_FOUND = 'credentials not found in native keychain';

/** What a helper keeps for a server. */
export interface HelperCredentials {
  readonly username: string;
  readonly secret: string;
}

interface HelperOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Asks `docker-credential-NAME get` for a server's credentials: the server on its stdin, JSON on its stdout. Resolves
 * with undefined when it has none; rejects when it is missing or fails. Its output is never shown, since it may hold
 * secrets.
 */
export async function askHelper(
  name: string,
  server: string,
  options: HelperOptions,
): Promise<HelperCredentials | undefined> {
  const program = programOf(name);
  const stdout = await runFor(program, 'get', server, server, options);
  if (stdout === undefined) return undefined;
  let answer: { Username?: unknown; Secret?: unknown } | null;
  try {
    answer = JSON.parse(stdout) as typeof answer;
  } catch {
    // The parser's message quotes the text, which holds secrets.
    answer = null;
  }
  if (typeof answer?.Username !== 'string' || typeof answer.Secret !== 'string') {
    throw new LayerdError('unavailable', `the credential helper ${program} gave no credentials for ${server}`);
  }
  return answer.Username === '' && answer.Secret === ''
    ? undefined
    : { username: answer.Username, secret: answer.Secret };
}

/** Has `docker-credential-NAME store` keep a server's credentials, which it reads from its stdin as JSON. */
export async function storeInHelper(
  name: string,
  server: string,
  { username, secret }: HelperCredentials,
  options: HelperOptions,
): Promise<void> {
  const input = JSON.stringify({ ServerURL: server, Username: username, Secret: secret });
  await runFor(programOf(name), 'store', server, input, options);
}

/** Has `docker-credential-NAME erase` forget a server's credentials; many helpers do not say that they had none. */
export async function eraseFromHelper(
  name: string,
  server: string,
  options: HelperOptions,
): Promise<'erased' | 'not there'> {
  return (await runFor(programOf(name), 'erase', server, server, options)) === undefined ? 'not there' : 'erased';
}

function programOf(name: string): string {
  // The name comes from a file and becomes a program's: a slash in it would run any path.
  if (!/^[\w.-]+$/.test(name)) throw new LayerdError('invalid', `'${name}' is not a name of a credential helper`);
  return `docker-credential-${name}`;
}

/** What the helper prints; undefined where it knows nothing of the server. */
async function runFor(
  program: string,
  action: 'get' | 'store' | 'erase',
  server: string,
  input: string,
  options: HelperOptions,
): Promise<string | undefined> {
  const { code, stdout } = await run(program, action, input, options);
  if (code === 0) return stdout;
  if (stdout.trim() === NOT_FOUND) return undefined;
  throw new LayerdError('unavailable', `the credential helper ${program} failed for ${server} with status ${code}`);
}

async function run(
  program: string,
  action: string,
  input: string,
  { env, signal }: HelperOptions,
): Promise<{ code: number; stdout: string }> {
  const { spawn } = await import('node:child_process');
  signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<{ code: number; stdout: string }>();
  const child = spawn(program, [action], {
    env,
    stdio: ['pipe', 'pipe', 'ignore'],
    timeout: HELPER_TIMEOUT_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    if (stdout.length > MAX_ANSWER_BYTES) child.kill();
  });
  child.on('error', (cause: NodeJS.ErrnoException) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const reason = cause.code === 'ENOENT' ? 'is not installed' : 'cannot be run';
    reject(new LayerdError('unavailable', `the credential helper ${program} ${reason}`, { cause }));
  });
  child.on('close', (code) => resolve({ code: code ?? -1, stdout }));
  // A helper that ends without reading its input closes the pipe; its status tells the rest.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  return promise;
}
