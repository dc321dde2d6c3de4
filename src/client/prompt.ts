import type { Readable } from 'node:stream';
import { LayerdError } from '../protocol/errors.ts';
import type { Context } from './commands/command.ts';
import { Interruption } from './interruption.ts';

type Terminal = Readable & { readonly isTTY?: boolean; setRawMode?(isRaw: boolean): unknown };

const INTERRUPT = '\u0003';
const END_OF_INPUT = '\u0004';
const KILL_LINE = '\u0015';
const ERASE: ReadonlySet<string> = new Set(['\u0008', '\u007f']);

/**
 * Asks the user on the terminal, the question on standard error. A secret is not shown while it is typed: the terminal is
 * told to leave all keys to us, the erasing and interrupting ones too. Rejects when the user interrupts or ends the input.
 */
export async function ask(
  { input, err, signal }: Pick<Context, 'input' | 'err' | 'signal'>,
  question: string,
  options: { readonly secret: boolean },
): Promise<string> {
  const terminal = input() as Terminal;
  signal.throwIfAborted();
  await err.write(question);
  if (options.secret) terminal.setRawMode?.(true);
  try {
    return await readLine(terminal, signal);
  } finally {
    if (options.secret) {
      terminal.setRawMode?.(false);
      await err.write('\n');
    }
    // A terminal that is read would keep the process alive.
    terminal.pause();
  }
}

function readLine(terminal: Terminal, signal: AbortSignal): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let line = '';
  const onData = (text: string): void => {
    const characters = Array.from(text);
    for (const [index, character] of characters.entries()) {
      if (character === '\r' || character === '\n') {
        const rest = characters.slice(index + 1).join('');
        stop();
        // Typed ahead: the answer to the next question.
        if (rest !== '') terminal.unshift(rest);
        resolve(line);
        return;
      }
      if (character === INTERRUPT) fail(new Interruption('SIGINT'));
      else if (character === END_OF_INPUT) onEnd();
      else if (character === KILL_LINE) line = '';
      else if (ERASE.has(character)) line = Array.from(line).slice(0, -1).join('');
      else line += character;
    }
  };
  const onEnd = (): void => fail(new LayerdError('invalid', 'the input ended before the answer'));
  const onAbort = (): void => fail(signal.reason as Error);
  const stop = (): void => {
    terminal.off('data', onData).off('end', onEnd).off('error', fail);
    signal.removeEventListener('abort', onAbort);
    terminal.pause();
  };
  const fail = (error: Error): void => {
    stop();
    reject(error);
  };
  signal.addEventListener('abort', onAbort, { once: true });
  terminal.setEncoding('utf8').on('data', onData).on('end', onEnd).on('error', fail).resume();
  return promise;
}
