import { checkClaim, readClaim } from './claim.ts';
import { requireGpgv, toKeyring, verifyMessage } from './gpgv.ts';
import type { Identity } from './identity.ts';
import type { Material } from './key.ts';
import type { Requirement } from './requirement.ts';
import { findAccepted, type Signatures, type Signed } from './signature.ts';

/** `signedBy`: a simple signature by one of these OpenPGP keys. */
export class SignedBy implements Requirement {
  readonly type = 'signedBy';
  readonly #keyring: Buffer;
  readonly #identity: Identity;

  private constructor(keyring: Buffer, identity: Identity) {
    this.#keyring = keyring;
    this.#identity = identity;
  }

  static async load(keys: readonly Material[], identity: Identity): Promise<SignedBy> {
    await requireGpgv();
    return new SignedBy(Buffer.concat(keys.map(toKeyring)), identity);
  }

  refusal(signed: Signed, signatures: Signatures): Promise<string | undefined> {
    return findAccepted(signatures.simple(signed.digest), async ({ message }) => {
      const text = await verifyMessage(this.#keyring, message);
      checkClaim(readClaim(text, 'atomic container signature'), signed, this.#identity);
    });
  }
}
