import type { TransferReport, TransferUpdate } from '../../protocol/engine.ts';
import { formatNanos } from '../format/time.ts';
import { plain } from '../format/table.ts';
import { humanSize, shortenId } from '../format/units.ts';
import { hasEnded, transferKey, wantedFor } from './board.ts';
import { shortDuration } from './terminal.ts';

/** What only moves on is told this often, in milliseconds; another state at once. */
const INTERVAL = 1000;

/** Progress of transfers among lines of events, for people: what is new of each, and how far it is now and then. */
export class ProgressLines {
  readonly #now: () => number;
  readonly #told = new Map<string, { readonly state: string; readonly at: number }>();

  /** `now`: Unix milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** The line for an update; undefined where there is nothing to say yet. */
  line(update: TransferUpdate): string | undefined {
    const at = this.#now();
    const time = formatNanos(BigInt(Math.trunc(at)) * 1_000_000n);
    if ('missed' in update) return `${time} transfer (${update.missed} more have ended)`;
    const { state } = update;
    const key = transferKey(update);
    const told = this.#told.get(key);
    if (told?.state === state && at - told.at < INTERVAL) return undefined;
    if (hasEnded(update)) this.#told.delete(key);
    else this.#told.set(key, { state, at });
    return `${time} transfer ${state} ${shortenId(update.digest)} ${detailsOf(update)}`;
  }
}

function detailsOf(transfer: TransferReport): string {
  const { direction, repository, size, received, rate, secondsLeft, lastError } = transfer;
  const parts = [
    `${humanSize(received)}/${humanSize(size)}`,
    ...(rate === 0 ? [] : [`${humanSize(rate)}/s`]),
    ...(secondsLeft === undefined ? [] : [`${shortDuration(secondsLeft)} left`]),
    `${direction === 'download' ? 'from' : 'to'} ${plain(repository)}`,
    ...(transfer.wantedBy.length === 0 ? [] : [`for ${wantedFor(transfer)}`]),
    ...(lastError === undefined ? [] : [plain(lastError)]),
  ];
  return `(${parts.join(', ')})`;
}
