import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { Application } from 'express';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Authorization } from '../../../src/daemon/api/authorization/authorization.ts';
import type { Handler } from '../../../src/daemon/api/listeners.ts';
import type { ApiParts, ImageOperations } from '../../../src/daemon/api/parts.ts';
import { createHandler } from '../../../src/daemon/api/server.ts';
import { wantsWebSocket } from '../../../src/daemon/api/upgrades.ts';
import { SystemInfo, type SystemConfig } from '../../../src/daemon/api/system-info.ts';
import { EventLog } from '../../../src/daemon/events/log.ts';
import { ping } from '../../../src/daemon/health/checks.ts';
import { Health } from '../../../src/daemon/health/health.ts';
import { Attestor } from '../../../src/daemon/images/attestations.ts';
import { DetachedPulls } from '../../../src/daemon/images/detached.ts';
import { ImageGc } from '../../../src/daemon/images/gc/gc.ts';
import type { GcPolicy } from '../../../src/daemon/images/gc/policy.ts';
import { imageHistory } from '../../../src/daemon/images/history.ts';
import { inspectImage } from '../../../src/daemon/images/inspect.ts';
import { layerReports } from '../../../src/daemon/images/layer-report.ts';
import { listImages } from '../../../src/daemon/images/list.ts';
import { parsePlatform } from '../../../src/daemon/images/platform.ts';
import { Pruner } from '../../../src/daemon/images/prune.ts';
import { imageReferrers } from '../../../src/daemon/images/referrers.ts';
import { ImageRemover } from '../../../src/daemon/images/remove.ts';
import { repositoriesOf } from '../../../src/daemon/images/store.ts';
import { searchImages } from '../../../src/daemon/images/search.ts';
import type { SweepParts } from '../../../src/daemon/images/sweep.ts';
import { Tagger } from '../../../src/daemon/images/tag.ts';
import type { Disk } from '../../../src/daemon/metadata/disk.ts';
import { DaemonMetrics } from '../../../src/daemon/metrics/daemon.ts';
import type { Registries } from '../../../src/daemon/registry/registry.ts';
import { ImageSets } from '../../../src/daemon/sets/sets.ts';
import { SetStore } from '../../../src/daemon/sets/store.ts';
import { Demands } from '../../../src/daemon/transfers/demand.ts';
import { TransferQueue, type TransferWork } from '../../../src/daemon/transfers/queue.ts';
import { Limits } from '../../../src/daemon/transfers/limits.ts';
import { Transfers } from '../../../src/daemon/transfers/transfers.ts';
import { noTracer } from '../../../src/daemon/tracing/tracer.ts';
import { diskUsage } from '../../../src/daemon/images/usage.ts';
import type { Freed } from '../../../src/daemon/content/garbage.ts';
import type { Digest } from '../../../src/protocol/digest.ts';
import type { RegistryReport } from '../../../src/protocol/engine.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { LIMITS } from '../events/limits.ts';
import { Archives } from '../images/archives.ts';
import { AMD64, ARM64, Fixture as Store } from '../images/fixture.ts';

/** The identity of the fixture's store. */
export const STORE_ID = '2b4d2a4e-6f3c-4a55-9d25-0d6ea3a6e2d3';

/** What is configured where nobody says. */
const NO_GC: GcPolicy = {
  highThreshold: undefined,
  lowThreshold: undefined,
  minimumAge: 120_000,
  maximumAge: undefined,
  localImages: false,
};

/** A line of the daemon's log. */
export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The registry side of the API, which each test says: what a registry answers is the test's input. */
export type Remote = Pick<
  ImageOperations,
  'pull' | 'push' | 'copy' | 'publish' | 'distribution' | 'remoteManifest' | 'verify'
> &
  Pick<Registries, 'logIn' | 'search' | 'referrers'>;

type Layers = Application['router']['stack'];

function routesOf(stack: Layers): string[] {
  return stack.flatMap(({ route, handle }) => {
    if (route === undefined) return 'stack' in handle ? routesOf(handle.stack as Layers) : [];
    const path = route.path.replace(/[*:](\w+)/g, '{$1}');
    return route.stack.map(({ method }) => `${method.toUpperCase()} ${path}`);
  });
}

/**
 * The API over a real store, database and log of events, on a Unix socket and on a loopback port. Only what would go to
 * a registry is the test's.
 */
