import { canonicalName, canonicalString, parseReference, type Reference } from '../../protocol/reference.ts';
import type { Fields } from './fields.ts';
import { isInFull, pulledBy } from './scope.ts';

/** What a signature may call the image that it signs: `signedIdentity` of a policy. */
export interface Identity {
  readonly type: string;
  /** Whether a signature that calls the image so is one of the image asked for. */
  accepts(signed: Reference | undefined, asked: Reference): boolean;
}

/** Reads `signedIdentity`; without it the repository must match, and the tag where there is one. */
export function readIdentity(fields: Fields | undefined): Identity {
  if (fields === undefined) return { type: 'matchRepoDigestOrExact', accepts: named(isRepoDigestOrExact) };
  const type = fields.text('type');
  const identity = { type, accepts: matcher(type, fields) };
  fields.end();
  return identity;
}

function matcher(type: string, fields: Fields): Identity['accepts'] {
  switch (type) {
    case 'matchExact':
      return named(isExact);
    case 'matchRepoDigestOrExact':
      return named(isRepoDigestOrExact);
    case 'matchRepository':
      return named((signed, asked) => canonicalName(signed) === canonicalName(asked));
    case 'exactReference': {
      const expected = reference(fields, 'dockerReference');
      if (isNameOnly(expected)) throw new Error(`${fields.where}.dockerReference must have a tag or a digest`);
      return named((signed) => isExact(signed, expected));
    }
    case 'exactRepository': {
      const expected = reference(fields, 'dockerRepository');
      if (!isNameOnly(expected)) throw new Error(`${fields.where}.dockerRepository must have no tag or digest`);
      return named((signed) => canonicalName(signed) === canonicalName(expected));
    }
    case 'remapIdentity': {
      const [from, to] = [prefix(fields, 'prefix'), prefix(fields, 'signedPrefix')];
      return named((signed, asked) => {
        const expected = remapped(asked, from, to);
        return expected !== undefined && isRepoDigestOrExact(signed, expected);
      });
    }
    case 'matchDigest':
      return () => true;
    default:
      throw new Error(
        `${fields.where}.type is ${JSON.stringify(type)}; expected matchExact, matchRepoDigestOrExact, matchRepository, exactReference, exactRepository, remapIdentity or matchDigest`,
      );
  }
}

/** A signature that does not say of what image it is matches none. */
function named(match: (signed: Reference, asked: Reference) => boolean): Identity['accepts'] {
  return (signed, asked) => signed !== undefined && match(signed, pulledBy(asked));
}

function isExact(signed: Reference, asked: Reference): boolean {
  // A bare repository would stand for all of its tags.
  return !isNameOnly(signed) && !isNameOnly(asked) && canonicalString(signed) === canonicalString(asked);
}

function isRepoDigestOrExact(signed: Reference, asked: Reference): boolean {
  if (isNameOnly(signed)) return false;
  // The digest itself is compared for every signature.
  if (asked.digest !== undefined) return canonicalName(signed) === canonicalName(asked);
  return isExact(signed, asked);
}

function isNameOnly({ tag, digest }: Reference): boolean {
  return tag === undefined && digest === undefined;
}

function reference(fields: Fields, name: string): Reference {
  try {
    return parseReference(fields.text(name));
  } catch (error) {
    throw new Error(`${fields.where}.${name}: ${(error as Error).message}`, { cause: error });
  }
}

/** A registry, or a namespace or repository in one, in full. */
function prefix(fields: Fields, name: string): string {
  const text = fields.text(name);
  // What has another name in full matches nothing, which nobody means.
  if (isInFull(text)) return text;
  throw new Error(
    `${fields.where}.${name} is ${JSON.stringify(text)}; expected HOST[:PORT], or a namespace or repository there in full, such as docker.io/library`,
  );
}

function remapped(asked: Reference, from: string, to: string): Reference | undefined {
  const name = canonicalName(asked);
  if (name !== from && !name.startsWith(`${from}/`)) return asked;
  const { tag, digest } = asked;
  try {
    return { ...parseReference(to + name.slice(from.length)), tag, digest };
  } catch {
    // The prefix alone is a whole repository, and the other one a registry without a path.
    return undefined;
  }
}
