import { createHash, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MediaType } from '../../src/protocol/media-types.ts';
import type { Manifest } from '../../src/protocol/oci.ts';
import { blobOf, type Blob, type TestImage } from './images.ts';
import { must } from './process.ts';

/** What cosign signs as a layer, and a sigstore bundle. */
export const PAYLOAD_TYPE = 'application/vnd.dev.cosign.simplesigning.v1+json';
export const BUNDLE_TYPE = 'application/vnd.dev.sigstore.bundle.v0.3+json';

/** A key pair to sign with. */
export interface Signer {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  /** The public key in PEM. */
  readonly pem: string;
}

/** As cosign makes them by default: ECDSA on P-256. */
export function signer(): Signer {
  return withPem(generateKeyPairSync('ec', { namedCurve: 'P-256' }));
}

export function ed25519Signer(): Signer {
  return withPem(generateKeyPairSync('ed25519'));
}

function withPem(pair: { privateKey: KeyObject; publicKey: KeyObject }): Signer {
  return { ...pair, pem: pair.publicKey.export({ type: 'spki', format: 'pem' }) };
}

export function signBytes({ privateKey }: Pick<Signer, 'privateKey'>, bytes: Buffer): Buffer {
  return sign(privateKey.asymmetricKeyType === 'ed25519' ? null : 'sha256', bytes, privateKey);
}

/** The JSON that cosign signs. */
export function claim(digest: string, name: string, type = 'cosign container image signature'): Buffer {
  const critical = { identity: { 'docker-reference': name }, image: { 'docker-manifest-digest': digest }, type };
  return Buffer.from(JSON.stringify({ critical, optional: null }));
}

export interface CosignOptions {
  readonly payload: Buffer;
  readonly by: Pick<Signer, 'privateKey'>;
  /** PEM. */
  readonly certificate?: string;
  readonly chain?: string;
  readonly log?: { readonly rekor: Signer; readonly keyOrCertificate: string; readonly time?: Date };
}

/** One signature under cosign's tag. */
export interface CosignSignature {
  readonly payload: Buffer;
  readonly annotations: Record<string, string>;
}

export function cosign({ payload, by, certificate, chain, log }: CosignOptions): CosignSignature {
  const signature = signBytes(by, payload);
  const annotations: Record<string, string> = { 'dev.cosignproject.cosign/signature': signature.toString('base64') };
  if (certificate !== undefined) annotations['dev.sigstore.cosign/certificate'] = certificate;
  if (chain !== undefined) annotations['dev.sigstore.cosign/chain'] = chain;
  if (log !== undefined) annotations['dev.sigstore.cosign/bundle'] = logged(payload, signature, log);
  return { payload, annotations };
}

/** What Rekor answers when it takes a signature in, as cosign keeps it. */
function logged(
  payload: Buffer,
  signature: Buffer,
  { rekor, keyOrCertificate, time }: NonNullable<CosignOptions['log']>,
) {
  const hash = createHash('sha256').update(payload).digest('hex');
  const body = {
    apiVersion: '0.0.1',
    kind: 'hashedrekord',
    spec: {
      data: { hash: { algorithm: 'sha256', value: hash } },
      signature: {
        content: signature.toString('base64'),
        publicKey: { content: Buffer.from(keyOrCertificate).toString('base64') },
      },
    },
  };
  return JSON.stringify(promise(rekor, body, time));
}

/** A signed entry timestamp over an entry, whose fields are in the order that its canonical form has. */
export function promise(rekor: Signer, entry: object, time = new Date()) {
  const der = rekor.publicKey.export({ type: 'spki', format: 'der' });
  const Payload = {
    body: Buffer.from(JSON.stringify(entry)).toString('base64'),
    integratedTime: Math.floor(time.getTime() / 1000),
    logID: createHash('sha256').update(der).digest('hex'),
    logIndex: 7,
  };
  const set = signBytes(rekor, Buffer.from(JSON.stringify(Payload)));
  return { SignedEntryTimestamp: set.toString('base64'), Payload };
}

/** The manifest that has signatures as its layers. */
export function cosignManifest(signatures: readonly CosignSignature[], layerType = PAYLOAD_TYPE): TestImage {
  const blobs = signatures.map(({ payload }) => blobOf(payload));
  return manifestOf(
    blobs.map((blob, index) => ({
      ...descriptor(blob, layerType),
      annotations: signatures[index]?.annotations ?? {},
    })),
    blobs,
  );
}

/** A bundle that refers to a manifest, as cosign 3 keeps a signature. */
export function bundleManifest(bundle: object, subject: TestImage): TestImage {
  const blob = blobOf(JSON.stringify(bundle));
  return manifestOf([descriptor(blob, BUNDLE_TYPE)], [blob], {
    artifactType: BUNDLE_TYPE,
    subject: descriptor(subject, subject.mediaType),
  });
}

/** A statement in a signed envelope, with the material to verify it. */
export function bundleOf(by: Signer, statement: object, material: object): object {
  const payloadType = 'application/vnd.in-toto+json';
  const payload = Buffer.from(JSON.stringify(statement));
  // DSSE, "Pre-Authentication Encoding".
  const head = `DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `;
  const sig = signBytes(by, Buffer.concat([Buffer.from(head), payload])).toString('base64');
  return {
    mediaType: BUNDLE_TYPE,
    verificationMaterial: material,
    dsseEnvelope: { payloadType, payload: payload.toString('base64'), signatures: [{ sig, keyid: '' }] },
  };
}

export function statement(
  digest: string,
  { name, predicateType = 'https://sigstore.dev/cosign/sign/v1' }: { name?: string; predicateType?: string } = {},
): object {
  const subject = { ...(name === undefined ? {} : { name }), digest: { sha256: digest.slice('sha256:'.length) } };
  return { _type: 'https://in-toto.io/Statement/v1', subject: [subject], predicateType, predicate: {} };
}

