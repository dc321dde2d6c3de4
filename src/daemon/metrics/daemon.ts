import { expose, type Exposition } from './exposition.ts';
import { Counter, Gauge, Histogram, type Labels, type Metric } from './metric.ts';
import { processMetrics } from './process.ts';

/** Seconds. */
const TURNS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
const REQUESTS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const MOVEMENTS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800];

/** Registries that are told apart; the names of all others are a client's to make up, each of which would stay for ever. */
const MAX_REGISTRIES = 32;
const OTHER = 'other';

/** Methods that are told apart, for the same reason. */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE']);

export type Direction = 'download' | 'upload';

/** What is read when somebody asks. */
export interface Readings {
  /** Labels of the build. */
  readonly build: Labels;
  /** Transfers that wait and that run. */
  transfers(direction: Direction): { readonly waiting: number; readonly running: number };
  /** Subscribers of the log of events, how many events the slowest one is behind, and the log's last sequence number. */
  events(): { readonly subscribers: number; readonly lag: number; readonly end: number };
  /** What is stored. */
  stored(): Readonly<Record<'images' | 'blobs' | 'blobBytes' | 'layers' | 'layerBytes' | 'damaged', number>>;
  /** The disk of the data root, in bytes. */
  disk(): { readonly capacity: number; readonly available: number };
  /** How many image sets there are, as `all`, and of how many each condition is true. */
  sets(): ReadonlyMap<string, number>;
}