export class Fixture implements AsyncDisposable {
  readonly store = new Store();
  readonly events = new EventLog({ db: this.store.db, limits: LIMITS });
  readonly sets = new SetStore({
    images: this.store.store,
    events: this.events,
    host: AMD64,
    now: () => this.store.now,
  });
  readonly archives = new Archives(this.store, this.events);
  readonly authorization = new Authorization({
    policy: undefined,
    repositoriesOf: (name) => repositoriesOf(this.store.store, name),
    log: { warn: () => undefined },
  });
  readonly lines: LogLine[] = [];
  readonly socket: string;
  /** The address of the loopback port, `http://127.0.0.1:1234`. */
  url = '';
  /** What registries answer. */
  remote: Remote = {
    pull: ({ reference }) => Promise.reject(new LayerdError('not-found', `no such image: ${reference.path}`)),
    push: ({ reference }) => Promise.reject(new LayerdError('not-found', `no such image: ${reference.path}`)),
    copy: ({ from }) => Promise.reject(new LayerdError('not-found', `no such image: ${from.path}`)),
    publish: ({ reference }) => Promise.reject(new LayerdError('not-found', `no such image: ${reference.path}`)),
    verify: ({ image = '' }) => Promise.reject(new LayerdError('not-found', `no such image: ${image}`)),
    remoteManifest: ({ path }) => Promise.reject(new LayerdError('not-found', `no such image: ${path}`)),
    distribution: ({ path }) => Promise.reject(new LayerdError('not-found', `no such image: ${path}`)),
    logIn: (registry) => Promise.reject(new LayerdError('unauthorized', `${registry} refused the credentials`)),
    search: () => Promise.resolve([]),
    referrers: () => Promise.resolve([]),
  };
  readonly demands = new Demands();
  /** Downloads, whose work the test says. */
  readonly downloads = new TransferQueue<string>({
    direction: 'download',
    concurrency: 3,
    repositoryOf: (_request, source) => source,
    work: (...work) => this.download(...work),
  });
  download: TransferWork<string> = () => Promise.resolve();
  readonly transfers = new Transfers({ queues: [this.downloads], demands: this.demands });
  readonly detached = new DetachedPulls({
    db: this.store.db,
    events: this.events,
    demands: this.demands,
    host: AMD64,
    log: { error: () => undefined },
    pull: (request) => this.remote.pull({ ...request, all: false }, () => undefined),
    // For ever, until it is woken.
    pause: (_milliseconds, signal) => sleep(2 ** 31 - 1, undefined, { signal }),
  });
  readonly limits = new Limits(
    {
      downloads: { total: 3, registries: {}, bandwidth: [] },
      uploads: { total: 5, registries: { 'registry.example.com': 2 }, bandwidth: [{ bytesPerSecond: 5 * 1024 ** 2 }] },
    },
    ({ downloads }) => (this.downloads.concurrency = downloads),
  );
  config: SystemConfig = { debug: false, insecureRegistries: [], mirrors: [], proxies: {} };
  registryReports: RegistryReport[] = [];
  /** How full the disk is. */
  disk: Disk = { capacity: 1_000_000_000, available: 500_000_000 };
  /** Who holds images, by the IDs that they are listed under. */
  readonly holders = new Map<Digest, readonly string[]>();
  readonly gc: ImageGc;
  readonly metrics = new DaemonMetrics({
    build: { version: '1.2.3', commit: 'abc1234', node_version: '26.0.0' },
    transfers: () => ({ waiting: 0, running: 0 }),
    events: () => ({ subscribers: this.events.subscribers, lag: this.events.lag, end: this.events.end }),
    disk: () => this.disk,
    sets: () => this.sets.counts(),
    stored: () => ({ images: 1, blobs: 2, blobBytes: 3, layers: 4, layerBytes: 5, damaged: 0 }),
  });
  /** The verbs of images, as the API calls them. */
  readonly images: ImageOperations;
  readonly sweep: SweepParts;
  readonly #directory = mkdtempSync(join(tmpdir(), 'layerd-api-'));
  readonly #servers: Server[] = [];
  #handler: Handler | undefined;

