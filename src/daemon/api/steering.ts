import { LayerdError } from '../../protocol/errors.ts';
import { isPriority, PRIORITIES } from '../transfers/demand.ts';
import type { Steering } from '../transfers/transfers.ts';
import type { Call } from './call.ts';
import { known, readFields } from './fields.ts';

/** A change of a transfer, or of a pull, in bytes: 4 KiB. */
const MAX_BODY_BYTES = 4 * 1024;

/** What is changed, from the body. Throws `invalid`, naming the field that is wrong; nothing is changed then. */
export async function steeringOf(call: Call, names: readonly (keyof Steering)[]): Promise<Steering> {
  const fields = await readFields(call, MAX_BODY_BYTES);
  if (fields === undefined || Object.keys(fields).length === 0) {
    throw new LayerdError(
      'invalid',
      `the body says nothing to change: expected a JSON object with ${names.join(' or ')}`,
    );
  }
  const { priority, paused } = known(fields, names);
  if (paused !== undefined && typeof paused !== 'boolean') {
    throw new LayerdError('invalid', 'field paused: expected true or false');
  }
  return { priority: priorityIn(priority), paused };
}

/** The priority in a body. Throws `invalid`. */
export function priorityIn(priority: unknown): number | undefined {
  if (priority === undefined || isPriority(priority)) return priority;
  const { min, max } = PRIORITIES;
  throw new LayerdError('invalid', `field priority: expected a whole number from ${min} to ${max}`);
}
