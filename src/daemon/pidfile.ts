import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { LayerdError } from '../protocol/errors.ts';
import { noReserve, type Room } from './metadata/reserve.ts';
import { storageError } from './metadata/storage-error.ts';

/** The file that tells scripts the daemon's process ID. */
export class Pidfile {
  readonly #path: string;
  readonly #pid: number;

  private constructor(path: string, pid: number) {
    this.#path = path;
    this.#pid = pid;
  }

  /**
   * Writes the file.
   * @param room What gives space on a full disk, which may be that of the data root.
   * @throws LayerdError of kind conflict if the one that is there belongs to a living daemon.
   */
  static write(path: string, pid: number, room: Room = noReserve): Pidfile {
    const other = readPid(path);
    if (other !== undefined && other !== pid && isDaemon(other)) {
      throw new LayerdError(
        'conflict',
        `the PID file ${path} belongs to layerd with process ID ${other}, which is running: stop it first, or give another --pidfile`,
      );
    }
    try {
      room.within(() => writeFileSync(path, `${pid}\n`, { mode: 0o644 }));
    } catch (error) {
      throw storageError(error, 'write the PID file', path, 'its directory');
    }
    return new Pidfile(path, pid);
  }

  /** Removes the file, unless another daemon has made it its own since. */
  remove(): void {
    if (readPid(this.#path) === this.#pid) rmSync(this.#path, { force: true });
  }
}

function readPid(path: string): number | undefined {
  const text = readIfThere(path)?.trim() ?? '';
  return /^[1-9][0-9]*$/.test(text) ? Number(text) : undefined;
}

/** Whether the process is a layerd. After a crash or a reboot the process ID in a stale file may be anybody's. */
function isDaemon(pid: number): boolean {
  return readIfThere(`/proc/${pid}/cmdline`)?.includes('daemon/main.') ?? false;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A process that ends while it is read says ESRCH.
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
