import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { Images } from '../images/images.ts';
import { formatPlatform } from '../images/platform.ts';
import type { Log } from '../log.ts';
import type { Registries } from '../registry/registry.ts';
import { readCredentials } from '../sets/credentials.ts';
import { SetFiles } from '../sets/files.ts';
import { Reconciler, type Clock } from '../sets/reconciler.ts';
import { ImageSets } from '../sets/sets.ts';
import type { SetStore } from '../sets/store.ts';

export interface KeeperOptions {
  readonly config: Config;
  readonly sets: SetStore;
  readonly images: Images;
  readonly registries: Registries;
  readonly host: Platform;
  /** Bytes that pulls may still write. */
  readonly spare: () => number;
  readonly log: Log;
}

const clock: Clock = {
  now: () => Date.now(),
  sleep: (milliseconds, signal) => sleep(milliseconds, undefined, { signal }).catch(() => undefined),
};

/** What keeps image sets: their verbs, their files, and the reconciler that makes them so. */
export class Keeper {
  readonly verbs: ImageSets;
  readonly #files: SetFiles;
  readonly #reconciler: Reconciler;
  #config: Config;

  constructor({ config, sets, images, registries, host, spare, log }: KeeperOptions) {
    this.#config = config;
    const wake = (): void => this.#reconciler.wake();
    this.#reconciler = new Reconciler({
      sets,
      images: {
        survey: (request) => images.survey(request),
        pull: ({ platform, ...request }) =>
          images.pull(
            {
              ...request,
              all: false,
              allPlatforms: false,
              platform: platform === undefined ? undefined : formatPlatform(platform),
              credentials: request.credentials,
              priority: request.priority,
            },
            () => undefined,
          ),
      },
      registries,
      credentials: (name, registry) => readCredentials(this.#config.credentialsDir, name, registry),
      spare,
      clock,
      random: Math.random,
      log,
    });
    this.#files = new SetFiles({ sets, host, directory: config.imageSetsDir, log, onChange: wake });
    this.verbs = new ImageSets({
      sets,
      host,
      onPut: wake,
      onDelete: () => {
        wake();
        // A file of that name may have waited for it.
        void this.#files.read();
      },
    });
  }

  /** Reads the files, and begins to make the sets so. */
  async start(): Promise<void> {
    await this.#files.read();
    this.#reconciler.start();
  }

  /** Says that images may have changed. */
  wake(): void {
    this.#reconciler.wake();
  }

  /** Takes another configuration on, and reads the files again. */
  set config(config: Config) {
    this.#config = config;
    void this.#files.read(config.imageSetsDir);
  }

  /** Ends what is done on behalf of sets, and all watching. */
  async close(): Promise<void> {
    this.verbs.close();
    await Promise.all([this.#reconciler.close(), this.#files.close()]);
  }
}
