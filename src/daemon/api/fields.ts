import { LayerdError } from '../../protocol/errors.ts';
import { parseFields, readBody } from './body.ts';
import type { Call } from './call.ts';
import { discardBody } from './guard.ts';
import { quote } from './parameters.ts';

/**
 * The JSON object in a short body; undefined where it holds none. Throws `invalid` where it has more bytes than the limit.
 */
export async function readFields(
  { request, response }: Pick<Call, 'request' | 'response'>,
  limit: number,
): Promise<Record<string, unknown> | undefined> {
  const text = (await readBody(request, limit))?.toString();
  if (text !== undefined) return parseFields(text);
  discardBody(request, response);
  throw new LayerdError('invalid', `the body is larger than the limit of ${limit} bytes`);
}

/** The fields, none of which is unknown. Throws `invalid`, naming one that is; `prefix`: of the object's own name. */
export function known<Name extends string>(
  fields: Record<string, unknown>,
  names: readonly Name[],
  prefix = '',
): Partial<Record<Name, unknown>> {
  const unknown = Object.keys(fields).find((name) => !names.some((each) => each === name));
  if (unknown === undefined) return fields as Partial<Record<Name, unknown>>;
  throw new LayerdError('invalid', `field ${quote(prefix + unknown)}: unknown; expected ${names.join(' or ')}`);
}