  private constructor() {
    this.socket = join(this.#directory, 'layerd.sock');
    const { content, collector, store } = this.store;
    const { events } = this;
    const { leases } = this.archives;
    const collect = (digests: Digest[]): Freed => collector.collect(digests);
    const remover = new ImageRemover({ store, events, collect, pins: this.sets });
    this.sweep = { store, remover, content, leases, collector };
    this.gc = new ImageGc(
      {
        ...this.sweep,
        events,
        holds: { holders: (id) => this.holders.get(id) ?? [] },
        log: { info: this.#record('info'), warn: this.#record('warn') },
        disk: () => this.disk,
        observe: (outcome) => this.metrics.collected(outcome),
      },
      NO_GC,
    );
    this.images = this.#operations();
  }

  static async start(parts: Partial<ApiParts> = {}): Promise<Fixture> {
    const fixture = new Fixture();
    const handler = createHandler({ ...fixture.#parts(), ...parts });
    const { request, upgrade } = handler;
    fixture.#handler = handler;
    const [unix, tcp] = [0, 1].map(() =>
      createServer({ shouldUpgradeCallback: wantsWebSocket }, request).on('upgrade', upgrade),
    ) as [Server, Server];
    fixture.#servers.push(unix, tcp);
    await new Promise<void>((resolve) => unix.listen(fixture.socket, resolve));
    await new Promise<void>((resolve) => tcp.listen(0, '127.0.0.1', resolve));
    fixture.url = `http://127.0.0.1:${(tcp.address() as AddressInfo).port}`;
    return fixture;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    }
    await this.detached.stop();
    await this.archives.close();
    this.store[Symbol.dispose]();
    rmSync(this.#directory, { recursive: true });
  }

  /** All routes there are, as `GET /layerd/images/{name}/layers`. */
  get routes(): string[] {
    const { router } = this.#handler?.request as Application;
    return routesOf(router.stack);
  }

  /** Two images that share a layer, one of them for two platforms and with an attestation, and a dangling one. */
  async fill(): Promise<void> {
    const { store } = this;
    const base = store.layer('base');
    const config = {
      author: 'somebody',
      config: {
        Cmd: ['redis-server'],
        Env: ['PATH=/bin'],
        Labels: { team: 'cache' },
        ExposedPorts: { '6379/tcp': {} },
      },
      history: [
        { created: '2025-01-01T00:00:00Z', created_by: 'ADD rootfs.tar /' },
        { created: '2025-01-02T00:00:00Z', created_by: 'CMD ["redis-server"]', empty_layer: true },
      ],
    };
    const redis = await store.manifest([base, store.layer('redis')], { config });
    const arm = await store.manifest([store.layer('redis arm')], { platform: ARM64 });
    const attestation = await store.attestation(redis);
    const target = await store.index([redis.descriptor, arm.descriptor, attestation.descriptor]);
    store.put('redis:7', [redis, attestation], { target });
    await store.image('localhost:5000/team/app:1.0', [base, store.layer('app')]);
    await store.image('debian:12', [base], { config: { created: '2024-01-01T00:00:00Z' } });
    await store.image('debian:12', [store.layer('newer base')]);
  }

  #operations(): ImageOperations {
    const { store, events } = this;
    const { content, collector, leases, remover } = this.sweep;
    const pruner = new Pruner({ ...this.sweep, holds: this.sets, events });
    const attestor = new Attestor({ content, leases, collector, store: store.store, host: AMD64 });
    const tagger = new Tagger({ store: store.store, events, onChange: () => undefined });
    return {
      list: (options) => listImages(store.store, options),
      inspect: (name, options) => inspectImage(store.store, name, options),
      history: (name, options) => imageHistory(store.store, name, options),
      remove: (name, options) => remover.remove(name, options),
      prune: (...request) => pruner.prune(...request),
      collect: (request) => this.gc.collect(request),
      usage: (options) => diskUsage({ store: store.store, content, layers: store.layers, leases }, options),
      tag: (name, reference) => tagger.tag(name, reference),
      save: (names, { platforms }) => this.archives.saver.save(names, platforms),
      load: (...request) => this.archives.loader.load(...request),
      import: (request, progress) =>
        this.archives.importer.import(
          {
            ...request,
            platform: request.platform === undefined ? undefined : parsePlatform(request.platform, AMD64),
          },
          (message) => void progress(message),
        ),
      attestations: (...request) => attestor.find(...request),
      referrers: (...request) => imageReferrers(store.store, this.remote, ...request),
      search: (request) => searchImages(this.remote, request),
      layers: (name) => layerReports(store.store, name),
      pull: (...request) => this.remote.pull(...request),
      push: (...request) => this.remote.push(...request),
      copy: (...request) => this.remote.copy(...request),
      publish: (...request) => this.remote.publish(...request),
      remoteManifest: (...request) => this.remote.remoteManifest(...request),
      distribution: (...request) => this.remote.distribution(...request),
      verify: (...request) => this.remote.verify(...request),
    };
  }

  #record(level: LogLine['level']) {
    return (message: string, fields: Readonly<Record<string, unknown>> = {}): number =>
      this.lines.push({ level, message, fields });
  }

  #parts(): ApiParts {
    const { store, events } = this;
    return {
      version: '1.2.3',
      metrics: this.metrics,
      tracer: noTracer,
      health: { livez: new Health([ping]), readyz: new Health([ping]) },
      log: {
        within: (_fields, work) => work(),
        debug: this.#record('debug'),
        warn: this.#record('warn'),
        error: this.#record('error'),
      },
      images: this.images,
      events,
      transfers: this.transfers,
      detached: this.detached,
      limits: {
        get: () => this.limits.current,
        change: (limits, attributes) => {
          this.limits.current = limits;
          events.append({ type: 'daemon', action: 'limit', actor: STORE_ID, attributes });
        },
      },
      sets: new ImageSets({ sets: this.sets, host: AMD64, onPut: () => undefined, onDelete: () => undefined }),
      storeId: STORE_ID,
      authorization: this.authorization,
      system: new SystemInfo({
        version: '1.2.3',
        gitCommit: 'abc1234',
        buildTime: '2026-01-01T00:00:00Z',
        id: STORE_ID,
        dataRoot: store.root,
        config: () => this.config,
        images: () => store.db.get<{ count: number }>('SELECT count(*) AS count FROM image')?.count ?? 0,
        eventSubscribers: () => events.subscribers,
      }),
      registries: {
        reports: () => this.registryReports,
        logIn: (...request) => this.remote.logIn(...request),
      },
      hostNames: ['layerd.example.org'],
    };
  }
}
