import type { Fields } from './fields.ts';
import { readIdentity } from './identity.ts';
import { readMaterial } from './key.ts';
import { SignedBy } from './simple.ts';
import type { Signatures, Signed } from './signature.ts';

/** What a policy requires of an image. */
export interface Requirement {
  readonly type: string;
  /** What it says of every image alike; undefined where that depends on signatures. */
  readonly verdict?: 'accept' | 'reject';
  /** Why the image does not meet it; undefined where it does. Rejects where signatures cannot be fetched. */
  refusal(signed: Signed, signatures: Signatures): Promise<string | undefined>;
}

const TYPES = 'insecureAcceptAnything, reject, signedBy or sigstoreSigned';

/** Reads a requirement, and all that it names. Throws an error that says what is wrong with it. */
export async function loadRequirement(fields: Fields): Promise<Requirement> {
  const type = fields.text('type');
  const requirement = await load(type, fields);
  fields.end();
  return requirement;
}

async function load(type: string, fields: Fields): Promise<Requirement> {
  switch (type) {
    case 'insecureAcceptAnything':
      return { type, verdict: 'accept', refusal: () => Promise.resolve(undefined) };
    case 'reject':
      return { type, verdict: 'reject', refusal: () => Promise.resolve('it allows no image') };
    case 'signedBy':
      return loadSignedBy(fields);
    case 'sigstoreSigned': {
      // Half a megabyte of modules, for those alone whose policy needs them.
      const { loadSigstoreSigned } = await import('./sigstore.ts');
      return loadSigstoreSigned(fields);
    }
    default:
      throw new Error(`${fields.where}.type is ${JSON.stringify(type)}; expected ${TYPES}`);
  }
}

async function loadSignedBy(fields: Fields): Promise<Requirement> {
  const keyType = fields.text('keyType');
  if (keyType !== 'GPGKeys') throw new Error(`${fields.where}.keyType is ${JSON.stringify(keyType)}; expected GPGKeys`);
  const keys = await readMaterial(fields, ['keyPath', 'keyPaths', 'keyData']);
  if (keys === undefined) throw new Error(`${fields.where} has no "keyPath", "keyPaths" or "keyData"`);
  return SignedBy.load(keys, readIdentity(fields.optionalObject('signedIdentity')));
}
