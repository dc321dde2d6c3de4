import type { Peer } from './peers/peer.ts';
import type { Layerd } from './peers/layerd.ts';

/** What every scenario works with. */
export interface Context {
  readonly layerd: Layerd;
  /** The others that could be started, by name. */
  readonly peers: ReadonlyMap<string, Peer>;
  /** `host:port` of the registry with the corpus. */
  readonly registry: string;
  /** How often each thing is measured. */
  readonly runs: number;
  /** Images of the corpus to pull one by one. */
  readonly images: readonly string[];
  readonly signal: AbortSignal;
  /** Tells what is going on. */
  log(text: string): void;
}

/** All images of the corpus. */
export const CORPUS = ['debian:12', 'buildpack:12', 'redis:7', 'python:3.11', 'node:18', 'postgres:15', 'gcc:12'];

/** The reference of an image of the corpus. */
export function refOf(registry: string, image: string): string {
  return `${registry}/library/${image}`;
}

/**
 * Runs something on each engine in turn, as often as asked, each time beginning with another one, so that whatever
 * changes on the machine meanwhile meets them all. Resolves with each engine's values.
 */
export async function alternate<P extends { readonly name: string }>(
  context: Context,
  engines: readonly P[],
  what: string,
  once: (engine: P) => Promise<number>,
): Promise<Map<string, number[]>> {
  const values = new Map<string, number[]>(engines.map(({ name }) => [name, []]));
  for (let run = 0; run < context.runs; run++) {
    const first = run % engines.length;
    for (const engine of [...engines.slice(first), ...engines.slice(0, first)]) {
      context.signal.throwIfAborted();
      const value = await once(engine);
      values.get(engine.name)?.push(value);
      context.log(`${what}, run ${run + 1} of ${context.runs}: ${engine.name} ${value.toFixed(3)} s`);
    }
  }
  return values;
}
