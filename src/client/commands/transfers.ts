import type { TransferReport } from '../../protocol/engine.ts';
import { isDigest } from '../../protocol/digest.ts';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { EngineError } from '../errors.ts';
import { ListFormat, type RowFormat } from '../format/format.ts';
import { plain } from '../format/table.ts';
import { humanSize, shortenId } from '../format/units.ts';
import { drawScreen, TransferBoard, wantedFor } from '../progress/board.ts';
import { shortDuration } from '../progress/terminal.ts';
import { Exit, type Context, type ExitStatus, type Run } from './command.ts';
import { forEachName } from './each.ts';
import { parsePriority } from './priority.ts';

interface Options {
  readonly format?: string;
  readonly trunc?: boolean;
}

const ROW: RowFormat = {
  headings: {
    Attempts: 'ATTEMPTS',
    Client: 'CLIENT',
    Digest: 'DIGEST',
    Direction: 'DIRECTION',
    Error: 'LAST ERROR',
    For: 'FOR',
    Host: 'HOST',
    Left: 'LEFT',
    Priority: 'PRIORITY',
    Rate: 'RATE',
    Received: 'RECEIVED',
    Repository: 'REPOSITORY',
    Since: 'SINCE',
    Size: 'SIZE',
    State: 'STATE',
  },
  table:
    '{{.Digest}}\t{{.Direction}}\t{{.State}}\t{{.Received}}\t{{.Size}}\t{{.Rate}}\t{{.Left}}\t{{.Priority}}\t{{.For}}',
};

/** A frame is drawn this often, in milliseconds. */
const FRAME_MS = 200;
/** The other screen of a terminal, and back; without a cursor meanwhile. */
const ENTER = '\u001b[?1049h\u001b[?25l';
const ESCAPE = '\u001b';
/** An arrow up or down, or any other key. */
const KEYS = new RegExp(String.raw`${ESCAPE}\[[AB]|[^${ESCAPE}]`, 'gu');
const LEAVE = '\u001b[?25h\u001b[?1049l';

/** `layerctl transfers`. */
export const transfers: Run<Options> = async (context, _args, options) => {
  const { client, out, signal } = context;
  const format = new ListFormat(options.format, ROW);
  if (options.format === undefined && out.isTerminal && context.input().isTTY === true) return live(context);
  const list = await client.transfers({ signal });
  await out.lines(format.lines(list.map((transfer) => rowOf(transfer, options.trunc !== false))));
  return Exit.ok;
};

/** `layerctl transfer pause`. */
export const pause: Run<object> = (context, args) => steer(context, args, { paused: true });

/** `layerctl transfer resume`. */
export const resume: Run<object> = (context, args) => steer(context, args, { paused: false });

/** `layerctl transfer priority`. */
export const prioritize: Run<object> = (context, [priority = '', ...digests]) =>
  steer(context, digests, { priority: parsePriority('PRIORITY', priority) });

/** `layerctl transfer cancel`. */
export const cancel: Run<object> = (context, args) =>
  forEachName(context, args, async (name) => {
    const digest = await digestOf(context, name);
    await context.client.cancelTransfer(digest, { signal: context.signal });
    await context.out.line(digest);
  });

function steer(
  context: Context,
  names: readonly string[],
  change: { priority?: number; paused?: boolean },
): Promise<ExitStatus> {
  return forEachName(context, names, async (name) => {
    const digest = await digestOf(context, name);
    await context.client.steerTransfer(digest, change, { signal: context.signal });
    await context.out.line(digest);
  });
}

/** The digest that a user means: whole, or the start of one that is under way. */
async function digestOf({ client, signal }: Context, name: string): Promise<string> {
  if (isDigest(name)) return name;
  const hex = name.replace(/^sha256:/, '');
  const list = await client.transfers({ signal });
  const found = new Set(list.map(({ digest }) => digest).filter((digest) => digest.startsWith(`sha256:${hex}`)));
  const [digest] = found;
  if (digest !== undefined && hex !== '' && found.size === 1) return digest;
  throw new EngineError(
    found.size > 1 ? 'invalid' : 'not-found',
    `${found.size > 1 ? 'several transfers begin' : 'no transfer begins'} with ${name}: see layerctl transfers`,
  );
}

function rowOf(transfer: TransferReport, truncates: boolean): Record<string, string> {
  const { digest, direction, state, size, received, rate, secondsLeft, attempts, priority } = transfer;
  return {
    Attempts: String(attempts),
    Client: plain([...new Set(transfer.wantedBy.map(({ client }) => client))].join(', ')),
    Digest: truncates ? shortenId(digest) : digest,
    Direction: direction,
    Error: plain(transfer.lastError ?? ''),
    For: wantedFor(transfer),
    Host: plain(transfer.host ?? ''),
    Left: secondsLeft === undefined ? '' : shortDuration(secondsLeft),
    Priority: String(priority),
    Rate: rate === 0 ? '' : `${humanSize(rate)}/s`,
    Received: humanSize(received),
    Repository: plain(transfer.repository),
    Since: transfer.since,
    Size: humanSize(size),
    State: state,
  };
}

/** Shows them as they move, and does what keys say, until the user has seen enough. */
async function live(context: Context): Promise<ExitStatus> {
  const { client, out, signal } = context;
  const input = context.input() as ReturnType<Context['input']> & { setRawMode?: (raw: boolean) => void };
  const board = new TransferBoard();
  const quit = new AbortController();
  let status: ExitStatus = Exit.ok;
  let failure: unknown;
  const draw = (): void => {
    out.write(drawScreen(board.frame(out.columns, out.rows, out.style), out.rows)).catch((error: unknown) => {
      failure ??= error;
      quit.abort();
    });
  };
  const act = async (key: string): Promise<void> => {
    const { selected } = board;
    if (selected === undefined) return;
    const { digest, state, priority } = selected;
    if (key === 'c') await client.cancelTransfer(digest, { signal });
    else if (key === 'p') await client.steerTransfer(digest, { paused: state !== 'paused' }, { signal });
    else await client.steerTransfer(digest, { priority: priority + (key === '+' ? 1 : -1) }, { signal });
  };
  const onKeys = (chunk: Buffer | string): void => {
    for (const key of String(chunk).match(KEYS) ?? []) {
      board.message = '';
      if (key === 'q') quit.abort();
      else if (key === '\u0003') {
        status = Exit.interrupted;
        quit.abort();
      } else if (key === '\u001b[A' || key === 'k') board.move(-1);
      else if (key === '\u001b[B' || key === 'j') board.move(1);
      else if ('pc+-'.includes(key)) {
        // It may have ended just now; then there is nothing left to do.
        void act(key).catch((error: unknown) => (board.message = plain(messageOf(error))));
      }
    }
    draw();
  };
  const timer = setInterval(draw, FRAME_MS);
  input.setRawMode?.(true);
  input.on('data', onKeys);
  try {
    await out.write(ENTER);
    draw();
    for await (const update of client.watchTransfers({ signal: AbortSignal.any([signal, quit.signal]) })) {
      board.update(update);
    }
    throw new LayerdError('unavailable', 'the daemon has stopped');
  } catch (error) {
    if (!quit.signal.aborted) throw error;
    if (failure !== undefined) throw failure instanceof Error ? failure : new Error(messageOf(failure));
    return status;
  } finally {
    clearInterval(timer);
    input.off('data', onKeys);
    input.setRawMode?.(false);
    input.pause();
    await out.write(LEAVE);
  }
}
