import { parseJson } from '../../protocol/json.ts';
import { canonicalString, parseReference, type Reference } from '../../protocol/reference.ts';
import { Fields } from './fields.ts';
import type { Identity } from './identity.ts';
import { NotAccepted, type Signed } from './signature.ts';

/** What a signature says once it has proved to be one: which manifest, and what image that is. */
export interface Claim {
  readonly digest: string;
  /** Undefined where it names none. */
  readonly name: string | undefined;
}

/** The types of claims: of simple signing, and of cosign. */
export type ClaimType = 'atomic container signature' | 'cosign container image signature';

/**
 * Reads the JSON that a simple or a cosign signature signs (containers-signature(5), "JSON data format").
 * @throws NotAccepted where it is anything else.
 */
export function readClaim(bytes: Buffer, type: ClaimType): Claim {
  try {
    const root = new Fields(parseJson(bytes.toString('utf8')), 'the signed text');
    const critical = root.object('critical');
    const signedType = critical.text('type');
    if (signedType !== type) throw new Error(`its type is ${JSON.stringify(signedType)}, not ${JSON.stringify(type)}`);
    const image = critical.object('image');
    const identity = critical.object('identity');
    const claim = { digest: image.text('docker-manifest-digest'), name: identity.text('docker-reference') };
    // Whoever signed may have meant more by what is critical and not known here.
    for (const each of [image, identity, critical]) each.end();
    root.has('optional');
    root.end();
    return claim;
  } catch (error) {
    throw new NotAccepted(`what is signed is no claim about an image: ${(error as Error).message}`, { cause: error });
  }
}

/** @throws NotAccepted where the claim is about another manifest, or calls it what the identity does not accept. */
export function checkClaim({ digest, name }: Claim, signed: Signed, identity: Identity): void {
  if (digest !== signed.digest) throw new NotAccepted(`it is of ${digest}`);
  if (signed.reference === undefined) throw new NotAccepted('an image without a name has no identity to match');
  let reference: Reference | undefined;
  try {
    reference = name === undefined ? undefined : parseReference(name);
  } catch (error) {
    throw new NotAccepted(`it is for ${JSON.stringify(name)}, which is no reference`, { cause: error });
  }
  if (identity.accepts(reference, signed.reference)) return;
  const asked = canonicalString(signed.reference);
  throw new NotAccepted(
    name === undefined
      ? `it does not say for what image it is, so that ${identity.type} cannot hold for ${asked}`
      : `it is for ${name}, which ${identity.type} does not accept for ${asked}`,
  );
}
