import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { RegistryReport } from '../../protocol/engine.ts';
import { messageOf } from '../../protocol/errors.ts';
import type { Handler } from '../api/listeners.ts';
import { Authorization } from '../api/authorization/authorization.ts';
import { readPolicy, type Policy } from '../api/authorization/policy.ts';
import { createHandler } from '../api/server.ts';
import { SystemInfo } from '../api/system-info.ts';
import { readBuild } from '../build.ts';
import type { Config } from '../config/config.ts';
import {
  check,
  databaseReads,
  databaseWrites,
  dataRootWrites,
  eventLoopTurns,
  ping,
  reserveHolds,
} from '../health/checks.ts';
import { EventLoopDelay } from '../health/event-loop.ts';
import { Health } from '../health/health.ts';
import { hostPlatform } from '../images/platform.ts';
import { repositoriesOf } from '../images/store.ts';
import { kernelSupport, type KernelSupport } from '../layers/mount.ts';
import type { ContextLog, Log } from '../log.ts';
import type { Database } from '../metadata/database.ts';
import { diskOf, type Disk } from '../metadata/disk.ts';
import type { Reserve } from '../metadata/reserve.ts';
import { DaemonMetrics } from '../metrics/daemon.ts';
import type { SignaturePolicy } from '../signatures/policy.ts';
import type { Tracer } from '../tracing/tracer.ts';
import { Keeper } from './keeper.ts';
import { Movers } from './movers.ts';
import { admissionSettings, eventLimits, gcPolicy, openListeners, scrubSettings, systemConfig } from './settings.ts';
import { Stores } from './stores.ts';
import { Verbs } from './verbs.ts';

/** Leases that have expired are looked for this often, in milliseconds. */
const COLLECTION_INTERVAL = 60 * 60 * 1000;
/** Milliseconds. */
const HOUR = 60 * 60 * 1000;

export interface EngineOptions {
  readonly config: Config;
  readonly policy: SignaturePolicy | undefined;
  readonly db: Database;
  readonly reserve: Pick<Reserve, 'shortage' | 'spare'>;
  readonly dataRoot: string;
  readonly version: string;
  readonly log: ContextLog;
  readonly tracer: Tracer;
}

/**
 * Everything behind the socket, wired together: the stores, what moves content into and out of them, the verbs on top, and
 * the API. It *reconciles* after a start, is *reloaded*, is *interrupted* when the daemon stops, and *closed* once no
 * request is under way any more.
 */
export class Engine {
  readonly handler: Handler;
  readonly health: { readonly livez: Health; readonly readyz: Health };
  readonly #log: Log;
  readonly #version: string;
  readonly #id: string;
  readonly #stores: Stores;
  readonly #movers: Movers;
  readonly #verbs: Verbs;
  readonly #authorization: Authorization;
  readonly #keeper: Keeper;
  readonly #eventLoop: EventLoopDelay;
  readonly #timer: NodeJS.Timeout;
  #config: Config;
  #reconciling: Promise<void> = Promise.resolve();
  /** Why the store is not in order. */
  #disorder: string | undefined = 'the start has not come to it yet';

