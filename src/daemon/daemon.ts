import { accessSync, constants, existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { LayerdError, messageOf } from '../protocol/errors.ts';
import { Listeners } from './api/listeners.ts';
import type { PassedSocket } from './api/activation.ts';
import { tlsFiles, type Config } from './config/config.ts';
import { formatHost } from './config/host.ts';
import { mergeReload, type Reload } from './config/reload.ts';
import { makeDirectory } from './directory.ts';
import { Engine } from './engine/engine.ts';
import { Lock } from './lock.ts';
import type { DaemonLog } from './log.ts';
import { Database } from './metadata/database.ts';
import { Reserve } from './metadata/reserve.ts';
import { damagedMetadata } from './metadata/storage-error.ts';
import { Pidfile } from './pidfile.ts';
import { SignaturePolicy } from './signatures/policy.ts';

/** What a daemon is given besides its configuration. */
export interface DaemonOptions {
  readonly log: DaemonLog;
  readonly version: string;
  /** Sockets that systemd passed to this process. */
  readonly passed: readonly PassedSocket[];
}

/** As dockerd's: root's group may pass through to what is mounted below, nobody else gets in. */
const DATA_ROOT_MODE = 0o710;
/** Members of the socket's group have to pass through to it. */
const EXEC_ROOT_MODE = 0o711;
/** Without root everything is the user's own. */
const PRIVATE_MODE = 0o700;
const MS = 1000;

/**
 * The daemon: the one place where its parts are built, wired, started and stopped. Each part that starts says at once
 * how it is stopped; a start that fails halfway and a stop both undo what was done, the last first.
 */
export class Daemon {
  readonly #log: DaemonLog;
  readonly #engine: Engine;
  readonly #listeners: Listeners;
  readonly #parts: AsyncDisposableStack;
  #config: Config;

  private constructor(
    config: Config,
    log: DaemonLog,
    engine: Engine,
    listeners: Listeners,
    parts: AsyncDisposableStack,
  ) {
    this.#config = config;
    this.#log = log;
    this.#engine = engine;
    this.#listeners = listeners;
    this.#parts = parts;
  }

  /**
   * Starts all parts; resolves when the daemon serves.
   * @throws LayerdError saying what could not be started; nothing of it is left running then.
   */
  static async start(config: Config, { log, version, passed }: DaemonOptions): Promise<Daemon> {
    await using undo = new AsyncDisposableStack();

    const policy = await loadPolicy(config);
    const dataRoot = prepareDirectory('data root', config.dataRoot, DATA_ROOT_MODE);
    prepareDirectory('exec root', config.execRoot, EXEC_ROOT_MODE);
    const hosts = config.hosts.map(formatHost);
    const reserve = new Reserve(join(dataRoot, 'reserve'), log);
    const lock = Lock.take(dataRoot, { pid: process.pid, hosts, since: new Date().toISOString() }, reserve);
    undo.defer(() => lock.release());
    undo.defer(() => reserve.close());
    prepareDirectory('directory of the PID file', dirname(config.pidfile), EXEC_ROOT_MODE);
    const pidfile = Pidfile.write(config.pidfile, process.pid, reserve);
    undo.defer(() => pidfile.remove());
    const metadata = join(dataRoot, 'metadata.db');
    refuseEmptied(metadata, dataRoot);
    const database = new Database(metadata, reserve);
    undo.defer(() => database.close());
    const engine = new Engine({ config, policy, db: database, reserve, dataRoot, version, log });
    undo.defer(() => engine.close());

    const listeners = await Listeners.open({
      hosts: config.hosts,
      group: config.group,
      tls: tlsFiles(config),
      passed,
      handler: engine.handler,
      log,
    });
    const daemon = new Daemon(config, log, engine, listeners, undo.move());
    // Last, since the start itself may have needed it.
    reserve.fill();
    engine.reconcile();
    log.info('layerd is ready', { addresses: listeners.addresses, dataRoot, version });
    return daemon;
  }

  /** The configuration in force. */
  get config(): Config {
    return this.#config;
  }

  /** Why only a restart would help; undefined while the daemon is alive and well. */
  async ailment(): Promise<string | undefined> {
    const failed = (await this.#engine.health.livez.find()).find(({ isWell }) => !isWell);
    return failed && `${failed.name}: ${failed.note ?? ''}`;
  }

  /** The addresses that are listened on. */
  get addresses(): readonly string[] {
    return this.#listeners.addresses;
  }

  /**
   * Takes on what it can of a new configuration.
   * @throws LayerdError if it cannot be used; the present one stays in force.
   */
  async reload(next: Config): Promise<Reload> {
    const reload = mergeReload(this.#config, next);
    // Read again in any case, as the keys that it names are: they change under the same names.
    const policy = await loadPolicy(reload.config);
    const tls = tlsFiles(reload.config);
    // Certificates are renewed under the same names, so they are read again in any case.
    if (tls !== undefined) this.#listeners.reloadTls(tls);
    this.#config = reload.config;
    this.#engine.reload(reload.config, policy);
    this.#log.setLevel(effectiveLevel(reload.config));
    return reload;
  }

  /**
   * Stops all parts. What runs on its own account (transfers, event streams) is told to end at once, and what has arrived
   * of a transfer stays; requests under way have the shutdown timeout to end.
   */
  async stop(): Promise<void> {
    try {
      // Both at once: nobody new is let in while what is under way comes to its end.
      await Promise.all([this.#listeners.close(this.#config.shutdownTimeout * MS), this.#engine.interrupt()]);
    } finally {
      await this.#parts.disposeAsync();
    }
  }
}

async function loadPolicy({ signaturePolicy }: Config): Promise<SignaturePolicy | undefined> {
  return signaturePolicy === undefined ? undefined : SignaturePolicy.load(signaturePolicy);
}

/** The level that is logged from: `debug` is a switch of its own. */
export function effectiveLevel(config: Config): Config['logLevel'] {
  return config.debug ? 'debug' : config.logLevel;
}

/**
 * Refuses metadata that were truncated to nothing. SQLite takes an empty file for a new database, so that the store would
 * seem empty, and every blob in it would be swept.
 * @throws LayerdError of kind corrupt.
 */
function refuseEmptied(metadata: string, dataRoot: string): void {
  if (statSync(metadata, { throwIfNoEntry: false })?.size !== 0) return;
  const blobs = join(dataRoot, 'blobs', 'sha256');
  if (existsSync(blobs) && readdirSync(blobs).length > 0) {
    throw damagedMetadata(metadata, 'the file is empty, and there are blobs');
  }
}

/** Creates a directory where there is none, and returns its path without symbolic links. */
function prepareDirectory(what: string, path: string, mode: number): string {
  try {
    makeDirectory(path, process.geteuid?.() === 0 ? mode : PRIVATE_MODE);
    // access(2) would say of a file that permission is denied.
    if (!statSync(path).isDirectory()) throw new Error('it is not a directory');
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return realpathSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const kind = code === 'ENOSPC' || code === 'EROFS' ? 'no-space' : 'invalid';
    throw new LayerdError(kind, `cannot use the ${what} ${path}: ${messageOf(error)}`, { cause: error });
  }
}
