import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { messageOf } from '../protocol/errors.ts';
import { takePassedSockets } from './api/activation.ts';
import { tlsFiles, type Config, type Surroundings } from './config/config.ts';
import { parseCommandLine } from './config/flags.ts';
import { loadConfig } from './config/load.ts';
import type { Daemon } from './daemon.ts';
import type { Log } from './log.ts';

/** Exit status after an error, as shells and systemd expect it; a clean stop has 0. */
const FAILURE = 1;

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** As dockerd sets it, so that directories get the modes they are created with, whoever started the daemon. */
process.umask(0o022);

try {
  const surroundings: Surroundings = { root: process.geteuid?.() === 0, env: { ...process.env }, home: homedir() };
  const commandLine = parseCommandLine(process.argv.slice(2), version);
  if (commandLine.action === 'print') {
    process.stdout.write(commandLine.text);
  } else {
    const load = () => loadConfig(commandLine.flags, commandLine.configFile, surroundings);
    const config = load();
    if (commandLine.action === 'validate') await validate(config);
    else if (commandLine.action === 'rebuild') await rebuild(config);
    else await run(config, load);
  }
} catch (error) {
  // One line, whatever the message quotes.
  process.stderr.write(`layerd: ${messageOf(error).replace(/\s+/g, ' ')}\n`);
  process.exit(FAILURE);
}

/** Checks what a start would find wrong with a configuration that is right in itself, and says that all is well. */
async function validate(config: Config): Promise<void> {
  const [{ Listeners }, { readPolicy }] = await Promise.all([
    import('./api/listeners.ts'),
    import('./api/authorization/policy.ts'),
  ]);
  if (config.authorizationPolicy !== undefined) readPolicy(config.authorizationPolicy);
  await Listeners.check({ hosts: config.hosts, group: config.group, tls: tlsFiles(config) });
  const [{ checkSetFiles }, { hostPlatform }] = await Promise.all([
    import('./sets/files.ts'),
    import('./images/platform.ts'),
  ]);
  await checkSetFiles(config.imageSetsDir, hostPlatform());
  if (config.signaturePolicy !== undefined) {
    const { SignaturePolicy } = await import('./signatures/policy.ts');
    await SignaturePolicy.load(config.signaturePolicy);
  }
  process.stdout.write('configuration OK\n');
}

/** Makes the metadata again, and says what came of it. */
async function rebuild(config: Config): Promise<void> {
  const [{ rebuildMetadata }, { DaemonLog }] = await Promise.all([import('./rebuild.ts'), import('./log.ts')]);
  const log = new DaemonLog({ level: config.logLevel, format: config.logFormat, journal: false });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => stop.abort(new Error(`interrupted by ${signal}: nothing was changed`)));
  }
  const { images, blobs, damaged, lost } = await rebuildMetadata(config, log, stop.signal);
  await log.close();
  const left = damaged === 0 ? '' : `, ${damaged} damaged ones left out`;
  process.stdout.write(`rebuilt: ${images} images, ${blobs} blobs${left}\n`);
  for (const { image, reason } of lost) process.stdout.write(`not whole, pull or load it again: ${image}: ${reason}\n`);
}

/** Runs the daemon until a signal ends it. */
async function run(config: Config, load: () => Config): Promise<void> {
  // Loaded only now, so that --help and a bad flag are answered at once.
  const [{ Daemon, effectiveLevel }, { DaemonLog, isJournal }, { Notifier }, { startTracing }] = await Promise.all([
    import('./daemon.ts'),
    import('./log.ts'),
    import('./notify.ts'),
    import('./tracing/tracing.ts'),
  ]);
  const { JOURNAL_STREAM, NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = process.env;
  const log = new DaemonLog({
    level: effectiveLevel(config),
    format: config.logFormat,
    journal: isJournal(JOURNAL_STREAM),
  });
  const notifier = new Notifier({ NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID }, log);
  // Children of the daemon must not speak to systemd in its name.
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) Reflect.deleteProperty(process.env, name);

  const exit = async (status: number): Promise<never> => {
    await log.close();
    process.exit(status);
  };
  // Nothing may be left half done in memory after an error that nobody foresaw: the store on the disk is consistent at
  // any moment, so ending and being started again is safe, and going on is not.
  const crash = (error: unknown): void => {
    log.fatal('unforeseen error, stopping', { error });
    void exit(FAILURE);
  };
  process.on('uncaughtException', crash).on('unhandledRejection', crash);

  const stopAsked = stopSignal((signal, again) => {
    log.info(again ? 'stopping at once' : 'stopping', { signal });
    if (again) void exit(FAILURE);
  });
  const passed = takePassedSockets(process.env);
  const starting = startTracing(config.tracing, { version, log }).then((tracing) =>
    Daemon.start(config, { log, version, passed, tracing }),
  );
  const ready = (daemon: Daemon) => notifier.ready(`Serving on ${daemon.addresses.join(', ')}`, () => daemon.ailment());
  // Heard from the beginning, for a hang-up that nobody listens to ends a process; reloads happen one after another.
  let reloading: Promise<unknown> = starting;
  process.on('SIGHUP', () => {
    reloading = reloading.then(async () => {
      await notifier.reloading();
      await reload(await starting, load, log);
      await ready(await starting);
    });
  });

  const daemon = await starting;
  await ready(daemon);
  await stopAsked;
  await notifier.stopping(daemon.config.shutdownTimeout);
  await daemon.stop();
  notifier.close();
  log.info('stopped');
  await exit(0);
}

/** Resolves at the first signal that asks to stop; the callback hears of every one. */
function stopSignal(heard: (signal: string, again: boolean) => void): Promise<void> {
  return new Promise((resolve) => {
    let again = false;
    const stop = (signal: string) => {
      heard(signal, again);
      again = true;
      resolve();
    };
    process.on('SIGTERM', stop).on('SIGINT', stop);
  });
}

/** Loads the configuration again and says what came of it. A bad one changes nothing. */
async function reload(daemon: Daemon, load: () => Config, log: Log): Promise<void> {
  try {
    const { changed, pending, config } = await daemon.reload(load());
    log.info('configuration reloaded', { file: config.configFile, changed });
    if (pending.length > 0) log.warn('some options take effect after a restart', { options: pending });
  } catch (error) {
    log.error(`configuration not reloaded, the present one stays in force: ${messageOf(error)}`);
  }
}
