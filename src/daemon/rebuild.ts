import { existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from './config/config.ts';
import { Checksums } from './content/checksum.ts';
import { eventLimits } from './engine/settings.ts';
import { Stores } from './engine/stores.ts';
import { unpackStored } from './images/archive/intake.ts';
import { hostPlatform } from './images/platform.ts';
import { Rebuilder, type RebuildReport } from './images/rebuild.ts';
import { Unpacker } from './layers/unpacker.ts';
import { lockDataRoot } from './data-root.ts';
import type { DaemonLog } from './log.ts';
import { Database } from './metadata/database.ts';

/** What SQLite keeps beside a database. */
const SIDES = ['', '-wal', '-shm'];

/**
 * Makes the metadata of a data root again, while no daemon runs on it. They are written beside those that are there, which
 * are put aside, not deleted, once the new ones are whole: until then an interrupted rebuild has changed nothing.
 * @throws LayerdError of kind conflict where a daemon runs.
 */
export async function rebuildMetadata(config: Config, log: DaemonLog, signal: AbortSignal): Promise<RebuildReport> {
  await using undo = new AsyncDisposableStack();
  const { dataRoot } = lockDataRoot(config, log, undo);
  const path = join(dataRoot, 'metadata.db');
  const next = `${path}.rebuilt`;
  for (const side of SIDES) rmSync(next + side, { force: true });
  const db = new Database(next);
  let report: RebuildReport;
  try {
    await using parts = new AsyncDisposableStack();
    const host = hostPlatform();
    const stores = new Stores({
      db,
      dataRoot,
      host,
      log,
      eventLimits: eventLimits(config),
      onEvent: () => undefined,
      onFreed: () => undefined,
    });
    const { content, layers, leases, events, images: store } = stores;
    const checksums = new Checksums();
    parts.defer(() => checksums.close());
    const unpacker = new Unpacker({ concurrency: 1 });
    parts.defer(() => unpacker.close());
    const rebuilder = new Rebuilder({
      db,
      root: dataRoot,
      content,
      layers,
      leases,
      store,
      events,
      checksums,
      host,
      unpack: (blob) => unpackStored({ content, layers, unpacker }, blob),
      log,
    });
    report = await rebuilder.rebuild(signal);
  } finally {
    // Closed, it is one file: the write-ahead log is part of it.
    db.close();
  }
  const aside = `${path}.replaced-${new Date().toISOString().replace(/[:.]/g, '-')}`;
  for (const side of SIDES) if (existsSync(path + side)) renameSync(path + side, aside + side);
  renameSync(next, path);
  return report;
}