  constructor({ config, policy, db, reserve, dataRoot, version, log, tracer }: EngineOptions) {
    this.#config = config;
    this.#log = log;
    this.#version = version;
    this.#id = storeId(db);
    const build = readBuild();
    const host = hostPlatform();
    const disk = (): Disk => diskOf(dataRoot);
    const metrics: DaemonMetrics = new DaemonMetrics({
      build: { version, commit: build.commit, node_version: process.versions.node },
      transfers: (direction) => (direction === 'download' ? movers.downloads : movers.uploads).counts,
      events: () => ({ subscribers: events.subscribers, lag: events.lag, end: events.end }),
      stored: () => {
        const [blob, layer] = [stores.content.totals(), stores.layers.totals()];
        const bytes = { blobBytes: blob.bytes, layerBytes: layer.bytes };
        const damaged = blob.damaged + layer.damaged;
        return { images: stores.images.count(), blobs: blob.count, layers: layer.count, damaged, ...bytes };
      },
      disk,
      sets: () => stores.sets.counts(),
    });
    const stores = new Stores({
      db,
      dataRoot,
      host,
      log,
      eventLimits: eventLimits(config),
      onEvent: ({ type }) => {
        metrics.appended(type);
        if (type === 'image') keeper.wake();
      },
      onFreed: (freed) => metrics.freed(freed),
    });
    const { events } = stores;
    const movers = new Movers({ config, version, stores, metrics, log, tracer });
    const verbs = new Verbs({
      stores,
      movers,
      metrics,
      host,
      log,
      tracer,
      disk,
      gcPolicy: gcPolicy(config),
      scrub: scrubSettings(config),
      admission: admissionSettings(config, policy),
      settled: () => this.#reconciling,
    });
    const { images } = verbs;
    const { registries } = movers;
    const keeper = new Keeper({ config, sets: stores.sets, images, registries, host, spare: () => reserve.spare, log });
    this.#keeper = keeper;
    this.#stores = stores;
    this.#movers = movers;
    this.#verbs = verbs;
    this.#eventLoop = new EventLoopDelay((seconds) => metrics.delayed(seconds));
    const turns = eventLoopTurns(this.#eventLoop);
    this.health = {
      livez: new Health([ping, turns, databaseReads(db)]),
      readyz: new Health([
        ping,
        turns,
        databaseWrites(db),
        dataRootWrites(dataRoot),
        reserveHolds(reserve),
        check('reconciliation', () => {
          if (this.#disorder !== undefined) throw new Error(this.#disorder);
        }),
        // Told alone: images are stored, pushed and saved without.
        check('layer-mounts', async () => mountsOf(await kernelSupport())),
      ]),
    };
    this.#authorization = new Authorization({
      policy: policyOf(config),
      repositoriesOf: (name) => repositoriesOf(stores.images, name),
      log,
    });
    this.handler = createHandler({
      authorization: this.#authorization,
      version,
      log,
      tracer,
      health: this.health,
      metrics,
      images: verbs.images,
      transfers: movers.steered,
      detached: verbs.detached,
      limits: {
        get: () => movers.limits.current,
        change: (limits, changed) => {
          movers.limits.current = limits;
          this.#tell('limit', changed);
        },
      },
      sets: keeper.verbs,
      events,
      storeId: this.#id,
      registries: {
        reports: () => this.#registryReports(),
        logIn: (registry, options) => movers.registries.logIn(registry, options),
      },
      hostNames: config.hosts.flatMap((address) => (address.kind === 'tcp' ? [address.host] : [])),
      system: new SystemInfo({
        version,
        gitCommit: build.commit,
        buildTime: build.time,
        id: this.#id,
        dataRoot,
        config: () => systemConfig(this.#config),
        images: () => stores.images.count(),
        eventSubscribers: () => events.subscribers,
        storeStatus: async () => [
          ['Layer Decompression', movers.unpacker.inflater],
          ['Layer Mounts', mountsOf(await kernelSupport())],
          ['Integrity', integrityOf(this.#config)],
          ['Signature Policy', verbs.admission.summary],
        ],
        warnings: () => openListeners(config),
      }),
    });
    this.#timer = setInterval(() => stores.collect(), COLLECTION_INTERVAL).unref();
  }

  /**
   * Brings the disk and the metadata together after a start, in the background: what a crash left over goes, what is
   * missing is named and made again where it can be.
   */
  reconcile(): void {
    this.#tell('start');
    this.#verbs.detached.resume();
    this.#disorder = 'the disk and the metadata are being brought together after the start';
    this.#reconciling = this.#reconcile()
      .then(
        () => {
          this.#disorder = undefined;
          this.#verbs.gc.start();
        },
        (error: unknown) => {
          this.#disorder = `the store could not be brought in order: ${messageOf(error)}`;
          this.#log.error(this.#disorder);
        },
      )
      // Not before, since what is about to be restored would be pulled.
      .then(() => this.#keeper.start());
  }

  /** @throws LayerdError of kind invalid for an authorization policy that cannot be used; nothing has changed then. */
  reload(config: Config, policy: SignaturePolicy | undefined): void {
    this.#authorization.policy = policyOf(config);
    this.#config = config;
    this.#movers.config = config;
    this.#keeper.config = config;
    this.#stores.events.limits = eventLimits(config);
    this.#verbs.scrubber.settings = scrubSettings(config);
    this.#verbs.gc.policy = gcPolicy(config);
    this.#verbs.admission.settings = admissionSettings(config, policy);
    this.#tell('reload');
  }

  /** Ends what would go on by itself, so that the requests that wait for it end: event streams, transfers. */
  async interrupt(): Promise<void> {
    clearInterval(this.#timer);
    this.#verbs.restorer.stop();
    await this.#verbs.gc.stop();
    this.#tell('stop');
    this.#stores.events.close();
    // Before the transfers end, which would be the end of these too.
    const own = [this.#verbs.detached.stop(), this.#keeper.close()];
    await this.#movers.interrupt();
    await Promise.all(own);
  }

  /** Lets go of everything, once no request is under way any more. */
  async close(): Promise<void> {
    this.#eventLoop[Symbol.dispose]();
    await this.#reconciling;
    await this.#movers.closeUnpackers();
    await this.#verbs.close();
    await this.#movers.registries.close();
    await this.#stores.layout.close();
  }

  /** Tells of the daemon itself. On a full disk it starts and stops all the same. */
  #tell(action: 'start' | 'reload' | 'limit' | 'stop', more: Readonly<Record<string, string>> = {}): void {
    const attributes = { name: hostname(), version: this.#version, ...more };
    try {
      this.#stores.events.append({ type: 'daemon', action, actor: this.#id, attributes });
    } catch (error) {
      this.#log.warn(`the ${action} of the daemon could not be logged as an event: ${messageOf(error)}`);
    }
  }

  async #reconcile(): Promise<void> {
    await this.#stores.sweep();
    await this.#verbs.restorer.restore();
    this.#verbs.scrubber.start();
    // What was listed meanwhile was listed without the layers that have been restored.
    this.#stores.images.changed();
  }

  #registryReports(): RegistryReport[] {
    return [...this.#movers.registries.rateLimits()].map(([registry, { at, ...rateLimit }]) => ({
      registry,
      rateLimit: { ...rateLimit, at: new Date(at).toISOString() },
    }));
  }
}

/** The authorization policy, if there is one. */
function policyOf({ authorizationPolicy }: Config): Policy | undefined {
  return authorizationPolicy === undefined ? undefined : readPolicy(authorizationPolicy);
}

/** How layers can be mounted on this host, in words. */
function mountsOf({ erofs, fileBacked, loop, overlay }: KernelSupport): string {
  if (!erofs || !overlay) return `not possible: the kernel lacks ${erofs ? 'overlayfs' : 'EROFS'}`;
  if (fileBacked) return 'file-backed';
  return loop ? 'loop devices' : 'not possible: the kernel lacks loop devices';
}

/** How damage is found, in words. */
function integrityOf({ scrubInterval }: Config): string {
  const often = scrubInterval === 0 ? 'on demand' : `every ${Number((scrubInterval / HOUR).toPrecision(3))} h`;
  return `SHA-256, read again ${often}; fs-verity and dm-verity are not used`;
}

/** What identifies the store, made once. */
function storeId(db: Database): string {
  db.run(`INSERT OR IGNORE INTO fact (key, value) VALUES ('store id', ?)`, randomUUID());
  return db.get<{ value: string }>(`SELECT value FROM fact WHERE key = 'store id'`)?.value ?? '';
}
