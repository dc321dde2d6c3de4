import { Leases } from '../../../src/daemon/content/leases.ts';
import type { NewEvent } from '../../../src/daemon/events/event.ts';
import { Importer } from '../../../src/daemon/images/import.ts';
import { Loader } from '../../../src/daemon/images/load.ts';
import { Saver } from '../../../src/daemon/images/save.ts';
import type { LayerStore } from '../../../src/daemon/layers/store.ts';
import { Unpacker } from '../../../src/daemon/layers/unpacker.ts';
import { noTracer } from '../../../src/daemon/tracing/tracer.ts';
import type { Platform } from '../../../src/protocol/oci.ts';
import type { ProgressMessage } from '../../../src/protocol/progress.ts';
import { startClient } from '../registry/harness.ts';
import { AMD64, type Fixture } from './fixture.ts';

/** Saving and loading on a fixture's store, with real layers. */
export class Archives {
  readonly layers: LayerStore;
  readonly leases: Leases;
  readonly loader: Loader;
  readonly importer: Importer;
  readonly saver: Saver;
  readonly #unpacker: Unpacker;
  readonly #client = startClient();

  constructor(
    { db, content, layers, collector, store, events: seen }: Fixture,
    events: { append(event: NewEvent): unknown } = { append: (event) => seen.push(event) },
    unpacker = new Unpacker({ concurrency: 2 }),
  ) {
    this.#unpacker = unpacker;
    this.layers = layers;
    this.leases = new Leases({ db });
    const common = { content, leases: this.leases, collector, store, events };
    this.saver = new Saver(common);
    const intake = {
      ...common,
      db,
      layers: this.layers,
      unpacker: this.#unpacker,
      host: AMD64,
      tracer: noTracer,
      admission: { admitArchive: () => Promise.resolve() },
      onCommit: () => undefined,
    };
    this.loader = new Loader(intake);
    this.importer = new Importer({ ...intake, registries: this.#client.registries });
  }

  /** Loads an archive that arrives in pieces of that many bytes; returns what is said. */
  async load(
    archive: Buffer,
    options: { platforms?: Platform[]; quiet?: boolean; pieceBytes?: number } = {},
  ): Promise<ProgressMessage[]> {
    const { platforms = [], quiet = true, pieceBytes = 64 * 1024 } = options;
    const said: ProgressMessage[] = [];
    const { signal } = new AbortController();
    await this.loader.load({ archive: pieces(archive, pieceBytes), quiet, platforms, signal }, (message) => {
      said.push(message);
    });
    return said;
  }

  async save(names: readonly string[], platforms: readonly Platform[] = []): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of await this.saver.save(names, platforms)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  async close(): Promise<void> {
    await this.#unpacker.close();
    await this.#client.registries.close();
  }
}

/** The bytes in pieces, as a connection brings them. */
export async function* pieces(bytes: Buffer, pieceBytes = 64 * 1024): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    await Promise.resolve();
    yield bytes.subarray(at, at + pieceBytes);
  }
}
