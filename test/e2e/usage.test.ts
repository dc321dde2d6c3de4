import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { DiskUsage, ImageSummary, UsageReport } from '../../src/protocol/engine.ts';
import { bulk, image, layer, type TestImage } from '../support/images.ts';
import { needs, run } from '../support/process.ts';
import {
  assertStoreHolds,
  beginPull,
  failed,
  linesOf,
  startStack,
  storeFiles,
  succeeded,
  until,
  type Stack,
} from '../support/stack.ts';

const MIB = 1024 * 1024;
/** What a large file takes for the list of its blocks, and what a folder grows by: neither is content. */
const TOLERANCE = 64 * 1024;

interface OlderUsage {
  readonly LayersSize: number;
  readonly Images: readonly ImageSummary[];
}

describe('docker image prune and docker system df', { skip: needs('docker', 'docker-registry') }, () => {
  let stack: Stack;
  let old: TestImage;
  let young: TestImage;
  let other: TestImage;
  const docker = async (...args: string[]): Promise<string> => succeeded(await stack.daemon.docker(...args));
  const get = async <T>(path: string): Promise<T> => (await stack.daemon.request(path)).json<T>();

  /** Bytes that the content takes on the disk, as du counts them, without what is on its way out. */
  async function du(): Promise<number> {
    const { dataRoot } = stack.daemon;
    const folders = ['blobs/sha256', 'layers/sha256', 'layers/unpacking', 'ingest', 'staging'].map(
      (folder) => `${dataRoot}/${folder}`,
    );
    const outcome = await run('du', ['--summarize', '--total', '--block-size=1', ...folders]);
    return Number(linesOf(succeeded(outcome)).at(-1)?.split('\t')[0]);
  }
  const assertNear = (actual: number, expected: number): void =>
    assert.ok(Math.abs(actual - expected) <= TOLERANCE, `${actual} is not near ${expected}`);

  before(async () => {
    stack = await startStack();
    const base = await bulk('base', 2 * MIB);
    old = image({ layers: [base, await bulk('old', MIB)], config: { config: { Labels: { team: 'a' } } } });
    young = image({ layers: [base, await layer([{ name: 'young' }])] });
    other = image({ layers: [await bulk('other', MIB)] });
    for (const [name, pushed] of [
      ['app:1', old],
      ['app:1', young],
      ['other:1', other],
    ] as const) {
      await stack.push(name, pushed);
      await docker('pull', '-q', stack.ref(name));
    }
  });
  after(() => stack.stop());

  it('shows what du counts, and what each image has of it', async () => {
    const taken = await du();
    const { LayersSize, Images } = await get<OlderUsage>('/v1.50/system/df');
    assertNear(LayersSize, taken);
    const shared = Images.find(({ Id }) => Id === young.id)?.SharedSize ?? 0;
    const own = Images.reduce((sum, { Size, SharedSize }) => sum + Size - SharedSize, 0);
    assert.equal(own + shared, LayersSize);
    const [, images = ''] = linesOf(await docker('system', 'df'));
    assert.match(images, /^Images +3 +0 +\d[\d.]*MB +\d[\d.]*MB \(100%\)$/);
    const verbose = await docker('system', 'df', '-v');
    assert.match(verbose, /SHARED SIZE +UNIQUE SIZE +CONTAINERS/);
    assert.match(verbose, new RegExp(`${young.id.slice(7, 19)} .* 0\n`));
    assert.match(await docker('system', 'df', '--format', '{{.Type}} {{.TotalCount}}'), /Build Cache 0/);
  });

  it('prunes what has no tag, by label, and tells the space as du does', async () => {
    const before = await du();
    assert.match(await docker('image', 'prune', '-f', '--filter', 'label=team=b'), /^Total reclaimed space: 0B\n$/);
    const lines = linesOf(await docker('image', 'prune', '--force', '--filter', 'label=team'));
    assert.ok(lines.includes(`deleted: ${old.id}`), lines.join('\n'));
    await assertStoreHolds(stack.daemon.dataRoot, young, other);
    const seconds = Math.floor(Date.now() / 1000);
    const range = ['--since', String(seconds - 600), '--until', String(seconds + 1)];
    const events = linesOf(await docker('events', ...range, '--filter', 'event=prune', '--format', '{{json .Actor}}'));
    const { Attributes } = JSON.parse(events.at(-1) ?? '') as { Attributes: { reclaimed: string } };
    const reclaimed = Number(Attributes.reclaimed);
    assert.ok(reclaimed > MIB);
    assertNear(before - reclaimed, await du());
  });

  it('leaves what a pull has just begun, and takes what one has left', async () => {
    const big = await bulk('interrupted', 3 * MIB);
    await stack.push('big:1', image({ layers: [big] }));
    stack.proxy.inject({ path: new RegExp(big.digest), stallAfter: 2 * MIB });
    const leave = await beginPull(stack, 'big:1', big);
    await docker('image', 'prune', '-f');
    assert.equal((await storeFiles(stack.daemon.dataRoot)).ingests.length, 1);
    const usage = await get<UsageReport>('/layerd/usage');
    assert.ok(usage.underWay.count === 1 && usage.underWay.size > 0, JSON.stringify(usage));
    leave();
    await until('the pull to end', async () => (await get<UsageReport>('/layerd/usage')).interrupted.count === 1);
    assertNear((await get<DiskUsage>('/v1.56/system/df?verbose=0')).ImageUsage?.TotalSize ?? 0, await du());
    assert.match(await docker('image', 'prune', '-f'), /Total reclaimed space: [1-9]/);
    await assertStoreHolds(stack.daemon.dataRoot, young, other);
  });

  it('refuses filters that there are not, and removes all with -a', async () => {
    assert.match(failed(await stack.daemon.docker('image', 'prune', '-f', '--filter', 'colour=red')), /colour/);
    assert.match(failed(await stack.daemon.docker('image', 'prune', '-f', '--filter', 'until=soon')), /soon/);
    await assertStoreHolds(stack.daemon.dataRoot, young, other);
    assert.match(succeeded(await stack.daemon.layerctl('df')), /^Interrupted Pulls +0 +0 +0B +0B$/m);
    assert.match(succeeded(await stack.daemon.layerctl('prune', '-a', '--force')), new RegExp(`deleted: ${other.id}`));
    await assertStoreHolds(stack.daemon.dataRoot);
    assert.equal((await get<OlderUsage>('/v1.50/system/df')).LayersSize, 0);
  });
});
