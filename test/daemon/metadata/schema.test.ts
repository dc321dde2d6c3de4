import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { DatabaseSync } from 'node:sqlite';
import { Database } from '../../../src/daemon/metadata/database.ts';
import { migrations } from '../../../src/daemon/metadata/schema.ts';

describe('the metadata of an earlier release', () => {
  it('is brought forward with what is in it, once', (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'layerd-schema-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'metadata.db');
    const first = new DatabaseSync(path);
    first.exec(`${migrations[0] ?? ''}; PRAGMA user_version = 1`);
    first.exec("INSERT INTO layer (diff_id, size, image_size, created_at) VALUES ('sha256:a', 10, 4096, 0)");
    first.exec(
      `INSERT INTO image (target, media_type, bytes, image_id, manifest, stored_at) VALUES ('sha256:a', '', 0, '', '', 1)`,
    );
    for (const time of [10, 30, 20]) {
      first.exec(
        `INSERT INTO event (time, type, action, actor, attributes) VALUES (${time}, 'image', 'pull', 'a', '{}')`,
      );
    }
    first.close();
    const began = Date.now();
    for (let start = 0; start < 2; start += 1) {
      const db = new Database(path);
      assert.deepEqual(
        { ...db.get('SELECT diff_id, size, file_bytes FROM layer') },
        { diff_id: 'sha256:a', size: 10, file_bytes: null },
      );
      const { used_at: usedAt } = db.get<{ used_at: number }>('SELECT used_at FROM image') ?? { used_at: 0 };
      assert.ok(usedAt >= began && usedAt <= Date.now());
      assert.deepEqual(
        db.all('SELECT latest FROM event ORDER BY seq').map(({ latest }) => latest),
        [10, 30, 30],
      );
      db.close();
    }
  });
});
