import { createInterface } from 'node:readline';
import { LayerdError } from '../../protocol/errors.ts';
import type { Context } from './command.ts';

/**
 * Asks the user whether to go on with what removes images. `what` is a noun for it. Throws `invalid` where nobody can be
 * asked, `cancelled` where the answer is no.
 */
export async function confirm({ out, input, signal }: Context, what: string, warning: string): Promise<void> {
  const standard = input();
  if (standard.isTTY !== true) {
    throw new LayerdError(
      'invalid',
      `there is no terminal to ask whether to go on: ${what} without asking with --force`,
    );
  }
  await out.write(`WARNING! ${warning}\nAre you sure you want to continue? [y/N] `);
  const lines = createInterface({ input: standard, signal });
  try {
    for await (const line of lines) {
      if (/^y(?:es)?$/i.test(line.trim())) return;
      break;
    }
  } finally {
    lines.close();
  }
  signal.throwIfAborted();
  throw new LayerdError('cancelled', `the ${what} has been cancelled; nothing was removed`);
}
