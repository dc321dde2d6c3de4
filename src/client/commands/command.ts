import type { Readable } from 'node:stream';
import type { LayerdClient } from '../engine.ts';
import type { Output } from '../output.ts';

/** What a command works with. */
export interface Context {
  readonly client: LayerdClient;
  readonly out: Output;
  readonly err: Output;
  /** Standard input, opened once it is asked for. */
  readonly input: () => Readable & { readonly isTTY?: boolean };
  readonly env: NodeJS.ProcessEnv;
  /** Aborted when the user interrupts. */
  readonly signal: AbortSignal;
  /** Directory of docker's client configuration. */
  readonly configDirectory: string;
  /** Unix milliseconds. */
  readonly now: () => number;
}

/** Does the work; resolves with the exit status. */
export type Run<Options> = (context: Context, args: readonly string[], options: Options) => Promise<ExitStatus>;

/** The exit statuses of layerctl. */
export const Exit = {
  ok: 0,
  /** What was asked for failed, in part or whole. */
  failure: 1,
  /** The command line cannot be understood. */
  usage: 2,
  /** Stopped by SIGINT. */
  interrupted: 130,
  /** The reader of the output went away. */
  brokenPipe: 141,
  /** Stopped by SIGTERM. */
  terminated: 143,
} as const;
export type ExitStatus = (typeof Exit)[keyof typeof Exit];

/** What a word on the command line can be completed with. */
export type Completes = 'image' | 'set' | 'transfer' | 'pull' | 'file' | 'directory' | readonly string[];

export interface OptionSpec {
  /** As `-f, --filter <KEY=VALUE>`; without a value it is a switch. */
  readonly flags: string;
  readonly description: string;
  readonly repeatable?: true;
  /** A switch that is on unless `=false` is given. */
  readonly on?: true;
  readonly completes?: Completes;
}

export interface ArgumentSpec {
  readonly name: string;
  readonly description: string;
  readonly optional?: true;
  readonly variadic?: true;
  readonly completes?: Completes;
}

/** A command as help, parsing and completion know it. */
export interface CommandSpec {
  /** The ways to call it: `images`, `image ls`; the first is the one that help shows. */
  readonly paths: readonly [string, ...string[]];
  readonly group: string;
  readonly summary: string;
  readonly description?: string;
  readonly args: readonly ArgumentSpec[];
  readonly options: readonly OptionSpec[];
  /** Command lines with what they do. */
  readonly examples: readonly (readonly [commandLine: string, meaning: string])[];
  /** Loads the code, so that a command starts without that of the others. */
  load(): Promise<Run<never>>;
}
