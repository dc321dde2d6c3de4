import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../src/daemon/log.ts';
import { Notifier, type NotifyEnvironment } from '../../src/daemon/notify.ts';
import { needs, Running, scratch } from '../support/process.ts';

/** A log that remembers its warnings. */
function memory() {
  const warnings: string[] = [];
  const none = () => undefined;
  const warn: Log['warn'] = (message, fields) => void warnings.push(`${message} ${JSON.stringify(fields)}`);
  return { warnings, log: { fatal: none, error: none, warn, info: none, debug: none } satisfies Log };
}

const well = () => Promise.resolve(undefined);

describe('notifying systemd', { skip: needs('socat') }, () => {
  for (const kind of ['path', 'abstract'] as const) {
    it(`sends to a real datagram socket (${kind})`, async () => {
      await using folder = await scratch('notify');
      const path = `${folder.path}/notify`;
      const address = kind === 'path' ? `UNIX-RECV:${path}` : `ABSTRACT-RECV:${path}`;
      await using receiver = new Running('socat', ['-u', '-d', '-d', address, 'STDOUT']);
      await receiver.until('the socket', ({ stderr }) => stderr.includes('starting data transfer loop'));

      const { log, warnings } = memory();
      const environment: NotifyEnvironment = {
        NOTIFY_SOCKET: kind === 'path' ? path : `@${path}`,
        WATCHDOG_USEC: '100000',
        WATCHDOG_PID: String(process.pid),
      };
      const notifier = new Notifier(environment, log);
      await notifier.ready('Serving on unix:///x', well);
      // The watchdog's timer does not keep a process alive by itself.
      const alive = setInterval(() => undefined, 1000);
      await receiver.until('two signs of life', ({ stdout }) => stdout.split('WATCHDOG=1').length > 2);
      clearInterval(alive);
      await notifier.reloading();
      await notifier.ready('Serving on unix:///y', well);
      await notifier.stopping(20);
      notifier.close();
      await receiver.until('the end', ({ stdout }) => stdout.includes('STATUS=Stopping'));

      const text = receiver.stdout.replaceAll('WATCHDOG=1', '');
      assert.match(
        text,
        /^READY=1\nSTATUS=Serving on unix:\/\/\/xRELOADING=1\nMONOTONIC_USEC=\d+\nSTATUS=.*READY=1\nSTATUS=Serving on unix:\/\/\/ySTOPPING=1\nEXTEND_TIMEOUT_USEC=20000000\nSTATUS=Stopping$/s,
      );
      assert.deepEqual(warnings, []);
    });
  }

  it('sends no sign of life while something ails the daemon, and says what', async () => {
    await using folder = await scratch('notify');
    const path = `${folder.path}/notify`;
    await using receiver = new Running('socat', ['-u', '-d', '-d', `UNIX-RECV:${path}`, 'STDOUT']);
    await receiver.until('the socket', ({ stderr }) => stderr.includes('starting data transfer loop'));
    const { log } = memory();
    const told = Promise.withResolvers<string>();
    const error: Log['error'] = (message) => told.resolve(message);
    let ailment: string | undefined = 'event-loop: it was blocked for 7.0 s';
    const notifier = new Notifier({ NOTIFY_SOCKET: path, WATCHDOG_USEC: '3000' }, { ...log, error });
    await notifier.ready('', () => Promise.resolve(ailment));
    const alive = setInterval(() => undefined, 1000);
    assert.match(await told.promise, /not telling the service manager that the daemon is alive: event-loop: it was/);
    await notifier.reloading();
    await receiver.until('what was sent before', ({ stdout }) => stdout.includes('RELOADING'));
    assert.doesNotMatch(receiver.stdout, /WATCHDOG/);
    ailment = undefined;
    await receiver.until('a sign of life', ({ stdout }) => stdout.includes('WATCHDOG=1'));
    clearInterval(alive);
    notifier.close();
  });

  it('sends no sign of life for a watchdog that watches another process', async () => {
    await using folder = await scratch('notify');
    const path = `${folder.path}/notify`;
    await using receiver = new Running('socat', ['-u', '-d', '-d', `UNIX-RECV:${path}`, 'STDOUT']);
    await receiver.until('the socket', ({ stderr }) => stderr.includes('starting data transfer loop'));
    const environment = { NOTIFY_SOCKET: path, WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' };
    const notifier = new Notifier(environment, memory().log);
    await notifier.ready('', well);
    // Many times the time after which a sign of life would be due.
    await delay(30);
    await notifier.stopping(0);
    await receiver.until('the end', ({ stdout }) => stdout.includes('STOPPING'));
    assert.doesNotMatch(receiver.stdout, /WATCHDOG/);
  });
});

describe('notifying nobody', () => {
  it('does nothing without a service manager', async () => {
    const { log, warnings } = memory();
    const notifier = new Notifier({}, log);
    await notifier.ready('', well);
    await notifier.stopping(1);
    notifier.close();
    assert.deepEqual(warnings, []);
  });

  it('warns of a socket that is gone, or of no kind it knows, and goes on', async () => {
    const { log, warnings } = memory();
    await new Notifier({ NOTIFY_SOCKET: '/nonexistent/notify' }, log).ready('', well);
    assert.match(warnings[0] ?? '', /cannot notify the service manager.*READY=1/);
    await new Notifier({ NOTIFY_SOCKET: 'vsock:2:1' }, log).ready('', well);
    assert.match(warnings[1] ?? '', /neither a path nor abstract.*vsock/);
  });
});
