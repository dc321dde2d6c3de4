import { readFileSync } from 'node:fs';
import type { Database } from './database.ts';

/** Names the host's present boot: another one after each. */
const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

/**
 * Whether the host was booted anew since a daemon {@link noteBoot noted} its boot: what was not synced may have been lost
 * then. False for new metadata.
 */
export function hasRebooted(db: Database, id = bootId()): boolean {
  const known = db.get<{ value: string }>(`SELECT value FROM fact WHERE key = 'boot id'`)?.value;
  return known !== undefined && known !== id;
}

/** Says that all is done that a reboot asks for. Part of the caller's transaction; writes nothing where it was said. */
export function noteBoot(db: Database, id = bootId()): void {
  db.run(
    `INSERT INTO fact (key, value) VALUES ('boot id', ?)
     ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value`,
    id,
  );
}
