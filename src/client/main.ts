import { runCli } from './cli.ts';
import { Exit } from './commands/command.ts';
import { Interruption } from './interruption.ts';

const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // Whoever asks twice does not want to wait for a tidy end.
    if (interruption.signal.aborted) process.exit(Exit.interrupted);
    interruption.abort(new Interruption(signal));
  });
}

process.exitCode = await runCli(process.argv.slice(2), {
  stdin: () => process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  signal: interruption.signal,
  uid: process.getuid?.() ?? 0,
  now: () => Date.now(),
});
