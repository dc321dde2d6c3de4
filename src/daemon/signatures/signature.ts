import type { Digest } from '../../protocol/digest.ts';
import type { Reference } from '../../protocol/reference.ts';

/** An OpenPGP message that holds what it signs (containers-signature(5)). */
export type SimpleSignature = { readonly message: Buffer } | UnusableSignature;

/** A sigstore signature. */
export type SigstoreSignature =
  /** As cosign keeps it under a tag: what is signed, and the rest in annotations. */
  | { readonly payload: Buffer; readonly annotations: Readonly<Record<string, string>> }
  /** As it refers to the image: a bundle as JSON. */
  | { readonly bundle: Buffer }
  | UnusableSignature;

/** What is kept as a signature and cannot be read as one: it proves nothing, and must not keep others from being looked at. */
export interface UnusableSignature {
  readonly unusable: string;
}

/** The signatures of manifests and indexes, whoever keeps them; nobody has checked them yet. */
export interface Signatures {
  simple(digest: Digest): AsyncIterable<SimpleSignature>;
  sigstore(digest: Digest): AsyncIterable<SigstoreSignature>;
}

/** A manifest or index that signatures are looked at for. */
export interface Signed {
  readonly digest: Digest;
  /** What it was asked for as; undefined where it has no name. */
  readonly reference: Reference | undefined;
}

/** Signatures that are told of in the reason for a refusal. */
const TOLD = 3;

/**
 * Looks for a signature that is accepted; one is enough. `check` throws why one is not.
 * @returns Why none is; undefined where one is.
 */
export async function findAccepted<T extends object>(
  signatures: AsyncIterable<T | UnusableSignature>,
  check: (signature: T) => Promise<void> | void,
): Promise<string | undefined> {
  const reasons: string[] = [];
  for await (const signature of signatures) {
    if ('unusable' in signature) {
      reasons.push(signature.unusable);
      continue;
    }
    try {
      await check(signature);
      return undefined;
    } catch (error) {
      if (!(error instanceof NotAccepted)) throw error;
      reasons.push(error.message);
    }
  }
  const [only] = reasons;
  if (only === undefined) return 'it has no signature of this kind';
  const told = [...new Set(reasons)];
  const more = told.length > TOLD ? '; …' : '';
  return reasons.length === 1
    ? `its signature is not accepted: ${only}`
    : `none of its ${reasons.length} signatures is accepted: ${told.slice(0, TOLD).join('; ')}${more}`;
}

/** Why a signature is not accepted. */
export class NotAccepted extends Error {}
