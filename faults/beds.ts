import { join } from 'node:path';
import { push } from '../test/support/images.ts';
import { startProxy } from '../test/support/proxy.ts';
import { startRegistry, type Registry, type RegistryOptions } from '../test/support/registry.ts';
import { Bed, type BedOptions } from './bed.ts';
import { keptImage, subjectImages } from './images.ts';

/** Of each daemon's log, with a round that failed. */
const LOG_LINES = 40;

/** How a bed is made; what it takes besides is left to the resources. */
type Make = (resources: AsyncDisposableStack) => Promise<Wanted> | Wanted;

interface Wanted extends BedOptions {
  /** The registry is seen through another one, which has the same content and is like that. */
  readonly registry?: RegistryOptions;
}

/** The daemons of a campaign, each made when the first round needs it, on one registry. */
export class Beds implements AsyncDisposable {
  readonly #resources = new AsyncDisposableStack();
  readonly #beds = new Map<string, Promise<Bed>>();
  #registry: Promise<Registry> | undefined;
  /** The most resident memory that a daemon has had, in bytes. */
  peak = 0;

  /** The bed of that name. */
  get(name: string, make: Make): Promise<Bed> {
    let bed = this.#beds.get(name);
    if (bed === undefined) {
      bed = this.#make(make);
      this.#beds.set(name, bed);
    }
    return bed;
  }

  /** A daemon as people have it. */
  plain(): Promise<Bed> {
    return this.get('plain', () => ({}));
  }

  /** Notes what memory the daemons have had at most. */
  async measure(): Promise<void> {
    for (const bed of this.#beds.values()) this.peak = Math.max(this.peak, await (await bed).peak());
  }

  /** The last lines that each daemon has logged. */
  async log(): Promise<string> {
    const logs = [...this.#beds].map(async ([name, bed]) => {
      const log = await bed.then(
        ({ daemon }) => daemon.log,
        () => '',
      );
      return log
        .split('\n')
        .slice(-LOG_LINES)
        .map((line) => `${name}: ${line}`);
    });
    return (await Promise.all(logs)).flat().join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }

  async #make(make: Make): Promise<Bed> {
    const { registry: options, ...rest } = await make(this.#resources);
    this.#registry ??= this.#filled();
    const registry = await this.#registry;
    const storage = join(registry.dir, 'storage');
    const front = options === undefined ? registry : this.#resources.use(await startRegistry({ ...options, storage }));
    const proxy = this.#resources.use(await startProxy(front));
    return this.#resources.use(await Bed.start({ registry, tokens: front.tokens, proxy, ...rest }));
  }

  async #filled(): Promise<Registry> {
    const registry = this.#resources.use(await startRegistry());
    await push(registry.host, 'kept', '1', await keptImage());
    for (const [index, subject] of (await subjectImages()).entries()) {
      await push(registry.host, `subject${index}`, '1', subject);
    }
    return registry;
  }
}
