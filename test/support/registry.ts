import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeCertificate, type KeyPair } from './certificates.ts';
import type { Namespace } from './namespace.ts';
import { Running, scratch } from './process.ts';
import { startTokenServer, type TokenServer, type TokenServerOptions } from './tokens.ts';

/** The account that a registry with `htpasswd` or `tokenAuth` knows. */
export const ACCOUNT = { username: 'layer', password: 'correct horse battery staple' } as const;
/** The account's password as bcrypt, the only form that docker-registry takes. */
const HTPASSWD = `${ACCOUNT.username}:$2b$05$abcdefghijklmnopqrstuuFiPhXf1sVd3pCCRO.uVh34H/qI/ZsuS\n`;

export interface RegistryOptions {
  /** Serve HTTPS: with a certificate for 127.0.0.1 and localhost that is its own authority, or with the one given. */
  readonly tls?: boolean | RegistryTls;
  /** Ask for {@link ACCOUNT} by Basic authentication. */
  readonly htpasswd?: boolean;
  /** Ask for bearer tokens, which the token server gives to {@link ACCOUNT} and, for pulls, to anybody. */
  readonly tokenAuth?: boolean | Pick<TokenServerOptions, 'expiresIn' | 'anonymousPull' | 'refreshTokens'>;
  /** Keep the storage of another registry instead of a new one. */
  readonly storage?: string;
  /** Where it listens. Default: a free port of 127.0.0.1. */
  readonly listen?: string;
  /** Run it inside. */
  readonly namespace?: Namespace;
}

export interface RegistryTls extends KeyPair {
  /** Demand certificates of clients that this authority has signed. */
  readonly clientCa?: string;
}

/** Debian's docker-registry. */
export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:port` or wherever else it listens, as in references. */
  readonly host: string;
  readonly url: string;
  readonly dir: string;
  /** The certificate's file, with `tls: true`. */
  readonly ca: string | undefined;
  /** The token server, with `tokenAuth`. */
  readonly tokens: TokenServer | undefined;
  /** The file that holds a blob, for tests that damage it. */
  blobPath(digest: string): string;
  /** Lines of the access log so far, in the combined format. */
  accessLog(): string[];
  stop(): Promise<void>;
}

export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  await using cleanup = new AsyncDisposableStack();
  const dir = cleanup.use(await scratch('registry')).path;
  const storage = options.storage ?? join(dir, 'storage');
  await mkdir(storage, { recursive: true });
  const http: Record<string, unknown> = {
    addr: options.listen ?? '127.0.0.1:0',
    secret: 'of no use outside of a test',
  };
  const config: Record<string, unknown> = {
    version: '0.1',
    log: { level: 'info', accesslog: { disabled: false } },
    storage: { filesystem: { rootdirectory: storage }, delete: { enabled: true } },
    // Without it a manifest whose foreign layers name their URLs is refused.
    validation: { manifests: { urls: { allow: ['^https?://'] } } },
    http,
  };
  let ca: string | undefined;
  if (options.tls !== undefined && options.tls !== false) {
    const { certificate, key, clientCa }: RegistryTls =
      options.tls === true ? await makeCertificate(dir, 'registry') : options.tls;
    if (options.tls === true) ca = certificate;
    http['tls'] = { certificate, key, ...(clientCa === undefined ? {} : { clientcas: [clientCa] }) };
  }
  if (options.htpasswd === true) {
    await writeFile(join(dir, 'htpasswd'), HTPASSWD);
    config['auth'] = { htpasswd: { realm: 'layerd-test', path: join(dir, 'htpasswd') } };
  }
  let tokens: TokenServer | undefined;
  if (options.tokenAuth !== undefined && options.tokenAuth !== false) {
    const { certificate, key } = await makeCertificate(dir, 'tokens');
    tokens = cleanup.use(
      await startTokenServer({
        key: await readFile(key, 'utf8'),
        certificate: await readFile(certificate, 'utf8'),
        account: ACCOUNT,
        ...(options.tokenAuth === true ? {} : options.tokenAuth),
      }),
    );
    config['auth'] = {
      token: { realm: tokens.realm, service: tokens.service, issuer: tokens.issuer, rootcertbundle: certificate },
    };
  }
  // JSON is YAML.
  const configFile = join(dir, 'config.yml');
  await writeFile(configFile, JSON.stringify(config));
  const commandLine: [string, string[]] = ['docker-registry', ['serve', configFile]];
  const running = cleanup.use(new Running(...(options.namespace?.enter(...commandLine) ?? commandLine)));
  const listening = /listening on ([\w.:[\]]+:\d+)/;
  await running.until('docker-registry', ({ stdout, stderr }) => listening.test(stdout + stderr));
  const host = listening.exec(running.stdout + running.stderr)?.[1] ?? '';
  const resources = cleanup.move();
  const stop = (): Promise<void> => resources.disposeAsync();
  return {
    host,
    url: `${http['tls'] === undefined ? 'http' : 'https'}://${host}`,
    dir,
    ca,
    tokens,
    blobPath(digest) {
      const hex = digest.slice('sha256:'.length);
      return join(storage, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
    },
    accessLog: () => (running.stdout + running.stderr).split('\n').filter((line) => line.includes('] "')),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
