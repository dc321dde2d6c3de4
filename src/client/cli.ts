import type { Writable } from 'node:stream';
import { LayerdError, messageOf } from '../protocol/errors.ts';
import { Exit, type Context, type ExitStatus, type Run } from './commands/command.ts';
import { configDirectoryFrom, connect, type GlobalOptions } from './connect.ts';
import { ConnectionError, EngineError } from './errors.ts';
import { Interruption } from './interruption.ts';
import { Output } from './output.ts';
import { parseCommandLine, type Request } from './program.ts';

/** What a run of layerctl has of the world. */
export interface Surroundings {
  readonly stdin: Context['input'];
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly env: NodeJS.ProcessEnv;
  /** Aborted with an {@link Interruption} when the run shall stop. */
  readonly signal: AbortSignal;
  readonly uid: number;
  /** Unix milliseconds. */
  readonly now: () => number;
}

/** Runs one command line, the words after the program's name. Resolves with the exit status and never rejects. */
export async function runCli(argv: readonly string[], around: Surroundings): Promise<ExitStatus> {
  const out = new Output(around.stdout, around.env);
  const err = new Output(around.stderr, around.env);
  let isDebug = false;
  try {
    if (argv[0] === '__complete') return await answerShell(argv.slice(1), out, around);
    const request = parseCommandLine(argv, out);
    if (request.type === 'text') {
      await out.write(request.text);
      return Exit.ok;
    }
    if (request.type === 'usage') {
      await err.write(request.text);
      return Exit.usage;
    }
    isDebug = request.globals.debug === true;
    return await perform(request, out, err, around);
  } catch (error) {
    return await report(error, err, isDebug);
  }
}

async function perform(
  { command, args, options, globals }: Extract<Request, { type: 'run' }>,
  out: Output,
  err: Output,
  { stdin: input, env, signal, uid, now }: Surroundings,
): Promise<ExitStatus> {
  const client = await connect(globals, env, uid);
  const configDirectory = configDirectoryFrom(globals, env);
  const context: Context = { client, out, err, input, env, signal, configDirectory, now };
  try {
    // The parser names options as the table's flags do, and each command's own type lists the same names.
    const run = (await command.load()) as Run<Readonly<Record<string, unknown>>>;
    return await run(context, args, options);
  } finally {
    client.close();
  }
}

async function answerShell(words: readonly string[], out: Output, { env, uid }: Surroundings): Promise<ExitStatus> {
  const { complete } = await import('./commands/complete.ts');
  const completion = await complete(words, (globalWords) => connect(globalsOf(globalWords, out), env, uid));
  const lines =
    completion.type === 'words' ? completion.words.map(([word, description]) => `${word}\t${description}`) : [];
  await out.lines([completion.type, ...lines]);
  return Exit.ok;
}

/** The options that a command line would have with a command after them. */
function globalsOf(words: readonly string[], out: Output): GlobalOptions {
  const request = parseCommandLine([...words, 'ping'], out);
  return request.type === 'run' ? request.globals : {};
}

/** Tells the user what went wrong, in one line, and gives the exit status for it. */
async function report(error: unknown, err: Output, isDebug: boolean): Promise<ExitStatus> {
  if (error instanceof Interruption) return error.exitStatus;
  // Whoever read the output has read enough: nobody is left to tell, and no reason to complain.
  if (error instanceof Error && 'code' in error && error.code === 'EPIPE' && !(error instanceof EngineError)) {
    return Exit.brokenPipe;
  }
  try {
    await err.line(`layerctl: ${await describe(error)}`);
    if (isDebug && error instanceof Error) await err.line(error.stack ?? '');
  } catch {
    // Standard error is closed as well; the exit status is all that can be said.
  }
  return isUsage(error) ? Exit.usage : Exit.failure;
}

async function describe(error: unknown): Promise<string> {
  if (error instanceof ConnectionError) {
    const { explain } = await import('./explain.ts');
    return explain(error);
  }
  if (error instanceof LayerdError) return error.message;
  return `unexpected error: ${messageOf(error)}`;
}

/** What layerctl itself finds invalid was on its command line; what the daemon does, was in the world. */
function isUsage(error: unknown): boolean {
  return error instanceof LayerdError && error.kind === 'invalid' && !(error instanceof EngineError);
}
