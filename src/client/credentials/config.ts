import { homedir } from 'node:os';
import { join } from 'node:path';
import { LayerdError } from '../../protocol/errors.ts';
import { parseReference } from '../../protocol/reference.ts';
import type { RegistryAuth } from '../engine.ts';
import { changeAuths, readConfigFile, type AuthEntry, type ConfigFile } from './file.ts';
import { askHelper, eraseFromHelper, storeInHelper } from './helper.ts';

/** The name Docker Hub's credentials are kept under, for it and for every older client. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';
const DOCKER_HUB = 'docker.io';
/** The user name under which helpers keep identity tokens. */
const TOKEN_USER = '<token>';

/** The directory of docker's client configuration: DOCKER_CONFIG, otherwise `~/.docker`. */
export function configDirectory(env: NodeJS.ProcessEnv): string {
  const named = env['DOCKER_CONFIG'];
  return named !== undefined && named !== '' ? named : join(homedir(), '.docker');
}

/** The name that a registry's credentials are kept under, which is the server address of its login. */
export function keyOf(registry: string): string {
  return registry === DOCKER_HUB ? DOCKER_HUB_KEY : registry;
}

/** Docker's client configuration, as far as it holds credentials. Nothing of it is ever shown. */
export class DockerConfig {
  readonly #file: ConfigFile;
  readonly #env: NodeJS.ProcessEnv;
  readonly #path: string | undefined;

  constructor(file: ConfigFile, env: NodeJS.ProcessEnv = process.env, path?: string) {
    this.#file = file;
    this.#env = env;
    this.#path = path;
  }

  /** Reads `config.json` of the directory; without one there are no credentials. Throws `invalid` if it is no JSON. */
  static async load(directory: string, env: NodeJS.ProcessEnv = process.env): Promise<DockerConfig> {
    const path = join(directory, 'config.json');
    return new DockerConfig(await readConfigFile(path), env, path);
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
    const key = keyOf(registry);
    const helper = this.#helperOf(registry);
    if (helper !== undefined) {
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

  /**
   * Keeps a registry's credentials: in the helper that is configured for it, else in the file. Says the file where it
   * keeps them as they are, for everybody to read who can read it.
   */
  async store(registry: string, auth: RegistryAuth, signal?: AbortSignal): Promise<string | undefined> {
    const key = keyOf(registry);
    const { username = '', password = '', identitytoken = '' } = auth;
    const helper = this.#helperOf(registry);
    const path = this.#writable();
    if (helper !== undefined) {
      const isToken = identitytoken !== '';
      const kept = { username: isToken ? TOKEN_USER : username, secret: isToken ? identitytoken : password };
      await storeInHelper(helper, key, kept, { env: this.#env, signal });
      // What the file kept before goes; the empty entry is how docker knows that there is a login.
      await changeAuths(path, (auths) => ({ ...auths, [key]: {} }));
      return undefined;
    }
    const entry: AuthEntry = {
      auth: Buffer.from(`${username}:${identitytoken === '' ? password : ''}`).toString('base64'),
      ...(identitytoken === '' ? {} : { identitytoken }),
    };
    await changeAuths(path, (auths) => ({ ...auths, [key]: entry }));
    return path;
  }

  /** Forgets a registry's credentials, in its helper and in the file; says whether there were any. */
  async erase(registry: string, signal?: AbortSignal): Promise<boolean> {
    const key = keyOf(registry);
    const helper = this.#helperOf(registry);
    const isSameHost = (name: string): boolean => hostOf(name) === hostOf(key);
    const isInFile = Object.keys(this.#file.auths ?? {}).some(isSameHost);
    const isInHelper =
      helper !== undefined && (await eraseFromHelper(helper, key, { env: this.#env, signal })) === 'erased';
    if (isInFile) {
      await changeAuths(this.#writable(), (auths) =>
        Object.fromEntries(Object.entries(auths).filter(([name]) => !isSameHost(name))),
      );
    }
    return isInFile || isInHelper;
  }

  #helperOf(registry: string): string | undefined {
    const { credHelpers, credsStore } = this.#file;
    const helper = credHelpers?.[keyOf(registry)] ?? credHelpers?.[registry] ?? credsStore;
    return helper === '' ? undefined : helper;
  }

  #writable(): string {
    if (this.#path !== undefined) return this.#path;
    throw new LayerdError('invalid', 'credentials cannot be kept in a configuration that was read from no file');
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
