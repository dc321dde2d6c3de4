import { mkdir, writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Namespace } from './namespace.ts';
import { run, Running, scratch, type Outcome, type StartOptions } from './process.ts';

/** The project's root. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LAYERD = join(ROOT, 'bin/layerd');
const LAYERCTL = join(ROOT, 'bin/layerctl');
/** No client of a test takes this long. */
const CLIENT_TIMEOUT_MS = 30_000;
/** How long a daemon may take until it answers. */
const START_TIMEOUT_MS = 30_000;

export interface DaemonOptions {
  /** More flags. */
  readonly args?: readonly string[];
  /** What daemon.json says. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Default: `data` in a temporary folder. */
  readonly dataRoot?: string;
  /** Run it inside. */
  readonly namespace?: Namespace;
}

export interface ApiResponse {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  json<T = unknown>(): T;
}

export interface ApiRequest {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
  readonly signal?: AbortSignal;
}

/** The built daemon on a socket, data root and exec root of its own. */
export class Daemon implements AsyncDisposable {
  readonly #options: DaemonOptions;
  readonly #resources: AsyncDisposableStack;
  readonly dir: string;
  readonly dataRoot: string;
  readonly socket: string;
  readonly pidfile: string;
  readonly configFile: string;
  /** Environment that points the docker CLI, layerctl and skopeo at this daemon. */
  readonly env: Readonly<Record<string, string>>;
  #running: Running | undefined;

  private constructor(options: DaemonOptions, dir: string, resources: AsyncDisposableStack) {
    this.#options = options;
    this.#resources = resources;
    this.dir = dir;
    this.dataRoot = options.dataRoot ?? join(dir, 'data');
    this.socket = join(dir, 'layerd.sock');
    this.pidfile = join(dir, 'layerd.pid');
    this.configFile = join(dir, 'daemon.json');
    this.env = {
      DOCKER_HOST: `unix://${this.socket}`,
      LAYERD_HOST: `unix://${this.socket}`,
      DOCKER_CONFIG: join(dir, 'docker'),
      HOME: dir,
    };
  }

  static async prepare(options: DaemonOptions = {}): Promise<Daemon> {
    await using cleanup = new AsyncDisposableStack();
    const { path } = cleanup.use(await scratch('daemon'));
    await mkdir(join(path, 'docker'));
    await writeFile(join(path, 'daemon.json'), JSON.stringify(options.config ?? {}));
    return new Daemon(options, path, cleanup.move());
  }

  /** The flags that it is started with. */
  get args(): string[] {
    const { dir, socket, dataRoot, pidfile, configFile } = this;
    const places = ['--data-root', dataRoot, '--exec-root', join(dir, 'exec'), '--pidfile', pidfile];
    return ['-H', `unix://${socket}`, ...places, '--config-file', configFile, ...(this.#options.args ?? [])];
  }

  /** The process, for its log and PID. */
  get process(): Running {
    if (this.#running === undefined) throw new Error('the daemon was not started');
    return this.#running;
  }

  /** Starts the process without waiting for anything. */
  launch(): Running {
    const { namespace, env } = this.#options;
    const commandLine = namespace?.enter(LAYERD, this.args) ?? ([LAYERD, this.args] as const);
    this.#running = new Running(...commandLine, { env: { ...this.env, ...env } });
    return this.#running;
  }

  /** Starts it and waits until it answers `_ping`, asking so often. */
  async start(intervalMs = 20): Promise<void> {
    const running = this.launch();
    let ended: Outcome | undefined;
    running.exited.then(
      (outcome) => (ended = outcome),
      () => undefined,
    );
    for (const deadline = Date.now() + START_TIMEOUT_MS; ;) {
      if (
        await this.request('/_ping').then(
          ({ status }) => status === 200,
          () => false,
        )
      )
        return;
      if (ended !== undefined) throw new Error(`layerd exited with ${ended.code}:\n${ended.stdout}${ended.stderr}`);
      if (Date.now() > deadline) throw new Error(`layerd does not answer:\n${running.stdout}${running.stderr}`);
      await sleep(intervalMs);
    }
  }

  /** Ends it with the signal. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<Outcome> {
    return this.process.kill(signal);
  }

  /** Ends it cleanly if it runs, and starts it again on the same data root. */
  async restart(): Promise<void> {
    await this.kill('SIGTERM');
    await this.start();
  }

  /** Ends it and removes everything. */
  async stop(): Promise<void> {
    await this.#running?.[Symbol.asyncDispose]();
    await this.#resources.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Everything it has logged since it was last started. */
  get log(): string {
    return this.process.stdout + this.process.stderr;
  }

  async docker(...args: string[]): Promise<Outcome> {
    return this.run('docker', args);
  }

  async layerctl(...args: string[]): Promise<Outcome> {
    return this.run(LAYERCTL, args);
  }

  /** Runs a command in the project's root, with the environment that points it at this daemon. */
  async run(command: string, args: readonly string[], options: StartOptions = {}): Promise<Outcome> {
    return run(command, args, {
      cwd: ROOT,
      timeoutMs: CLIENT_TIMEOUT_MS,
      ...options,
      env: { ...this.env, ...options.env },
    });
  }

  /** Starts a client that goes on by itself, such as `docker events`. */
  client(command: 'docker' | 'layerctl', ...args: string[]): Running {
    return new Running(command === 'docker' ? 'docker' : LAYERCTL, args, { env: this.env });
  }

  /** A request to the API over the socket, with its whole answer. */
  async request(path: string, options: ApiRequest = {}): Promise<ApiResponse> {
    const response = await this.open(path, options);
    let body = '';
    for await (const text of response.setEncoding('utf8')) body += text as string;
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      body,
      json: <T>() => JSON.parse(body) as T,
    };
  }

  /** A request whose answer is a stream of JSON lines, such as a pull. */
  async *lines<T = Record<string, unknown>>(path: string, options: ApiRequest = {}): AsyncGenerator<T> {
    const response = await this.open(path, options);
    let rest = '';
    for await (const text of response.setEncoding('utf8')) {
      const pieces = (rest + (text as string)).split('\n');
      rest = pieces.pop() ?? '';
      for (const piece of pieces) if (piece.trim() !== '') yield JSON.parse(piece) as T;
    }
    if (rest.trim() !== '') yield JSON.parse(rest) as T;
  }

  /** A request whose answer has begun. */
  async open(path: string, options: ApiRequest = {}): Promise<IncomingMessage> {
    const { method = 'GET', headers = {}, body, signal } = options;
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        { socketPath: this.socket, path, method, headers, ...(signal === undefined ? {} : { signal }) },
        resolve,
      );
      request.on('error', reject).end(body);
    });
  }
}

/** Starts a daemon and waits until it answers. */
export async function startDaemon(options: DaemonOptions = {}): Promise<Daemon> {
  const daemon = await Daemon.prepare(options);
  try {
    await daemon.start();
  } catch (error) {
    await daemon.stop();
    throw error;
  }
  return daemon;
}
