import assert from 'node:assert/strict';
import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { parseExposition, sumOf, type Samples } from '../support/exposition.ts';
import { bulk, image } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { startStack } from '../support/stack.ts';

const TIMEOUT_MS = 20_000;
const POLL_MS = 50;

async function untilReadiness(daemon: Daemon, status: number): Promise<string> {
  for (const deadline = Date.now() + TIMEOUT_MS; ;) {
    const answer = await daemon.request('/readyz?verbose');
    if (answer.status === status) return answer.body;
    assert.ok(Date.now() < deadline, answer.body);
    await sleep(POLL_MS);
  }
}

it('a daemon is ready once its store is in order, and while its data root can be written', async () => {
  await using daemon = await startDaemon();
  assert.match(
    await untilReadiness(daemon, 200),
    /^\[\+\]ping ok\n\[\+\]event-loop ok\n\[\+\]database ok\n\[\+\]data-root ok\n\[\+\]reserve ok\n\[\+\]reconciliation ok\n\[\+\]layer-mounts ok: .+\nreadyz check passed\n$/,
  );
  // Root may write anything but a file in the place of a folder.
  const obstacle = join(daemon.dataRoot, 'health');
  await mkdir(obstacle);
  assert.match(await untilReadiness(daemon, 503), /^\[-\]data-root failed: .*\/health/m);
  assert.equal(
    (await daemon.request('/livez?verbose')).body,
    '[+]ping ok\n[+]event-loop ok\n[+]database ok\nlivez check passed\n',
  );
  await rmdir(obstacle);
  await untilReadiness(daemon, 200);
});

it(
  'every line of the log that a request causes names it, down to the registry',
  { skip: needs('docker-registry') },
  async () => {
    await using stack = await startStack({ args: ['-D', '--log-format', 'json', '--max-concurrent-downloads', '1'] });
    const { daemon, proxy } = stack;
    const names = ['one', 'two'];
    for (const name of names) await stack.push(`${name}:1`, image({ layers: [await bulk(name, 1024 * 1024)] }));
    // Each of them has one attempt at its layer fail.
    for (const name of names) {
      proxy.inject({ path: new RegExp(`/v2/${name}/blobs/`), times: 1, answer: { status: 503 } });
    }
    await Promise.all(
      names.map((name) => daemon.request(`/images/create?fromImage=${stack.ref(name)}&tag=1`, { method: 'POST' })),
    );

    const lines = daemon.log
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, string>);
    for (const name of names) {
      const asked = lines.find(({ message, url }) => message === 'request' && url?.includes(`/${name}&`) === true);
      assert.ok(asked?.['request'] !== undefined);
      const remote = lines.filter(({ url }) => url?.includes(`/v2/${name}/`) === true);
      assert.deepEqual([...new Set(remote.map(({ request }) => request))], [asked['request']]);
      const messages = new Set(remote.map(({ message }) => message));
      assert.ok(messages.has('asked a registry') && messages.has('retrying'), [...messages].join());
    }
  },
);

it(
  'metrics tell of pulls, transfers, events, what is stored and what was freed',
  { skip: needs('docker-registry') },
  async () => {
    await using stack = await startStack();
    const { daemon, proxy } = stack;
    const layer = await bulk('metrics', 1024 * 1024);
    await stack.push('app:1', image({ layers: [layer] }));
    const pull = (tag: string) =>
      daemon.request(`/images/create?fromImage=${stack.ref('app')}&tag=${tag}`, { method: 'POST' });
    const scrape = async (): Promise<Samples> => parseExposition((await daemon.request('/metrics')).body, false);
    await pull('1');
    await pull('2');

    const pulled = await scrape();
    const from = `registry="${proxy.host}"`;
    assert.equal(pulled.get('layerd_operations_total{operation="pull",result="ok"}'), 1);
    assert.equal(pulled.get('layerd_operations_total{operation="pull",result="not-found"}'), 1);
    assert.equal(pulled.get('layerd_operation_duration_seconds_count{operation="pull"}'), 2);
    // The config and the layer.
    assert.equal(pulled.get(`layerd_transfers_total{direction="download",${from},result="done"}`), 2);
    assert.ok(sumOf(pulled, 'layerd_transfer_bytes_total', from) > layer.bytes.length);
    assert.ok(sumOf(pulled, 'layerd_registry_requests_total', `host="${proxy.host}"`, '2xx') >= 3);
    assert.equal(pulled.get('layerd_stored_objects{kind="image"}'), 1);
    assert.equal(pulled.get('layerd_stored_objects{kind="layer"}'), 1);
    assert.ok((pulled.get('layerd_events_appended_total{type="image"}') ?? 0) >= 1);
    assert.equal(pulled.get('layerd_transfers_running{direction="download"}'), 0);

    await daemon.request(`/images/${stack.ref('app:1')}`, { method: 'DELETE' });
    const removed = await scrape();
    assert.equal(removed.get('layerd_reclaimed_objects_total{kind="layer"}'), 1);
    assert.ok((removed.get('layerd_reclaimed_bytes_total') ?? 0) > layer.bytes.length);
    assert.equal(removed.get('layerd_stored_bytes{kind="blob"}'), 0);
  },
);
