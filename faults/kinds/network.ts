import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault } from '../../test/support/proxy.ts';
import { SUBJECTS } from '../images.ts';
import type { Kind } from '../kind.ts';
import type { Random } from '../random.ts';
import { disturbed } from '../works.ts';

/** Offsets are drawn up to this, in bytes: within documents, within small layers, and within large ones. */
const REACHES = [400, 30_000, 300_000, 1_500_000] as const;

/** Which requests, and how often: once and again succeeds in the same pull, always fails it. */
function drawMatch(random: Random): { path: string; from: number; times: number } {
  return {
    path: random.pick(['/blobs/', '/blobs/', '/manifests/']),
    from: random.whole(1, 3),
    times: random.pick([1, 1, 2, 3]),
  };
}

function drawOffset(random: Random): number {
  return random.whole(0, random.pick(REACHES));
}

/** A kind of fault that the way to the registry has. */
function network(name: string, draw: (random: Random) => Omit<Fault, 'path' | 'from' | 'times' | 'until'>): Kind {
  return {
    name,
    needs: ['docker-registry'],
    draw(random) {
      const subject = random.whole(0, SUBJECTS - 1);
      const faults = Array.from({ length: random.whole(1, 2) }, () => ({ ...drawMatch(random), ...draw(random) }));
      return {
        plan: { subject, faults },
        async run(beds) {
          const bed = await beds.plain();
          return disturbed({
            bed,
            work: 'pull',
            subject,
            async disturb(run) {
              for (const { path, ...fault } of faults) bed.proxy.inject({ ...fault, path: new RegExp(path) });
              await run();
              return bed.proxy.struck;
            },
          });
        },
      };
    },
  };
}

/** Falls silent; after a while it goes on, or the client goes away. */
const stall: Kind = {
  name: 'stall',
  needs: ['docker-registry'],
  draw(random) {
    const subject = random.whole(0, SUBJECTS - 1);
    const [match, stallAfter] = [drawMatch(random), drawOffset(random)];
    const [milliseconds, leaves] = [random.whole(20, 300), random.pick([true, false])];
    return {
      plan: { subject, ...match, stallAfter, milliseconds, leaves },
      async run(beds) {
        const bed = await beds.plain();
        const left = new AbortController();
        return disturbed({
          bed,
          work: 'pull',
          subject,
          leave: left.signal,
          async disturb(run) {
            const over = Promise.withResolvers<undefined>();
            bed.proxy.inject({ ...match, path: new RegExp(match.path), stallAfter, until: over.promise });
            const running = run();
            await sleep(milliseconds);
            if (leaves) left.abort(new Error('the client went away'));
            else over.resolve(undefined);
            await running;
            over.resolve(undefined);
            return bed.proxy.struck;
          },
        });
      },
    };
  },
};

/** The registry's headers about sizes, which do not fit the body. */
function lie(random: Random): Pick<Fault, 'headers'> {
  const size = String(random.whole(1, 2_000_000));
  return {
    headers: random.pick<Record<string, string>>([
      { 'Content-Length': size },
      { 'Content-Range': `bytes 0-${size}/${size}` },
      { 'Content-Range': `bytes ${size}-${size}/*` },
    ]),
  };
}

export const NETWORK: readonly Kind[] = [
  network('cut', (random) => ({ cutAfter: drawOffset(random) })),
  stall,
  network('slow', (random) => ({ bytesPerSecond: random.whole(500_000, 4_000_000) })),
  network('corrupt', (random) => ({ corruptAt: drawOffset(random) })),
  network('reorder', (random) => ({ swapAt: drawOffset(random) })),
  network('size', lie),
  network('range', (random) => ({ ignoreRange: true, cutAfter: drawOffset(random) })),
  network('status', (random) => ({
    answer: {
      status: random.pick([429, 500, 502, 503, 504, 404, 403]),
      headers: random.pick<Record<string, string>>([{}, { 'Retry-After': '0' }]),
      body: random.pick(['', 'try again', '{"errors":[{"code":"UNKNOWN","message":"of the test"}]}']),
    },
  })),
];
