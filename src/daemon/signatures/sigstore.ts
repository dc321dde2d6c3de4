import { createHash, verify, type KeyObject } from 'node:crypto';
import { bundleFromJSON, type Bundle, type TransparencyLogEntry } from '@sigstore/bundle';
import { X509Certificate } from '@sigstore/core';
import { toSignedEntity, Verifier, type SignedEntity, type TrustMaterial } from '@sigstore/verify';
import { messageOf } from '../../protocol/errors.ts';
import { parseJson } from '../../protocol/json.ts';
import { MAX_INTERMEDIATES, parseCertificates } from './certificate.ts';
import { checkClaim, readClaim, type Claim } from './claim.ts';
import { Fields } from './fields.ts';
import { loadFulcio, type Fulcio } from './fulcio.ts';
import { readIdentity, type Identity } from './identity.ts';
import { publicKey, readMaterial } from './key.ts';
import type { Requirement } from './requirement.ts';
import { readStatement } from './statement.ts';
import { findAccepted, NotAccepted, type Signatures, type Signed, type SigstoreSignature } from './signature.ts';

/** Annotations of cosign's signatures (cosign, SIGNATURE_SPEC.md). */
const SIGNATURE = 'dev.cosignproject.cosign/signature';
const CERTIFICATE = 'dev.sigstore.cosign/certificate';
const CHAIN = 'dev.sigstore.cosign/chain';
const LOG_ENTRY = 'dev.sigstore.cosign/bundle';

/** Fields of a requirement that give keys. */
const KEYS = ['keyPath', 'keyPaths', 'keyData', 'keyDatas'];
const REKOR_KEYS = ['rekorPublicKeyPath', 'rekorPublicKeyPaths', 'rekorPublicKeyData', 'rekorPublicKeyDatas'];

type Log = TrustMaterial['tlogs'][number];
type Signature = Exclude<SigstoreSignature, { unusable: string }>;
type Entity = SignedEntity['signature'];

/** Who may sign: the owner of a key, or whom Fulcio has given a certificate. */
type Signers = { readonly keys: readonly KeyObject[] } | { readonly fulcio: Fulcio };

/** Reads `sigstoreSigned`, with the keys and certificates that it names. */
export async function loadSigstoreSigned(fields: Fields): Promise<Requirement> {
  const { where } = fields;
  if (fields.has('pki')) throw new Error(`${where}.pki is not supported by layerd: give keys or "fulcio"`);
  fields.oneOf([...KEYS, 'fulcio']);
  const keys = await readMaterial(fields, KEYS);
  const rekorKeys = await readMaterial(fields, REKOR_KEYS);
  const logs = rekorKeys?.map((material) => toLog(publicKey(material), material.from));
  const identity = readIdentity(fields.optionalObject('signedIdentity'));
  if (keys !== undefined) return new SigstoreSigned({ keys: keys.map(publicKey) }, logs, identity);
  const section = fields.optionalObject('fulcio');
  if (section === undefined)
    throw new Error(`${where} has no "keyPath", "keyPaths", "keyData", "keyDatas" or "fulcio"`);
  // Certificates are good for minutes; only the log says when they were used.
  if (logs === undefined) throw new Error(`${where} has "fulcio", which needs one of ${REKOR_KEYS.join(', ')}`);
  return new SigstoreSigned({ fulcio: await loadFulcio(section) }, logs, identity);
}

/** `sigstoreSigned`: a cosign signature or a bundle. Nothing is asked of any server: all proofs come with the signature. */
class SigstoreSigned implements Requirement {
  readonly type = 'sigstoreSigned';
  readonly #signers: Signers;
  /** The logs of which one must have the signature; undefined where none need have it. */
  readonly #logs: readonly Log[] | undefined;
  readonly #identity: Identity;

  constructor(signers: Signers, logs: readonly Log[] | undefined, identity: Identity) {
    this.#signers = signers;
    this.#logs = logs;
    this.#identity = identity;
  }

