import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Context } from './command.ts';

/** Bytes of a file that are read at a time. */
const READ_BYTES = 256 * 1024;

/** The bytes of a file that the user names. */
export async function readFileInput(path: string): Promise<AsyncIterable<Uint8Array>> {
  try {
    return createReadStream('', { fd: await open(path), highWaterMark: READ_BYTES }) as AsyncIterable<Uint8Array>;
  } catch (cause) {
    throw new LayerdError('unavailable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

/** The bytes of standard input; `otherwise` is said to somebody who sits before it and has redirected nothing. */
export function readStandardInput({ input }: Pick<Context, 'input'>, otherwise: string): AsyncIterable<Uint8Array> {
  const standard = input();
  if (standard.isTTY === true) throw new LayerdError('invalid', otherwise);
  return standard as AsyncIterable<Uint8Array>;
}
