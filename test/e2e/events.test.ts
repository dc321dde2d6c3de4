import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startDaemon } from '../support/daemon.ts';
import { image, layer } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { linesOf, startStack, succeeded, until } from '../support/stack.ts';

describe('docker events', { skip: needs('docker', 'docker-registry') }, () => {
  it('shows pulls and removals, live and from the log', async () => {
    await using stack = await startStack();
    const { daemon } = stack;
    const pushed = await stack.push(
      'a:1',
      image({ layers: [await layer([{ name: 'a' }])], config: { config: { Labels: { color: 'green' } } } }),
    );
    const ref = stack.ref('a:1');
    const format = '{{.Type}} {{.Action}} {{.Actor.ID}}';
    // Whatever was before the start is shown too, so it does not matter when exactly the client is connected.
    const start = String(Math.floor(Date.now() / 1000) - 5);
    await using live = daemon.client(
      'docker',
      'events',
      '--since',
      start,
      '--filter',
      'type=image',
      '--format',
      format,
    );
    succeeded(await daemon.docker('pull', '-q', ref));
    await live.until('the pull', ({ stdout }) => stdout.includes(`image pull ${ref}`));
    succeeded(await daemon.docker('rmi', ref));
    await live.until('the removal', ({ stdout }) => stdout.includes(`image delete ${pushed.id}`));

    // The CLI sends whole seconds, so that `0s` would leave out what happened in this one.
    const end = String(Math.floor(Date.now() / 1000) + 1);
    const past = ['events', '--since', start, '--until', end, '--format', `${format} {{json .Actor.Attributes}}`];
    const lines = linesOf(succeeded(await daemon.docker(...past, '--filter', 'type=image')));
    const actions = lines.map((line) => line.split(' ')[1]);
    assert.deepEqual(actions, ['pull', 'untag', 'delete']);
    assert.match(lines[0] ?? '', /"color":"green"/);
    assert.match(lines[1] ?? '', new RegExp(`^image untag ${pushed.id} `));
    const filtered = await daemon.docker(...past, '--filter', 'event=untag', '--filter', 'label=color=green');
    assert.equal(linesOf(succeeded(filtered)).length, 1);
    assert.equal(succeeded(await daemon.docker(...past, '--filter', 'label=color=red')), '');
  });

  it('survives a restart of the daemon', async () => {
    await using stack = await startStack();
    await stack.push('a:1', image({ layers: [await layer([{ name: 'a' }])] }));
    succeeded(await stack.daemon.docker('pull', '-q', stack.ref('a:1')));
    await stack.daemon.restart();
    const past = await stack.daemon.docker(
      'events',
      '--since',
      '10m',
      '--until',
      String(Math.floor(Date.now() / 1000) + 1),
      '--filter',
      'event=pull',
    );
    assert.match(succeeded(past), new RegExp(`image pull ${stack.ref('a:1')}`));
  });
});

describe('layerctl events --follow', () => {
  it('goes on when the daemon was killed, and after its own end, from the place in its file', async () => {
    await using daemon = await startDaemon();
    const file = join(daemon.dir, 'place');
    const follow = () =>
      daemon.client('layerctl', 'events', '--follow', '--cursor-file', file, '--since', '1h', '--format', '{{.Seq}}');
    const isKept = async (seq: number): Promise<boolean> =>
      readFile(file, 'utf8').then(
        (text) => (JSON.parse(text) as { seq: number }).seq === seq,
        () => false,
      );
    await using first = follow();
    await first.until('an event', ({ stdout }) => stdout !== '');
    let newest = 0;
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      await daemon.kill(signal);
      await daemon.start();
      const { body } = await daemon.request(`/layerd/events?cursor=0&until=${Date.now() / 1000}`);
      newest = (JSON.parse(/"hello":(\{.*?\})/.exec(body)?.[1] ?? '') as { newest: number }).newest;
      await first.until('the next start', ({ stdout }) => stdout.endsWith(`\n${newest}\n`));
    }
    // The place follows the line.
    await until('the place to be kept', () => isKept(newest));
    assert.deepEqual(
      linesOf(first.stdout).map(Number),
      Array.from({ length: newest }, (_, index) => index + 1),
    );
    assert.match(first.stderr, /^(layerctl: unix:\S+: .*; connecting again until it is back\n){2}$/);
    await first.kill('SIGKILL');
    await daemon.restart();
    await using second = follow();
    await second.until('what was missed', ({ stdout }) => stdout.includes('\n'));
    assert.equal(Number(linesOf(second.stdout)[0]), newest + 1);
  });
});