  refusal(signed: Signed, signatures: Signatures): Promise<string | undefined> {
    return findAccepted(signatures.sigstore(signed.digest), (signature: Signature) => {
      try {
        const claim =
          'bundle' in signature ? this.#checkBundle(signature.bundle, signed) : this.#checkPayload(signature);
        checkClaim(claim, signed, this.#identity);
      } catch (error) {
        // Whatever cannot be parsed was pushed by somebody, and must not keep the next one from being looked at.
        throw error instanceof NotAccepted ? error : new NotAccepted(messageOf(error), { cause: error });
      }
    });
  }

  #checkPayload({ payload, annotations }: Extract<Signature, { payload: Buffer }>): Claim {
    const signature = base64(annotation(annotations, SIGNATURE), SIGNATURE);
    const content = new PayloadContent(payload, signature);
    const entries = this.#logs === undefined ? [] : [logEntry(annotation(annotations, LOG_ENTRY))];
    if ('keys' in this.#signers) {
      this.#checkKeys(content, entries, this.#signers.keys);
    } else {
      const [certificate, ...more] = parseCertificates(annotation(annotations, CERTIFICATE));
      if (certificate === undefined || more.length > 0) throw new NotAccepted('it has not one certificate');
      const chain = annotations[CHAIN] === undefined ? [] : parseCertificates(annotations[CHAIN]);
      for (const entry of entries) checkLogged(entry, certificate);
      this.#checkFulcio(content, entries, { certificate, chain }, this.#signers.fulcio);
    }
    return readClaim(payload, 'cosign container image signature');
  }

