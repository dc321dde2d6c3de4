import { dirname, join } from 'node:path';
import { Listeners } from './api/listeners.ts';
import type { PassedSocket } from './api/activation.ts';
import { tlsFiles, type Config } from './config/config.ts';
import { mergeReload, type Reload } from './config/reload.ts';
import { lockDataRoot, prepareDirectory, refuseEmptied } from './data-root.ts';
import { Engine } from './engine/engine.ts';
import type { DaemonLog } from './log.ts';
import { Database } from './metadata/database.ts';
import { Pidfile } from './pidfile.ts';
import { SignaturePolicy } from './signatures/policy.ts';
import type { Tracing } from './tracing/tracing.ts';

/** What a daemon is given besides its configuration. */
export interface DaemonOptions {
  readonly log: DaemonLog;
  readonly version: string;
  /** Sockets that systemd passed to this process. */
  readonly passed: readonly PassedSocket[];
  /** Closed when the daemon stops. */
  readonly tracing: Tracing;
}

/** Members of the socket's group have to pass through to it. */
const EXEC_ROOT_MODE = 0o711;
const MS = 1000;

/**
 * The daemon: the one place where its parts are built, wired, started and stopped. Each part that starts says at once
 * how it is stopped; a start that fails halfway and a stop both undo what was done, the last first.
 */
export class Daemon {
  readonly #log: DaemonLog;
  readonly #engine: Engine;
  readonly #listeners: Listeners;
  readonly #tracing: Tracing;
  readonly #parts: AsyncDisposableStack;
  #config: Config;

  private constructor(
    config: Config,
    { log, tracing }: Pick<DaemonOptions, 'log' | 'tracing'>,
    engine: Engine,
    listeners: Listeners,
    parts: AsyncDisposableStack,
  ) {
    this.#config = config;
    this.#log = log;
    this.#tracing = tracing;
    this.#engine = engine;
    this.#listeners = listeners;
    this.#parts = parts;
  }

  /**
   * Starts all parts; resolves when the daemon serves.
   * @throws LayerdError saying what could not be started; nothing of it is left running then.
   */
  static async start(config: Config, { log, version, passed, tracing }: DaemonOptions): Promise<Daemon> {
    await using undo = new AsyncDisposableStack();

    const policy = await loadPolicy(config);
    const { dataRoot, reserve } = lockDataRoot(config, log, undo);
    prepareDirectory('exec root', config.execRoot, EXEC_ROOT_MODE);
    prepareDirectory('directory of the PID file', dirname(config.pidfile), EXEC_ROOT_MODE);
    const pidfile = Pidfile.write(config.pidfile, process.pid, reserve);
    undo.defer(() => pidfile.remove());
    const metadata = join(dataRoot, 'metadata.db');
    refuseEmptied(metadata, dataRoot);
    const database = new Database(metadata, reserve);
    undo.defer(() => database.close());
    const engine = new Engine({
      config,
      policy,
      db: database,
      reserve,
      dataRoot,
      version,
      log,
      tracer: tracing.tracer,
    });
    undo.defer(() => engine.close());

    const listeners = await Listeners.open({
      hosts: config.hosts,
      group: config.group,
      tls: tlsFiles(config),
      passed,
      handler: engine.handler,
      log,
    });
    const daemon = new Daemon(config, { log, tracing }, engine, listeners, undo.move());
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
    this.#engine.reload(reload.config, policy);
    this.#config = reload.config;
    this.#log.setLevel(effectiveLevel(reload.config));
    return reload;
  }

  /**
   * Stops all parts. What runs on its own account (transfers, event streams) is told to end at once, and what has arrived
   * of a transfer stays; requests under way have the shutdown timeout to end, and the traces of them what is left of it.
   */
  async stop(): Promise<void> {
    const end = performance.now() + this.#config.shutdownTimeout * MS;
    try {
      // Both at once: nobody new is let in while what is under way comes to its end.
      await Promise.all([this.#listeners.close(this.#config.shutdownTimeout * MS), this.#engine.interrupt()]);
    } finally {
      await this.#parts.disposeAsync();
      await this.#tracing.close(Math.max(0, end - performance.now()));
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
