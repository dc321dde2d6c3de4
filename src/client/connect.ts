import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LayerdError, messageOf } from '../protocol/errors.ts';
import { configDirectory } from './credentials/config.ts';
import { defaultHost } from './endpoint.ts';
import { LayerdClient } from './engine.ts';
import { packageVersion } from './package.ts';
import type { TlsOptions } from './transport.ts';

/** The options before the command, as the parser gives them. */
export interface GlobalOptions {
  readonly host?: string;
  readonly config?: string;
  readonly tls?: boolean;
  readonly tlscacert?: string;
  readonly tlscert?: string;
  readonly tlskey?: string;
  readonly tlsverify?: boolean;
  readonly debug?: boolean;
}

/** The host that options and environment name: --host, LAYERD_HOST, DOCKER_HOST, the default. */
export function hostFrom(options: GlobalOptions, env: NodeJS.ProcessEnv, uid: number): string {
  const named = [options.host, env['LAYERD_HOST'], env['DOCKER_HOST']].find(
    (host) => host !== undefined && host !== '',
  );
  return named ?? defaultHost(uid, env);
}

export function configDirectoryFrom(options: GlobalOptions, env: NodeJS.ProcessEnv): string {
  return options.config ?? configDirectory(env);
}

/** Makes the client that options and environment ask for. Throws `invalid` for a host or certificate that is none. */
export async function connect(options: GlobalOptions, env: NodeJS.ProcessEnv, uid: number): Promise<LayerdClient> {
  const host = hostFrom(options, env, uid);
  const tls = host.startsWith('unix://') ? undefined : await tlsFrom(options, env);
  const apiVersion = env['DOCKER_API_VERSION'] ?? '';
  return new LayerdClient({
    host,
    userAgent: `layerctl/${packageVersion()}`,
    headers: { ...traceFrom(env), ...tokenFrom(env) },
    ...(tls === undefined ? {} : { tls }),
    ...(apiVersion === '' ? {} : { apiVersion }),
  });
}

/** The trace that this command is part of, as CI systems hand it on (OpenTelemetry's environment variables as carriers). */
function traceFrom({ TRACEPARENT = '', TRACESTATE = '' }: NodeJS.ProcessEnv): Record<string, string> {
  // What is none must not fail a command that works without.
  if (!/^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(TRACEPARENT)) return {};
  const isState = /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(TRACESTATE);
  return { traceparent: TRACEPARENT, ...(isState ? { tracestate: TRACESTATE } : {}) };
}

/** The token by which the daemon's authorization policy knows the client. */
function tokenFrom({ LAYERD_TOKEN = '' }: NodeJS.ProcessEnv): Record<string, string> {
  return LAYERD_TOKEN === '' ? {} : { Authorization: `Bearer ${LAYERD_TOKEN}` };
}

/** TLS as docker's client understands its options: certificates from DOCKER_CERT_PATH or the configuration. */
async function tlsFrom(options: GlobalOptions, env: NodeJS.ProcessEnv): Promise<TlsOptions | undefined> {
  const isSet = (name: string): boolean => (env[name] ?? '') !== '';
  const unverified = options.tls === true || isSet('DOCKER_TLS');
  // An authority that is named is there to vouch for the daemon.
  const named = options.tlscacert !== undefined && !unverified;
  const verify = named || options.tlsverify === true || isSet('DOCKER_TLS_VERIFY');
  const given = [options.tlscacert, options.tlscert, options.tlskey].some((path) => path !== undefined);
  if (!verify && !given && !unverified) return undefined;
  const certificates = env['DOCKER_CERT_PATH'];
  const directory =
    certificates !== undefined && certificates !== '' ? certificates : configDirectoryFrom(options, env);
  const [ca, cert, key] = await Promise.all([
    pem(options.tlscacert, join(directory, 'ca.pem')),
    pem(options.tlscert, join(directory, 'cert.pem')),
    pem(options.tlskey, join(directory, 'key.pem')),
  ]);
  return {
    verify,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  };
}

/** A file that was named must be there; one at its usual place may be missing. */
async function pem(named: string | undefined, usual: string): Promise<Buffer | undefined> {
  try {
    return await readFile(named ?? usual);
  } catch (cause) {
    if (named === undefined && (cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new LayerdError('invalid', `cannot read ${named ?? usual}: ${messageOf(cause)}`, { cause });
  }
}
