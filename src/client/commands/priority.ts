import { LayerdError } from '../../protocol/errors.ts';

const LIMIT = 100;

/** A priority on the command line. Throws `invalid`, naming what it was given as. */
export function parsePriority(name: string, text: string): number {
  const value = /^[+-]?\d{1,3}$/.test(text) ? Number(text) : NaN;
  if (Math.abs(value) <= LIMIT) return value;
  throw new LayerdError('invalid', `${name} '${text}': expected a whole number from -${LIMIT} to ${LIMIT}`);
}

/** The priority of an option of that name. Throws `invalid`. */
export const priorityOf = ({ priority }: { readonly priority?: string }): number | undefined =>
  priority === undefined ? undefined : parsePriority('--priority', priority);
