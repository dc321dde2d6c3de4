import type { Values } from './options.ts';
import type { TracingSettings } from './tracing.ts';

/**
 * How the daemon is set up: one validated, frozen value, the only thing the rest of the daemon knows of flags, files and
 * the environment. Its life:
 *
 * 1. *Load*: flags, `daemon.json` and defaults are merged. An option is given in one place only; one given twice, one
 *    that is unknown or has a bad value stops the start, so that no daemon runs with half of what was asked for.
 * 2. *In force*: parts are handed what they need of it and never look for more.
 * 3. *Reload* (SIGHUP): it is loaded again from the same flags and file. What is marked reloadable in the table of
 *    options replaces what was in force; the rest waits for a restart; a bad file changes nothing.
 */
export interface Config extends Readonly<Values> {
  /** The file that was read; undefined where the default file does not exist. */
  readonly configFile: string | undefined;
  /** Where certificates of registries are looked for, `certs.d` of docker and layerd: of a user without root, its own first. */
  readonly certsDirs: readonly string[];
  /** How traces are sent; undefined where they are not. */
  readonly tracing: TracingSettings | undefined;
}

/** What of the world around the process the configuration depends on. */
export interface Surroundings {
  /** Whether the process runs as root, which decides where everything is by default. */
  readonly root: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The user's home directory. */
  readonly home: string;
}

/** Where configuration is kept: the user's, where that is not root, before the host's. */
export function configDirectories({ root, env, home }: Surroundings): [string, ...string[]] {
  if (root) return ['/etc'];
  const parent = env['XDG_CONFIG_HOME'];
  return [parent === undefined || parent === '' ? `${home}/.config` : parent, '/etc'];
}

/** Certificates of the tcp listeners, as paths of PEM files. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  /** The authority that client certificates must be signed by; undefined where clients need none. */
  readonly clientCa: string | undefined;
}

/**
 * The TLS files in force, or undefined for plain tcp. As with dockerd, naming `tlsverify` at all turns TLS on, and TLS
 * demands client certificates unless `tlsverify` is explicitly false.
 */
export function tlsFiles(config: Pick<Config, 'tls' | 'tlsVerify' | 'tlsCaCert' | 'tlsCert' | 'tlsKey'>) {
  if (!(config.tls ?? config.tlsVerify !== undefined)) return undefined;
  const verify = config.tlsVerify ?? true;
  const files: TlsFiles = {
    cert: config.tlsCert ?? '',
    key: config.tlsKey ?? '',
    clientCa: verify ? (config.tlsCaCert ?? '') : undefined,
  };
  return files;
}
