import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** What a finished command left behind. */
export interface Outcome {
  /** Exit code; -1 after a signal. */
  readonly code: number;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface StartOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly input?: string;
  /** The command is killed after so long, so that one that hangs fails its test and not the whole run. */
  readonly timeoutMs?: number;
}

/** A command on its way. Its output is kept; whoever waits for a part of it is told as soon as it is there. */
export class Running implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly exited: Promise<Outcome>;
  stdout = '';
  stderr = '';
  #waiting = new Set<() => void>();
  #done = false;

  constructor(command: string, args: readonly string[], options: StartOptions = {}) {
    // The kernel kills the command when this process dies, however it dies: no test leaves one behind.
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], {
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.#tell();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.#tell();
    });
    // A command that exits without reading its input is no failure of the test.
    this.child.stdin?.on('error', () => undefined);
    this.child.stdin?.end(options.input ?? '');
    const { timeoutMs } = options;
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => this.child.kill('SIGKILL'), timeoutMs);
    this.exited = new Promise((resolve, reject) => {
      this.child.on('error', reject);
      this.child.on('close', (code, signal) => {
        clearTimeout(timer);
        this.#done = true;
        resolve({ code: code ?? -1, signal, stdout: this.stdout, stderr: this.stderr });
        this.#tell();
      });
    });
    // Whoever never waits for the end still must not crash the test process.
    this.exited.catch(() => undefined);
  }

  /** Waits until the condition holds for what was written so far; rejects when the command ends before. */
  async until(what: string, condition: (running: this) => boolean, timeoutMs = 20_000): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string): void =>
        reject(new Error(`waited for ${what}: ${why}\nstdout: ${this.stdout}\nstderr: ${this.stderr}`));
      const check = (): void => {
        if (condition(this)) resolve();
        else if (this.#done) fail('the command ended');
        else return;
        this.#waiting.delete(check);
      };
      this.#waiting.add(check);
      timer = setTimeout(() => {
        this.#waiting.delete(check);
        fail(`nothing after ${timeoutMs} ms`);
      }, timeoutMs);
      check();
    }).finally(() => clearTimeout(timer));
  }

  /** Sends a signal and waits for the end. */
  async kill(signal: NodeJS.Signals = 'SIGTERM'): Promise<Outcome> {
    this.child.kill(signal);
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#done) await this.kill('SIGKILL').catch(() => undefined);
  }

  #tell(): void {
    for (const check of [...this.#waiting]) check();
  }
}

/** Runs a command to its end. Never throws for its exit code; throws when it cannot be started. */
export async function run(command: string, args: readonly string[], options: StartOptions = {}): Promise<Outcome> {
  return new Running(command, args, options).exited;
}

/** Runs a command that must succeed, and returns what it wrote to standard output. */
export async function must(command: string, args: readonly string[], options: StartOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, options);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} exited with ${code}: ${stderr || stdout}`);
  return stdout;
}

/** Where the command is. */
export function find(command: string): string | undefined {
  // Debian keeps administrators' commands out of other users' PATH.
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders
    .map((folder) => join(folder, command))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Whether the command is installed. */
export function has(command: string): boolean {
  return find(command) !== undefined;
}

/**
 * What is missing for a test, as the reason for node:test's `skip`; false when nothing is. `root` asks for the user.
 * Example: `describe('…', { skip: needs('docker', 'docker-registry') }, …)`.
 */
export function needs(...requirements: string[]): string | false {
  const missing = requirements.filter((name) => (name === 'root' ? process.getuid?.() !== 0 : !has(name)));
  return missing.length === 0 ? false : `needs ${missing.join(', ')}`;
}

/** A temporary folder that goes away with its owner. */
export interface Scratch extends AsyncDisposable {
  readonly path: string;
}

export async function scratch(name: string): Promise<Scratch> {
  const path = await mkdtemp(join(tmpdir(), `layerd-test-${name}-`));
  return {
    path,
    async [Symbol.asyncDispose]() {
      await rm(path, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}
