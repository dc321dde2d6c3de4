import { hexOf, type Digest } from '../../protocol/digest.ts';
import { parseJson } from '../../protocol/json.ts';
import type { Claim } from './claim.ts';
import { Fields, listed } from './fields.ts';
import { NotAccepted } from './signature.ts';

/** What an envelope that holds an in-toto statement says of its payload. */
const IN_TOTO = 'application/vnd.in-toto+json';
const STATEMENTS = ['https://in-toto.io/Statement/v1', 'https://in-toto.io/Statement/v0.1'];
/** The predicate of a signature: other statements say something of an image, such as how it was built, and do not vouch for it. */
const SIGN = 'https://sigstore.dev/cosign/sign/v1';

/**
 * Reads what a bundle's envelope says about a manifest (cosign, BUNDLE_SPEC.md).
 * @throws NotAccepted where it says nothing of it.
 */
export function readStatement(
  { payloadType, payload }: { readonly payloadType: string; readonly payload: Buffer },
  digest: Digest,
): Claim {
  if (payloadType !== IN_TOTO) throw new NotAccepted(`its bundle holds ${JSON.stringify(payloadType)}, no statement`);
  const subjects: Claim[] = [];
  try {
    const statement = new Fields(parseJson(payload.toString('utf8')), 'the statement');
    if (!STATEMENTS.includes(statement.text('_type'))) throw new Error('its _type is not known');
    const predicate = statement.text('predicateType');
    if (predicate !== SIGN) throw new Error(`it is a statement of ${JSON.stringify(predicate)}, which is no signature`);
    for (const [index, value] of listed(statement.take('subject'), 'subject').entries()) {
      const subject = new Fields(value, `subject[${index}]`);
      const name = subject.has('name') && subject.take('name') !== '' ? subject.text('name') : undefined;
      subjects.push({ digest: `sha256:${subject.object('digest').text('sha256')}`, name });
    }
  } catch (error) {
    throw new NotAccepted(`its statement cannot be used: ${(error as Error).message}`, { cause: error });
  }
  const [first] = subjects;
  const claim = subjects.find((each) => each.digest === `sha256:${hexOf(digest)}`) ?? first;
  if (claim === undefined) throw new NotAccepted('its statement is about nothing');
  return claim;
}
