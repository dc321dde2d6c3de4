import { execFile } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { messageOf } from '../protocol/errors.ts';
import type { Log } from './log.ts';

/** Sends one datagram to a Unix socket. */
type Send = (message: string) => Promise<void>;

/** What of the environment systemd talks to its services with (sd_notify(3), sd_watchdog_enabled(3)). */
export interface NotifyEnvironment {
  readonly NOTIFY_SOCKET?: string | undefined;
  readonly WATCHDOG_USEC?: string | undefined;
  readonly WATCHDOG_PID?: string | undefined;
}

/** From the C library's headers for Linux; the same on x86-64 and arm64. */
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const EAGAIN = 11;
/** How long and how often a full queue of the service manager is tried again, in milliseconds and times. */
const RETRY_DELAY = 50;
const RETRIES = 100;

/**
 * Tells systemd how the daemon is doing: ready, reloading, stopping, still alive. Without systemd it does nothing. A
 * message that cannot be sent is logged and not thrown, for it must never decide whether images are served.
 */
export class Notifier {
  readonly #send: Send | undefined;
  readonly #log: Log;
  readonly #watchdogMs: number | undefined;
  #watchdog: NodeJS.Timeout | undefined;
  /** Messages arrive in the order in which they were given. */
  #last: Promise<void> = Promise.resolve();

  constructor(environment: NotifyEnvironment, log: Log) {
    const { NOTIFY_SOCKET: path, WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = environment;
    this.#log = log;
    if (path === undefined || path === '') return;
    if (!/^[/@]./.test(path)) {
      log.warn('cannot notify the service manager: the socket is neither a path nor abstract', { socket: path });
      return;
    }
    this.#send = sender(path, log);
    const forUs = pid === undefined || pid === String(process.pid);
    if (forUs && usec !== undefined && Number(usec) > 0) this.#watchdogMs = Number(usec) / 1000;
  }

  /**
   * The daemon serves. From now on it also says regularly that it is alive, where the service asks for that, and only while
   * `ailment` has nothing to tell: a daemon that does not is started again.
   */
  async ready(status: string, ailment: () => Promise<string | undefined>): Promise<void> {
    if (this.#watchdogMs !== undefined && this.#watchdog === undefined) {
      // Less than the half that sd_watchdog_enabled(3) recommends, so that one bad moment is not the end.
      this.#watchdog = setInterval(() => void this.#live(ailment), this.#watchdogMs / 3).unref();
    }
    await this.#notify('READY=1', `STATUS=${status}`);
  }

  /** The configuration is being read again; {@link ready} ends it. */
  async reloading(): Promise<void> {
    const now = process.hrtime.bigint() / 1000n;
    await this.#notify('RELOADING=1', `MONOTONIC_USEC=${now}`, 'STATUS=Reloading the configuration');
  }

  /** The daemon stops, which takes up to so many seconds. */
  async stopping(seconds: number): Promise<void> {
    await this.#notify('STOPPING=1', `EXTEND_TIMEOUT_USEC=${seconds * 1_000_000}`, 'STATUS=Stopping');
  }

  /** Stops saying that the daemon is alive. */
  close(): void {
    clearInterval(this.#watchdog);
  }

  async #live(ailment: () => Promise<string | undefined>): Promise<void> {
    const reason = await ailment();
    if (reason === undefined) await this.#notify('WATCHDOG=1');
    else this.#log.error(`not telling the service manager that the daemon is alive: ${reason}`);
  }

  #notify(...lines: string[]): Promise<void> {
    const send = this.#send;
    if (send === undefined) return Promise.resolve();
    this.#last = this.#last.then(async () => {
      try {
        await send(lines.join('\n'));
      } catch (error) {
        this.#log.warn('cannot notify the service manager', { error: messageOf(error), notification: lines[0] });
      }
    });
    return this.#last;
  }
}

/** Node has no Unix datagram sockets, the C library has; where it cannot be called, systemd's own tool sends. */
function sender(path: string, log: Log): Send {
  let chosen: Promise<Send> | undefined;
  return async (message) => {
    chosen ??= nativeSender(path).catch((error: unknown) => {
      log.debug('notifying the service manager through systemd-notify', { reason: messageOf(error) });
      return toolSender(path);
    });
    await (
      await chosen
    )(message);
  };
}

async function nativeSender(path: string): Promise<Send> {
  const { default: koffi } = await import('koffi');
  const libc = koffi.load('libc.so.6');
  const socket = libc.func('int socket(int domain, int type, int protocol)');
  const sendto = libc.func(
    'intptr_t sendto(int fd, const uint8_t *buffer, size_t length, int flags, const uint8_t *address, uint32_t size)',
  );
  const close = libc.func('int close(int fd)');
  // struct sockaddr_un: the family, then the path; an abstract one starts with a zero byte instead of an @.
  const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(path.replace(/^@/, '\0'))]);
  const failure = (call: string) => new Error(`${call} to ${path} failed with errno ${koffi.errno()}`);

  return async (message) => {
    const bytes = Buffer.from(message);
    const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) as number;
    if (fd < 0) throw failure('socket');
    try {
      // It must not wait in the call, which would stop the event loop; a full queue is tried again.
      for (let attempt = 1; ; attempt++) {
        const sent = sendto(fd, bytes, bytes.length, MSG_NOSIGNAL | MSG_DONTWAIT, address, address.length) as number;
        if (sent >= 0) return;
        if (koffi.errno() !== EAGAIN || attempt === RETRIES) throw failure('sendto');
        await delay(RETRY_DELAY);
      }
    } finally {
      close(fd);
    }
  };
}

function toolSender(path: string): Send {
  return async (message) => {
    await promisify(execFile)('systemd-notify', ['--no-block', `--pid=${process.pid}`, ...message.split('\n')], {
      env: { PATH: process.env['PATH'], NOTIFY_SOCKET: path },
    });
  };
}
