import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { must, Running, scratch } from './process.ts';
import { startTokenServer, type TokenServer } from './tokens.ts';

/** The account that a registry with `htpasswd` or `tokenAuth` knows. */
export const ACCOUNT = { username: 'layer', password: 'correct horse battery staple' } as const;
/** The account's password as bcrypt, the only form that docker-registry takes. */
const HTPASSWD = `${ACCOUNT.username}:$2b$05$abcdefghijklmnopqrstuuFiPhXf1sVd3pCCRO.uVh34H/qI/ZsuS\n`;

export interface RegistryOptions {
  /** Serve HTTPS with a certificate for 127.0.0.1 and localhost that is its own authority. */
  readonly tls?: boolean;
  /** Ask for {@link ACCOUNT} by Basic authentication. */
  readonly htpasswd?: boolean;
  /** Ask for bearer tokens, which the token server gives to {@link ACCOUNT} and, for pulls, to anybody. */
  readonly tokenAuth?: boolean | { readonly expiresIn?: number; readonly anonymousPull?: boolean };
  /** Keep the storage of another registry instead of a new one. */
  readonly storage?: string;
}

/** Debian's docker-registry on a free loopback port. */
export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:port`, as in references. */
  readonly host: string;
  readonly url: string;
  readonly dir: string;
  /** The certificate's file, with `tls`. */
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
  const http: Record<string, unknown> = { addr: '127.0.0.1:0', secret: 'of no use outside of a test' };
  const config: Record<string, unknown> = {
    version: '0.1',
    log: { level: 'info', accesslog: { disabled: false } },
    storage: { filesystem: { rootdirectory: storage }, delete: { enabled: true } },
    // Without it a manifest whose foreign layers name their URLs is refused.
    validation: { manifests: { urls: { allow: ['^https?://'] } } },
    http,
  };
  let ca: string | undefined;
  if (options.tls === true) {
    ca = await makeCertificate(dir, 'registry');
    http['tls'] = { certificate: ca, key: join(dir, 'registry.key') };
  }
  if (options.htpasswd === true) {
    await writeFile(join(dir, 'htpasswd'), HTPASSWD);
    config['auth'] = { htpasswd: { realm: 'layerd-test', path: join(dir, 'htpasswd') } };
  }
  let tokens: TokenServer | undefined;
  if (options.tokenAuth !== undefined && options.tokenAuth !== false) {
    const certificate = await makeCertificate(dir, 'tokens');
    tokens = cleanup.use(
      await startTokenServer({
        key: await readFile(join(dir, 'tokens.key'), 'utf8'),
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
  const running = cleanup.use(new Running('docker-registry', ['serve', configFile]));
  const listening = /listening on (127\.0\.0\.1:\d+)/;
  await running.until('docker-registry', ({ stdout, stderr }) => listening.test(stdout + stderr));
  const host = listening.exec(running.stdout + running.stderr)?.[1] ?? '';
  const resources = cleanup.move();
  const stop = (): Promise<void> => resources.disposeAsync();
  return {
    host,
    url: `${options.tls === true ? 'https' : 'http'}://${host}`,
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

/** A self-signed certificate `NAME.crt` with its key `NAME.key` in the folder; returns the certificate's path. */
async function makeCertificate(dir: string, name: string): Promise<string> {
  const certificate = join(dir, `${name}.crt`);
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
  const files = ['-keyout', join(dir, `${name}.key`), '-out', certificate];
  await must('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...subject, ...files]);
  return certificate;
}