  #checkBundle(bytes: Buffer, signed: Signed): Claim {
    const bundle = bundleFromJSON(parseJson(bytes.toString('utf8')));
    const { content } = bundle;
    // Only an envelope says what the signature means; a bare one of the manifest's bytes may be one of anything.
    if (content.$case !== 'dsseEnvelope') throw new NotAccepted('its bundle has no DSSE envelope');
    const { signature, tlogEntries } = toSignedEntity(bundle);
    // The promise alone: a proof names its log by an address, which a policy does not have.
    const entries = this.#logs === undefined ? [] : tlogEntries.map((each) => ({ ...each, inclusionProof: undefined }));
    if ('keys' in this.#signers) {
      this.#checkKeys(signature, entries, this.#signers.keys);
    } else {
      const [certificate, ...chain] = bundledCertificates(bundle);
      if (certificate === undefined) throw new NotAccepted('it is by a key, and the rule wants a certificate');
      this.#checkFulcio(signature, entries, { certificate, chain }, this.#signers.fulcio);
    }
    return readStatement(content.dsseEnvelope, signed.digest);
  }

  #checkKeys(signature: Entity, entries: readonly TransparencyLogEntry[], keys: readonly KeyObject[]): void {
    const key = keys.find((each) => signature.verifySignature(each));
    if (key === undefined) throw new NotAccepted('it is not by a key of the rule');
    this.#verify(signature, entries, { publicKey: key, validFor: () => true });
  }

  #checkFulcio(
    signature: Entity,
    entries: readonly TransparencyLogEntry[],
    { certificate, chain }: { certificate: X509Certificate; chain: readonly X509Certificate[] },
    fulcio: Fulcio,
  ): void {
    if (chain.length > MAX_INTERMEDIATES) throw new NotAccepted(`it comes with ${chain.length} certificates of others`);
    const key = fulcio.keyOf(certificate);
    this.#verify(signature, entries, {
      publicKey: key,
      // Asked for each time at which a log says that it saw the signature.
      validFor: (date) => fulcio.vouchesFor(certificate, chain, date),
    });
  }

  /** The signature itself, and its entry in a log. */
  #verify(
    signature: Entity,
    entries: readonly TransparencyLogEntry[],
    key: ReturnType<TrustMaterial['publicKey']>,
  ): void {
    const needsTime = 'fulcio' in this.#signers;
    const trusted: TrustMaterial = {
      certificateAuthorities: [],
      timestampAuthorities: [],
      ctlogs: [],
      tlogs: [...(this.#logs ?? [])],
      publicKey: () => key,
    };
    const thresholds = { tlogThreshold: this.#logs === undefined ? 0 : 1, timestampThreshold: needsTime ? 1 : 0 };
    new Verifier(trusted, thresholds).verify({
      signature,
      key: { $case: 'public-key', hint: '' },
      tlogEntries: [...entries],
      timestamps: needsTime ? entries.map((tlogEntry) => ({ $case: 'transparency-log' as const, tlogEntry })) : [],
    });
  }
}

/** A signature of cosign's JSON, as it is. */
class PayloadContent implements Entity {
  readonly signature: Buffer;
  readonly #payload: Buffer;

  constructor(payload: Buffer, signature: Buffer) {
    this.#payload = payload;
    this.signature = signature;
  }

  compareSignature(signature: Buffer): boolean {
    return signature.equals(this.signature);
  }

  compareDigest(digest: Buffer): boolean {
    return digest.equals(createHash('sha256').update(this.#payload).digest());
  }

  verifySignature(key: KeyObject): boolean {
    // Ed25519 hashes by itself.
    const hash = key.asymmetricKeyType === 'ed25519' ? null : 'sha256';
    return verify(hash, this.#payload, key, this.signature);
  }
}

/** A log, known by its key: its identifier is the digest of it (RFC 6962, section 3.2). */
function toLog(key: KeyObject, from: string): Log {
  if (key.asymmetricKeyType !== 'ec') throw new Error(`${from} is no ECDSA key, as Rekor has`);
  const der = key.export({ type: 'spki', format: 'der' });
  const logID = createHash('sha256').update(der).digest();
  // A policy does not say for how long a log's key is good.
  const always = { start: new Date(0), end: new Date(8_640_000_000_000_000) };
  return { logID, baseURL: '', publicKey: key, validFor: always };
}

function annotation(annotations: Readonly<Record<string, string>>, name: string): string {
  const value = annotations[name];
  if (value === undefined) throw new NotAccepted(`it has no annotation ${name}`);
  return value;
}

/** What a log promised when it took the signature in: Rekor's answer, as cosign keeps it. */
function logEntry(text: string): TransparencyLogEntry {
  const root = new Fields(parseJson(text), LOG_ENTRY);
  const payload = root.object('Payload');
  const canonicalizedBody = base64(payload.text('body'), `${LOG_ENTRY}.Payload.body`);
  const body = new Fields(parseJson(canonicalizedBody.toString('utf8')), 'the entry in the log');
  return {
    logIndex: whole(payload, 'logIndex'),
    logId: { keyId: Buffer.from(payload.text('logID'), 'hex') },
    kindVersion: { kind: body.text('kind'), version: body.text('apiVersion') },
    integratedTime: whole(payload, 'integratedTime'),
    inclusionPromise: { signedEntryTimestamp: base64(root.text('SignedEntryTimestamp'), LOG_ENTRY) },
    inclusionProof: undefined,
    canonicalizedBody,
  };
}

/** Whether the log took in this certificate: it must not be swapped for another one of the same key. */
function checkLogged({ canonicalizedBody }: TransparencyLogEntry, certificate: X509Certificate): void {
  const body = new Fields(parseJson(canonicalizedBody.toString('utf8')), 'the entry in the log');
  const pem = body.object('spec').object('signature').object('publicKey').text('content');
  if (!parseCertificates(base64(pem, 'publicKey').toString()).some((each) => each.equals(certificate))) {
    throw new NotAccepted('its entry in the log is for another certificate');
  }
}

function whole(fields: Fields, name: string): string {
  const value = fields.take(name);
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new Error(`${fields.where}.${name} must be a whole number`);
  }
  return `${value}`;
}

function base64(text: string, what: string): Buffer {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length === 0) throw new NotAccepted(`${what} is not base64`);
  return bytes;
}

/** The certificates of a bundle, that of the signer first. */
function bundledCertificates({ verificationMaterial: { content } }: Bundle): X509Certificate[] {
  switch (content.$case) {
    case 'certificate':
      return [X509Certificate.parse(Buffer.from(content.certificate.rawBytes))];
    case 'x509CertificateChain':
      return content.x509CertificateChain.certificates.map(({ rawBytes }) =>
        X509Certificate.parse(Buffer.from(rawBytes)),
      );
    case 'publicKey':
      return [];
  }
}
