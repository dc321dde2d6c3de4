import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { parseReference } from '../../protocol/reference.ts';
import type { RegistryAuth } from '../engine.ts';
import { askHelper } from './helper.ts';

/** The name Docker Hub's credentials are kept under, for it and for every older client. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';
const DOCKER_HUB = 'docker.io';
/** The user name under which helpers keep identity tokens. */
const TOKEN_USER = '<token>';

interface AuthEntry {
  readonly auth?: string;
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
  readonly registrytoken?: string;
}

interface ConfigFile {
  readonly auths?: Readonly<Record<string, AuthEntry>>;
  readonly credsStore?: string;
  readonly credHelpers?: Readonly<Record<string, string>>;
}

/** The directory of docker's client configuration: DOCKER_CONFIG, otherwise `~/.docker`. */
export function configDirectory(env: NodeJS.ProcessEnv): string {
  const named = env['DOCKER_CONFIG'];
  return named !== undefined && named !== '' ? named : join(homedir(), '.docker');
}

/** Docker's client configuration, as far as it holds credentials. Nothing of it is ever shown. */
export class DockerConfig {
  readonly #file: ConfigFile;
  readonly #env: NodeJS.ProcessEnv;

  constructor(file: ConfigFile, env: NodeJS.ProcessEnv = process.env) {
    this.#file = file;
    this.#env = env;
  }

  /** Reads `config.json` of the directory; without one there are no credentials. Throws `invalid` if it is no JSON. */
  static async load(directory: string, env: NodeJS.ProcessEnv = process.env): Promise<DockerConfig> {
    const path = join(directory, 'config.json');
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') return new DockerConfig({}, env);
      throw new LayerdError('unavailable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
    }
    let file: unknown;
    try {
      file = JSON.parse(text);
    } catch {
      // The parser's message quotes the text, which holds secrets.
      throw new LayerdError('invalid', `${path} is not valid JSON; correct it, or log in again with 'docker login'`);
    }
    if (typeof file !== 'object' || file === null) throw new LayerdError('invalid', `${path} must hold a JSON object`);
    return new DockerConfig(file, env);
  }

  /** The credentials for the registry of an image reference; undefined when there are none. */
  forReference(reference: string, signal?: AbortSignal): Promise<RegistryAuth | undefined> {
    return this.forRegistry(parseReference(reference).registry, signal);
  }

  /**
   * The credentials for a registry, `docker.io` or `host[:port]`: from its own helper, from the default one, from the
   * file. Rejects when a helper that is configured cannot be asked.
   */
  async forRegistry(registry: string, signal?: AbortSignal): Promise<RegistryAuth | undefined> {
    const key = registry === DOCKER_HUB ? DOCKER_HUB_KEY : registry;
    const { credHelpers, credsStore } = this.#file;
    const helper = credHelpers?.[key] ?? credHelpers?.[registry] ?? credsStore;
    if (helper !== undefined && helper !== '') {
      const found = await askHelper(helper, key, { env: this.#env, signal });
      if (found === undefined) return undefined;
      const { username, secret } = found;
      return username === TOKEN_USER
        ? { identitytoken: secret, serveraddress: key }
        : { username, password: secret, serveraddress: key };
    }
    const entry = this.#entry(key);
    return entry === undefined ? undefined : authOf(entry, key);
  }

  /** The file's entry of that name, or one that was written as a URL of the same host by an older client. */
  #entry(key: string): AuthEntry | undefined {
    const { auths } = this.#file;
    if (auths === undefined) return undefined;
    const exact = Object.hasOwn(auths, key) ? auths[key] : undefined;
    return exact ?? Object.entries(auths).find(([name]) => hostOf(name) === hostOf(key))?.[1];
  }
}

function authOf(entry: AuthEntry, key: string): RegistryAuth | undefined {
  const pair = entry.auth === undefined ? '' : Buffer.from(entry.auth, 'base64').toString();
  const colon = pair.indexOf(':');
  const username = colon < 0 ? entry.username : pair.slice(0, colon);
  // Older clients padded the password with zero bytes.
  const password = colon < 0 ? entry.password : pair.slice(colon + 1).replace(/\0+$/, '');
  const given = Object.entries({
    username,
    password,
    identitytoken: entry.identitytoken,
    registrytoken: entry.registrytoken,
  }).filter(([, value]) => value !== undefined && value !== '');
  return given.length === 0 ? undefined : { ...Object.fromEntries(given), serveraddress: key };
}

/** The host and port of a key that may be a URL. */
function hostOf(key: string): string {
  return key.replace(/^https?:\/\//, '').split('/', 1)[0] ?? '';
}