/** All metrics of the daemon. Parts tell it what they did, each through a function of its own; none of them knows it. */
export class DaemonMetrics {
  readonly #registries = new Set<string>();
  /** Apart, since a registry may redirect to hosts of its making. */
  readonly #hosts = new Set<string>();
  readonly #inFlight = { count: 0 };
  readonly #requests = new Counter<'method' | 'route' | 'status'>({
    name: 'layerd_http_requests',
    help: 'Requests of clients that were answered.',
  });
  readonly #requestDurations = new Histogram<'method' | 'route'>({
    name: 'layerd_http_request_duration_seconds',
    help: 'Time until an answer was complete; of streams, until they ended.',
    bounds: REQUESTS,
  });
  readonly #operations = new Counter<'operation' | 'result'>({
    name: 'layerd_operations',
    help: 'Operations on images that ended, by what came of them: ok, or the kind of error.',
  });
  readonly #operationDurations = new Histogram<'operation'>({
    name: 'layerd_operation_duration_seconds',
    help: 'Time that operations on images took.',
    bounds: MOVEMENTS,
  });
  readonly #transfers = new Counter<'direction' | 'registry' | 'result'>({
    name: 'layerd_transfers',
    help: 'Transfers of blobs that ended.',
  });
  readonly #transferBytes = new Counter<'direction' | 'registry'>({
    name: 'layerd_transfer_bytes',
    help: 'Bytes of blobs moved, those of attempts that failed included.',
  });
  readonly #transferDurations = new Histogram<'direction'>({
    name: 'layerd_transfer_duration_seconds',
    help: 'Time from the start of a transfer to its end, without its wait in the queue.',
    bounds: MOVEMENTS,
  });
  readonly #remote = new Counter<'host' | 'status'>({
    name: 'layerd_registry_requests',
    help: 'Attempts at requests to registries and where they redirect to, by class of status; none where no answer came.',
  });
  readonly #events = new Counter<'type'>({ name: 'layerd_events_appended', help: 'Events appended to the log.' });
  readonly #reclaimed = new Counter<'kind'>({ name: 'layerd_reclaimed_objects', help: 'Blobs and layers deleted.' });
  readonly #reclaimedBytes = new Counter({
    name: 'layerd_reclaimed_bytes',
    help: 'Bytes of the disk freed by deleting blobs, layers and interrupted transfers.',
  });
  readonly #collections = new Counter<'trigger' | 'result'>({
    name: 'layerd_image_gc_runs',
    help: 'Collections of images that ended, by what had them run and what came of them.',
  });
  readonly #collectedImages = new Counter<'trigger'>({
    name: 'layerd_image_gc_removed_images',
    help: 'Images that collections removed.',
  });
  readonly #collectedBytes = new Counter<'trigger'>({
    name: 'layerd_image_gc_reclaimed_bytes',
    help: 'Bytes of the disk that collections of images freed.',
  });
  /** Unix seconds. */
  #lastCollection: number | undefined;
  readonly #delays = new Histogram({
    name: 'layerd_event_loop_delay_seconds',
    help: 'How late a timer of every half second came.',
    bounds: TURNS,
  });
  readonly #metrics: readonly Metric[];

  constructor(readings: Readings) {
    const directions = ['download', 'upload'] as const;
    const gauge = (name: string, help: string, read: () => readonly (readonly [Labels, number])[]): Gauge =>
      new Gauge({ name, help, read });
    this.#metrics = [
      gauge('layerd_build_info', 'What runs; always 1.', () => [[readings.build, 1]]),
      this.#requests,
      this.#requestDurations,
      gauge('layerd_http_requests_in_flight', 'Requests of clients under way.', () => [[{}, this.#inFlight.count]]),
      this.#operations,
      this.#operationDurations,
      this.#transfers,
      this.#transferBytes,
      this.#transferDurations,
      gauge('layerd_transfers_waiting', 'Transfers in the queue.', () =>
        directions.map((direction) => [{ direction }, readings.transfers(direction).waiting] as const),
      ),
      gauge('layerd_transfers_running', 'Transfers under way.', () =>
        directions.map((direction) => [{ direction }, readings.transfers(direction).running] as const),
      ),
      this.#remote,
      this.#events,
      gauge('layerd_events_last_sequence', 'Sequence number of the last event.', () => [[{}, readings.events().end]]),
      gauge('layerd_event_subscribers', 'Subscribers of the log of events.', () => [
        [{}, readings.events().subscribers],
      ]),
      gauge('layerd_event_subscriber_lag_events', 'Events that the slowest subscriber has not taken yet.', () => [
        [{}, readings.events().lag],
      ]),
      gauge('layerd_stored_objects', 'What is stored, by kind.', () => {
        const { images, blobs, layers } = readings.stored();
        return [
          [{ kind: 'image' }, images],
          [{ kind: 'blob' }, blobs],
          [{ kind: 'layer' }, layers],
        ];
      }),
      gauge('layerd_stored_bytes', 'Bytes of what is stored: blobs, and the EROFS images of layers.', () => {
        const { blobBytes, layerBytes } = readings.stored();
        return [
          [{ kind: 'blob' }, blobBytes],
          [{ kind: 'layer' }, layerBytes],
        ];
      }),
      gauge('layerd_damaged_objects', 'Blobs and layers that were found damaged, and not repaired yet.', () => [
        [{}, readings.stored().damaged],
      ]),
      gauge('layerd_disk_capacity_bytes', 'Bytes of the disk of the data root.', () => [
        [{}, readings.disk().capacity],
      ]),
      gauge('layerd_disk_available_bytes', 'Bytes of that disk that are available.', () => [
        [{}, readings.disk().available],
      ]),
      gauge('layerd_image_sets', 'Image sets.', () => [[{}, readings.sets().get('all') ?? 0]]),
      gauge('layerd_image_set_conditions', 'Image sets of which a condition is true.', () =>
        [...readings.sets()].flatMap(([condition, count]) =>
          condition === 'all' ? [] : [[{ condition: condition.toLowerCase() }, count] as const],
        ),
      ),
      this.#reclaimed,
      this.#reclaimedBytes,
      this.#collections,
      this.#collectedImages,
      this.#collectedBytes,
      gauge('layerd_image_gc_last_run_timestamp_seconds', 'When the last collection of images ended.', () =>
        this.#lastCollection === undefined ? [] : [[{}, this.#lastCollection]],
      ),
      this.#delays,
      ...processMetrics(),
    ];
  }

  /** All of them as text. */
  expose(form: Exposition): string {
    return expose(this.#metrics, form);
  }

  /** A request of a client has begun; call the result once it is answered. `route`: its template, never its path. */
  requested(): (answer: { method: string; route: string; status: number }) => void {
    const began = performance.now();
    this.#inFlight.count += 1;
    return (answer) => {
      this.#inFlight.count -= 1;
      const { route, status } = answer;
      const method = METHODS.has(answer.method) ? answer.method : OTHER;
      this.#requests.add({ method, route, status: String(status) });
      this.#requestDurations.observe({ method, route }, (performance.now() - began) / 1000);
    };
  }

  /** An operation on images has ended. */
  operated(operation: string, result: string, seconds: number): void {
    this.#operations.add({ operation, result });
    this.#operationDurations.observe({ operation }, seconds);
  }

  /** A transfer has moved some bytes. */
  moved(direction: Direction, registry: string, bytes: number): void {
    this.#transferBytes.add({ direction, registry: this.#registry(registry) }, bytes);
  }

  /** A transfer has ended. */
  transferred(direction: Direction, registry: string, result: string, seconds: number): void {
    this.#transfers.add({ direction, registry: this.#registry(registry), result });
    this.#transferDurations.observe({ direction }, seconds);
  }

  /** A registry was asked something. */
  asked(host: string, status: number | undefined): void {
    this.#remote.add({ host: bounded(this.#hosts, host), status: statusClass(status) });
  }

  /** An event is in the log. */
  appended(type: string): void {
    this.#events.add({ type });
  }

  /** Space was freed. */
  freed({ blobs, layers, bytes }: { blobs: readonly unknown[]; layers: readonly unknown[]; bytes: number }): void {
    this.#reclaimed.add({ kind: 'blob' }, blobs.length);
    this.#reclaimed.add({ kind: 'layer' }, layers.length);
    this.#reclaimedBytes.add({}, bytes);
  }

  /** A collection of images has ended. */
  collected(collection: { trigger: string; result: string; removed: number; bytes: number }): void {
    const { trigger, result, removed, bytes } = collection;
    this.#collections.add({ trigger, result });
    this.#collectedImages.add({ trigger }, removed);
    this.#collectedBytes.add({ trigger }, bytes);
    this.#lastCollection = Date.now() / 1000;
  }

  /** The event loop was so late, in seconds. */
  delayed(seconds: number): void {
    this.#delays.observe({}, seconds);
  }

  #registry(name: string): string {
    return bounded(this.#registries, name);
  }
}

/** The name if it is one of the first, else that of all others. */
function bounded(names: Set<string>, name: string): string {
  if (names.size < MAX_REGISTRIES) names.add(name);
  return names.has(name) ? name : OTHER;
}

/** 429 is told apart, since it asks for something. */
function statusClass(status: number | undefined): string {
  if (status === undefined) return 'none';
  return status === 429 ? '429' : `${Math.floor(status / 100)}xx`;
}
