import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Lock, type Holder } from '../../src/daemon/lock.ts';
import { Pidfile } from '../../src/daemon/pidfile.ts';
import { isKind } from '../../src/protocol/errors.ts';
import { ROOT } from '../support/daemon.ts';
import { Running, scratch } from '../support/process.ts';

const me: Holder = { pid: 17, hosts: ['unix:///a', 'fd://'], since: '2026-01-02T03:04:05Z' };

describe('the lock on a data root', () => {
  it('is held by one, who is named to the next, and free again once it is released', async () => {
    await using folder = await scratch('lock');
    const lock = Lock.take(folder.path, me);
    const refused = (error: unknown) =>
      isKind(error, 'conflict') &&
      /in use by layerd with process ID 17, listening on unix:\/\/\/a, fd:\/\/, since 2026-01-02T03:04:05Z/.test(
        error.message,
      );
    assert.throws(() => Lock.take(folder.path, me), refused);
    assert.throws(() => Lock.take(folder.path, me), refused, 'an attempt does not free it');
    lock.release();
    Lock.take(folder.path, me).release();
  });

  it('is the same lock through a symbolic link', async () => {
    await using folder = await scratch('lock');
    await using other = await scratch('lock');
    symlinkSync(folder.path, `${other.path}/link`);
    const lock = Lock.take(folder.path, me);
    assert.throws(() => Lock.take(`${other.path}/link`, me), /in use/);
    lock.release();
  });

  it('is freed by the kernel when its holder is killed, and not while only a child of it lives', async () => {
    await using folder = await scratch('lock');
    await using holder = new Running(process.execPath, [
      '--input-type=module',
      '-e',
      `import { Lock } from ${JSON.stringify(`${ROOT}/src/daemon/lock.ts`)};
       import { spawn } from 'node:child_process';
       // Kept, for a lock that is forgotten is released when it is collected.
       globalThis.lock = Lock.take(${JSON.stringify(folder.path)}, { pid: process.pid, hosts: [], since: '' });
       const child = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
       console.log('child ' + child.pid + '.');
       setInterval(() => {}, 1000);`,
    ]);
    await holder.until('the lock', ({ stdout }) => stdout.includes('.'));
    const child = Number(/child (\d+)/.exec(holder.stdout)?.[1]);
    try {
      assert.throws(() => Lock.take(folder.path, me), new RegExp(`process ID ${holder.child.pid ?? 0},`));
      await holder.kill('SIGKILL');
      process.kill(child, 0);
      Lock.take(folder.path, me).release();
    } finally {
      process.kill(child, 'SIGKILL');
    }
  });

  it('is refused in words even if its holder has not written yet who it is', async () => {
    await using folder = await scratch('lock');
    const lock = Lock.take(folder.path, me);
    writeFileSync(`${folder.path}/lock.json`, '');
    assert.throws(() => Lock.take(folder.path, me), /in use by another layerd/);
    lock.release();
  });
});

describe('the PID file', () => {
  it('has the process ID while the daemon runs', async () => {
    await using folder = await scratch('pid');
    const path = `${folder.path}/layerd.pid`;
    const pidfile = Pidfile.write(path, process.pid);
    assert.equal(readFileSync(path, 'utf8'), `${process.pid}\n`);
    pidfile.remove();
    assert.ok(!existsSync(path));
    pidfile.remove();
  });

  it('is taken over from a process that is gone, or that is no layerd, and from nonsense', async () => {
    await using folder = await scratch('pid');
    const path = `${folder.path}/layerd.pid`;
    for (const stale of ['4194304', '1', 'nonsense', '']) {
      writeFileSync(path, stale);
      Pidfile.write(path, process.pid);
      assert.equal(readFileSync(path, 'utf8'), `${process.pid}\n`);
    }
  });

  it('is left alone once it is another daemon’s', async () => {
    await using folder = await scratch('pid');
    const path = `${folder.path}/layerd.pid`;
    const pidfile = Pidfile.write(path, process.pid);
    writeFileSync(path, '99\n');
    pidfile.remove();
    assert.equal(readFileSync(path, 'utf8'), '99\n');
  });
});
