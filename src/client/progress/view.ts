import type { ProgressMessage } from '../../protocol/progress.ts';
import type { Output } from '../output.ts';

/** Shows the messages of a pull or push as they come. */
export interface ProgressView {
  show(message: ProgressMessage): Promise<void>;
  /** Shows what is left to show. Nothing is drawn after it. */
  end(): Promise<void>;
}

/**
 * One line for each message, for pipes and logs: what docker prints where there is no terminal. Messages that only move
 * a bar are left out.
 */
export class PlainView implements ProgressView {
  readonly #out: Output;

  constructor(out: Output) {
    this.#out = out;
  }

  async show(message: ProgressMessage): Promise<void> {
    if (hasBar(message)) return;
    const text = messageText(message);
    if (text !== '') await this.#out.line(text);
  }

  end(): Promise<void> {
    return Promise.resolve();
  }
}

/** Whether the message moves a bar. */
export function hasBar({ progressDetail }: ProgressMessage): boolean {
  return (progressDetail?.current ?? 0) > 0 || (progressDetail?.total ?? 0) > 0;
}

/** `ID: status`. Control characters are left out, since the text partly comes from a registry. */
export function messageText({ id, status }: ProgressMessage): string {
  return printable([id, status].filter((part) => part !== undefined && part !== '').join(': '));
}

/** The text without what would move the cursor, recolour or retitle a terminal. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '');
}
