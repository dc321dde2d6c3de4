import assert from 'node:assert/strict';
import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startDaemon, type Daemon } from '../support/daemon.ts';

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
