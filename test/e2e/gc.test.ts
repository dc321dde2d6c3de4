import assert from 'node:assert/strict';
import { once } from 'node:events';
import { statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { bulk, image, layer, ociArchive, type TestImage } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { smallDisk } from '../support/small-disk.ts';
import { failed, linesOf, startStack, succeeded } from '../support/stack.ts';

const MIB = 1024 * 1024;
const HIGH = 70;
const LOW = 60;
const TIMEOUT_MS = 20_000;
const POLL_MS = 20;

const config = {
  'image-gc-high-threshold': HIGH,
  'image-gc-low-threshold': LOW,
  'image-gc-minimum-age': '1h',
};

/** An image that takes twice so many bytes: as a blob, and as an EROFS image. */
const large = async (name: string, bytes: number): Promise<TestImage> =>
  image({ layers: [await layer([{ name }]), await bulk(name, bytes)] });

describe('the collection of images', { skip: needs('root', 'docker', 'docker-registry', 'mkfs.ext4') }, () => {
  it('brings a disk that a storm of pulls fills down to the low threshold, and takes only what it may', async (t) => {
    await using disk = await smallDisk(t);
    if (disk === undefined) return;
    await using stack = await startStack({ dataRoot: disk.dataRoot, config });
    const { daemon } = stack;
    const percent = async (): Promise<number> => {
      const { blocks, bavail } = await statfs(disk.path);
      return 100 - Math.floor((bavail * 100) / blocks);
    };
    const pull = async (name: string): Promise<void> => {
      const [repository = '', tag = ''] = stack.ref(name).split(/:(?=\d$)/);
      const query = new URLSearchParams({ fromImage: repository, tag }).toString();
      const { body } = await daemon.request(`/images/create?${query}`, { method: 'POST' });
      assert.match(body, /Downloaded newer image/);
    };
    const old = ['old:1', 'old:2', 'old:3', 'old:4'];
    const storm = ['storm:1', 'storm:2', 'storm:3'];
    for (const name of old) await stack.push(name, await large(name, 2 * MIB));
    for (const name of ['saved:1', ...storm]) await stack.push(name, await large(name, MIB));
    // Too large for the buffers of a connection that nobody reads.
    await stack.push('sent:1', await large('sent:1', 3 * MIB));
    await Promise.all(['sent:1', 'saved:1', ...old].map(pull));
    const archive = join(daemon.dir, 'local.tar');
    await writeFile(archive, await ociArchive(await large('local', MIB), 'local:1'));
    succeeded(await daemon.docker('load', '-i', archive));

    await daemon.kill('SIGTERM');
    const db = new DatabaseSync(join(daemon.dataRoot, 'metadata.db'));
    db.exec(`
      UPDATE image SET used_at = used_at - ${2 * 3600 * 1000};
      UPDATE image SET used_at = 0 WHERE target = (SELECT target FROM tag WHERE repository LIKE '%/old' AND tag = '1');
    `);
    db.close();
    await daemon.start();
    succeeded(await daemon.run('sh', ['-c', 'docker save "$1" > /dev/null', 'sh', stack.ref('saved:1')]));
    const sending = await daemon.open(`/images/get?names=${encodeURIComponent(stack.ref('sent:1'))}`);
    await once(sending, 'readable');
    assert.ok((await percent()) < HIGH, `${await percent()} % before the storm`);
    assert.doesNotMatch(daemon.log, /removed an image/);

    await Promise.all(storm.map(pull));
    await daemon.process.until('the collection', ({ stderr }) => stderr.includes('collected images'));
    const [, , to] = /collected images .*use="(\d+)% to (\d+)%"$/m.exec(daemon.log) ?? [];
    assert.ok(Number(to) <= LOW, daemon.log);
    // What is removed is gone from the disk a moment later.
    const deadline = Date.now() + TIMEOUT_MS;
    while ((await percent()) >= HIGH) {
      assert.ok(Date.now() < deadline, `${await percent()} %\n${daemon.log}`);
      await sleep(POLL_MS);
    }
    const tags = linesOf(succeeded(await daemon.docker('images', '--format', '{{.Repository}}:{{.Tag}}')));
    const left = new Set(tags.map((tag) => tag.split('/').at(-1)));
    assert.ok(!left.has('old:1'), 'the least recently used goes first');
    for (const name of ['sent:1', 'saved:1', 'local:1', ...storm])
      assert.ok(left.has(name), `${name} of ${tags.join()}`);
    const told = await daemon.request(`/events?since=0&until=0s&filters=${encodeURIComponent('{"event":["gc"]}')}`);
    assert.match(
      told.body,
      /"Attributes":\{"trigger":"high-threshold","removed":"\d","reclaimed":"\d+","use":"\d\d"\}/,
    );
    assert.match(
      (await daemon.request('/metrics')).body,
      /^layerd_image_gc_runs_total\{trigger="high-threshold",result="ok"\} \d$/m,
    );

    const foreseen = succeeded(await daemon.layerctl('gc', '--dry-run', '--low', '0'));
    assert.match(foreseen, /^local:1 .* kept +no registry is known to have it$/m);
    assert.match(foreseen, /sent:1 .* kept +a pull, push, save or load needs it$/m);
    assert.match(foreseen, /saved:1 .* kept +used within the minimum age$/m);
    sending.destroy();
    assert.match(
      failed(await daemon.layerctl('gc', '-f', '--low', '0', '--min-age', '0s')),
      /^layerctl: .* could not be freed/,
    );
    const rest = succeeded(await daemon.docker('images', '--format', '{{.Repository}}:{{.Tag}}'));
    assert.equal(rest, 'local:1\n');
  });
});
