import { LayerdError } from '../../protocol/errors.ts';
import { familiarName, type Reference } from '../../protocol/reference.ts';
import { quote } from './parameters.ts';

/** Longer than any reference: a repository of 255 characters, a tag of 128, a digest. In characters. */
const MAX_NAME_LENGTH = 1024;

/** A name that means "no image" in a Dockerfile, so that it can be the name of none. */
const RESERVED = 'scratch';

/**
 * The image name in a path. It has slashes of its own, sent as they are or percent-encoded. What no image can be called
 * is refused here: an empty or dotted path element, which only someone who probes for files outside would send, and
 * control characters, which would forge lines of the log.
 */
export function imageName(parameter: string | string[] | undefined): string {
  const name = [parameter ?? []].flat().join('/');
  if (name.trim() === '') throw new LayerdError('invalid', 'image name cannot be blank');
  const malformed =
    name.length > MAX_NAME_LENGTH ||
    // eslint-disable-next-line no-control-regex -- they are what is looked for
    /[\u0000-\u0020\u007f]/.test(name) ||
    name.split('/').some((element) => element === '' || element === '.' || element === '..');
  if (malformed)
    throw new LayerdError(
      'invalid',
      `invalid image name ${quote(name)}: expected a reference such as redis:7 or an image ID`,
    );
  return name;
}

/** The reference of an image to pull. Throws `forbidden` for the name that no image has. */
export function refuseReserved(reference: Reference): Reference {
  if (familiarName(reference) === RESERVED) throw new LayerdError('forbidden', `'${RESERVED}' is a reserved name`);
  return reference;
}
