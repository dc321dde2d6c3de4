import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { runCli } from '../../src/client/cli.ts';
import type { ExitStatus } from '../../src/client/commands/command.ts';
import type { Outcome } from '../support/process.ts';

/** A request as the scripted engine saw it, its path without the version. */
export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly version: string | undefined;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  /** The whole body. */
  readonly body: () => Promise<string>;
}

export interface ScriptedEngine {
  readonly host: string;
  readonly seen: Seen[];
  /** Connections accepted so far. */
  readonly connections: () => number;
}

/** Answers a request; what it does not answer is a 404 in the engine's form. */
export type Script = (request: Seen, response: ServerResponse) => void | Promise<void>;

export async function temporaryDirectory(context: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'layerctl-test-'));
  context.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** An HTTP server on a unix socket that answers as a script says: for the faults and forms a real engine will not show. */
export async function scriptedEngine(
  context: TestContext,
  script: Script,
  apiVersion = '1.56',
): Promise<ScriptedEngine> {
  const socketPath = join(await temporaryDirectory(context), 'engine.sock');
  const seen: Seen[] = [];
  let connections = 0;
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://engine');
    const [, version, path = ''] = /^(?:\/v([\d.]+))?(\/.*)$/.exec(url.pathname) ?? [];
    const { method = '', headers } = request;
    const call: Seen = {
      method,
      path: decodeURIComponent(path),
      version,
      query: url.searchParams,
      headers,
      body: () => text(request),
    };
    if (path === '/_ping') {
      response.writeHead(200, { 'Api-Version': apiVersion, Ostype: 'linux', Server: 'scripted' }).end();
      return;
    }
    seen.push(call);
    void Promise.resolve(script(call, response)).then(() => {
      // A script that neither wrote nor ended knows nothing of the request.
      if (!response.headersSent && !response.destroyed) json(response, { message: 'page not found' }, 404);
    });
  });
  server.on('connection', () => (connections += 1));
  server.listen(socketPath);
  await once(server, 'listening');
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { host: `unix://${socketPath}`, seen, connections: () => connections };
}

export function json(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

/** Writes each message as a line of its own. */
export function stream(response: ServerResponse, messages: readonly unknown[]): void {
  response.writeHead(200, { 'Content-Type': 'application/json' });
  for (const message of messages) response.write(`${JSON.stringify(message)}\r\n`);
  response.end();
}

/** A stream that keeps what is written, and may say it is a terminal. */
export class Capture extends Writable {
  text = '';
  writes = 0;
  readonly isTTY: boolean;
  columns = 80;
  rows = 24;

  constructor(isTTY = false) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
  }

  override _write(chunk: string, _encoding: string, done: (error?: Error) => void): void {
    this.text += chunk;
    this.writes += 1;
    done();
  }
}

export interface CliResult {
  readonly status: ExitStatus;
  readonly out: string;
  readonly err: string;
}

export interface CliOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
  readonly stdout?: Writable;
  readonly stdin?: Readable & { isTTY?: boolean };
  readonly now?: number;
}

/** Runs layerctl within this process. */
export async function layerctl(argv: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const stdout = new Capture();
  const stderr = new Capture();
  const status = await runCli(argv, {
    stdin: () => options.stdin ?? Readable.from([]),
    stdout: options.stdout ?? stdout,
    stderr,
    env: { DOCKER_CONFIG: '/nonexistent', ...options.env },
    signal: options.signal ?? new AbortController().signal,
    uid: 0,
    now: () => options.now ?? Date.parse('2026-01-15T12:00:00Z'),
  });
  return { status, out: stdout.text, err: stderr.text };
}

/** Runs it within this process against a daemon: for tests that call it often, of what the daemon does. */
export async function layerctlAt(env: NodeJS.ProcessEnv, args: readonly string[]): Promise<Outcome> {
  const { status, out, err } = await layerctl(args, { env });
  return { code: status, signal: null, stdout: out, stderr: err };
}