function manifestOf(layers: Manifest['layers'], blobs: readonly Blob[], more: Partial<Manifest> = {}): TestImage {
  const config = blobOf('{}');
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: MediaType.ociManifest,
    config: descriptor(config, MediaType.ociConfig),
    layers,
    ...more,
  };
  return {
    ...blobOf(JSON.stringify(manifest)),
    mediaType: MediaType.ociManifest,
    children: [],
    layers: [],
    platform: undefined,
    annotations: undefined,
    id: config.digest,
    blobs: [config, ...blobs],
  };
}

function descriptor(blob: Blob, mediaType: string) {
  return { mediaType, digest: blob.digest, size: blob.bytes.length };
}

/** An authority like Fulcio: a root, an intermediate authority, and what that gives out. */
export interface Authority {
  /** PEM. */
  readonly root: string;
  readonly intermediate: string;
  /** A certificate for signing code, by an OpenID provider's word that the key is of this address. */
  issue(email: string, options?: IssueOptions): Promise<Issued>;
}

export interface IssueOptions {
  readonly issuer?: string;
  /** One more, as openssl writes it. */
  readonly extension?: string;
  /** The one who signs it, in place of the authority. */
  readonly by?: Issued;
}

export interface Issued extends Signer {
  readonly name: string;
  /** PEM. */
  readonly certificate: string;
}

/** Where the test's people log in. */
export const OIDC_ISSUER = 'https://login.example.com';

/** What a certificate is made of. */
export interface Certified {
  readonly key: Signer;
  /** As openssl writes them. */
  readonly extensions: readonly string[];
  /** The name of the certificate that signs it; without one it signs itself. */
  readonly by?: string;
}

/** The extensions of an authority's certificate. */
export const AUTHORITY = [
  'basicConstraints=critical,CA:true',
  'keyUsage=critical,keyCertSign',
  'subjectKeyIdentifier=hash',
];

/** Makes a certificate of the name, which is good from now on for a day, in the folder; returns it in PEM. */
export async function certify(dir: string, name: string, { key, extensions, by }: Certified): Promise<string> {
  const file = (suffix: string, of = name): string => join(dir, `${of}${suffix}`);
  await writeFile(file('.key'), key.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const sections = ['[req]', 'distinguished_name=dn', 'x509_extensions=v3', '[dn]', '[v3]', ...extensions, ''];
  await writeFile(file('.cnf'), sections.join('\n'));
  const signedBy = by === undefined ? [] : ['-CA', file('.crt', by), '-CAkey', file('.key', by)];
  const subject = ['-subj', `/CN=${name}`, '-days', '1', '-config', file('.cnf')];
  await must('openssl', ['req', '-x509', '-new', '-key', file('.key'), ...subject, ...signedBy, '-out', file('.crt')]);
  return readFile(file('.crt'), 'utf8');
}

/** Makes an authority whose files in the folder begin with the name. */
export async function makeAuthority(dir: string, name: string): Promise<Authority> {
  const [top, middle] = [`${name}-root`, `${name}-intermediate`];
  const root = await certify(dir, top, { key: signer(), extensions: AUTHORITY });
  const intermediate = await certify(dir, middle, { key: signer(), extensions: AUTHORITY, by: top });
  let count = 0;
  return {
    root,
    intermediate,
    async issue(email, { issuer = OIDC_ISSUER, extension, by } = {}) {
      const key = signer();
      const extensions = [
        'basicConstraints=CA:false',
        'keyUsage=critical,digitalSignature',
        'extendedKeyUsage=codeSigning',
        `subjectAltName=critical,email:${email}`,
        `1.3.6.1.4.1.57264.1.1=DER:${Buffer.from(issuer).toString('hex')}`,
        ...(extension === undefined ? [] : [extension]),
      ];
      const leaf = `${name}-leaf${++count}`;
      return { ...key, certificate: await certify(dir, leaf, { key, extensions, by: by?.name ?? middle }), name: leaf };
    },
  };
}

/** A home of GnuPG with keys to sign with. */
export class Gpg {
  readonly home: string;
  readonly env: Readonly<Record<string, string>>;

  private constructor(home: string) {
    this.home = home;
    this.env = { GNUPGHOME: home };
  }

  /** The folder must be empty, and of nobody else. */
  static async create(home: string, ...users: readonly string[]): Promise<Gpg> {
    const gpg = new Gpg(home);
    for (const user of users) {
      await gpg.#run(['--passphrase', '', '--quick-gen-key', user, 'ed25519', 'sign', '1d']);
    }
    return gpg;
  }

  /** The public keys, as text or as packets. */
  async export(user: string, armor = false): Promise<Buffer> {
    const file = join(this.home, `${user}.${armor ? 'asc' : 'gpg'}`);
    await this.#run(['--yes', ...(armor ? ['--armor'] : []), '--output', file, '--export', user]);
    return readFile(file);
  }

  /** A message that holds the text and signatures by the users. */
  async sign(text: Buffer, ...users: readonly string[]): Promise<Buffer> {
    const [input, output] = [join(this.home, 'text'), join(this.home, 'message')];
    await writeFile(input, text);
    await this.#run(['--yes', ...users.flatMap((user) => ['-u', user]), '--output', output, '--sign', input]);
    return readFile(output);
  }

  /** Ends the agent that gpg has started. */
  async stop(): Promise<void> {
    await must('gpgconf', ['--homedir', this.home, '--kill', 'all']);
  }

  async #run(args: readonly string[]): Promise<void> {
    await must('gpg', ['--homedir', this.home, '--batch', '--quiet', ...args]);
  }
}
