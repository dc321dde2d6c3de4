import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { shortId } from '../../src/protocol/digest.ts';
import { image, layer, type TestImage, type TestLayer } from '../support/images.ts';
import { needs } from '../support/process.ts';
import { assertStoreHolds, failed, linesOf, startStack, succeeded, type Stack } from '../support/stack.ts';

describe('docker rmi', { skip: needs('docker', 'docker-registry') }, () => {
  let stack: Stack;
  let base: TestLayer;
  let one: TestImage;
  let two: TestImage;
  const docker = async (...args: string[]): Promise<string> => succeeded(await stack.daemon.docker(...args));
  const tags = async (): Promise<string[]> => {
    const text = (await docker('images', '--format', '{{.Repository}}:{{.Tag}}')).trim();
    return text === '' ? [] : text.split('\n').sort();
  };

  beforeEach(async () => {
    stack = await startStack();
    base = await layer([{ name: 'base' }]);
    one = image({ layers: [base, await layer([{ name: 'one' }])] });
    two = image({ layers: [base, await layer([{ name: 'two' }])] });
    for (const [name, pushed] of [
      ['a:1', one],
      ['a:one', one],
      ['b:1', one],
      ['a:2', two],
    ] as const) {
      await stack.push(name, pushed);
      await docker('pull', '-q', stack.ref(name));
    }
  });
  afterEach(() => stack.stop());

  it('untags while other tags remain, then deletes exactly what nothing else needs', async () => {
    assert.deepEqual(linesOf(await docker('rmi', stack.ref('a:1'))), [`Untagged: ${stack.ref('a:1')}`]);
    await docker('rmi', stack.ref('b:1'));
    await assertStoreHolds(stack.daemon.dataRoot, one, two);
    const last = linesOf(await docker('rmi', stack.ref('a:one')));
    assert.ok(last.includes(`Untagged: ${stack.ref('a:one')}`), last.join('\n'));
    assert.ok(last.includes(`Deleted: ${one.id}`), last.join('\n'));
    await assertStoreHolds(stack.daemon.dataRoot, two);
    await docker('rmi', stack.ref('a:2'));
    await assertStoreHolds(stack.daemon.dataRoot);
    assert.deepEqual(await tags(), []);
  });

  it('removes several at once, and goes on after one that is not there', async () => {
    const outcome = await stack.daemon.docker('rmi', stack.ref('a:1'), 'nothing:here', stack.ref('a:2'));
    assert.match(failed(outcome), /No such image: nothing:here/);
    assert.deepEqual(await tags(), [stack.ref('a:one'), stack.ref('b:1')].sort());
    await docker('rmi', stack.ref('a:one'), stack.ref('b:1'));
    await assertStoreHolds(stack.daemon.dataRoot);
  });

  it('refuses an ID that several repositories name, unless forced', async () => {
    const refused = failed(await stack.daemon.docker('rmi', shortId(one.id)));
    assert.match(refused, /conflict: unable to delete [0-9a-f]{12} \(must be forced\)/);
    assert.match(refused, /referenced in multiple repositories/);
    assert.equal((await tags()).length, 4);
    const forced = linesOf(await docker('rmi', '-f', shortId(one.id)));
    for (const name of ['a:1', 'a:one', 'b:1']) assert.ok(forced.includes(`Untagged: ${stack.ref(name)}`), name);
    assert.ok(forced.includes(`Deleted: ${one.id}`));
    await assertStoreHolds(stack.daemon.dataRoot, two);
  });

  it('deletes by a short ID what one repository names', async () => {
    const lines = linesOf(await docker('rmi', shortId(two.id)));
    assert.ok(lines.includes(`Untagged: ${stack.ref('a:2')}`), lines.join('\n'));
    assert.ok(lines.includes(`Deleted: ${two.id}`), lines.join('\n'));
    await assertStoreHolds(stack.daemon.dataRoot, one);
  });

  it('removes by digest', async () => {
    const third = await stack.push('c:1', image({ layers: [await layer([{ name: 'three' }])] }));
    await docker('pull', '-q', stack.ref(`c@${third.digest}`));
    const lines = linesOf(await docker('rmi', stack.ref(`c@${third.digest}`)));
    assert.ok(lines.includes(`Untagged: ${stack.ref(`c@${third.digest}`)}`), lines.join('\n'));
    assert.ok(lines.includes(`Deleted: ${third.id}`), lines.join('\n'));
    await assertStoreHolds(stack.daemon.dataRoot, one, two);
  });

  it('fails with exit code 1 for what is not there, and with -f without a word', async () => {
    assert.match(failed(await stack.daemon.docker('rmi', 'nothing:here')), /No such image: nothing:here/);
    const forced = await stack.daemon.docker('rmi', '-f', 'nothing:here');
    assert.equal(forced.code, 0, forced.stderr);
  });
});
