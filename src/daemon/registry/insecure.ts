import { isIP } from 'node:net';
import { bareAddress, contains, networksOf, parseCidr } from './address.ts';
import { ExpiringMap } from './expiring-map.ts';
import { addressesOf, type Lookup } from './lookup.ts';

/** Insecure without being named, as in dockerd: what is on this very machine. */
export const LOOPBACK_NETWORKS: readonly string[] = ['127.0.0.0/8', '::1/128'];

/** How long the addresses of a host are believed: 60 s, in milliseconds. */
const ADDRESS_LIFE = 60_000;
const MAX_HOSTS = 256;

/**
 * How far a host may be trusted without a verified certificate: `secure`: not at all; `named`: it is in the list;
 * `address`: only at those of its addresses that are in a listed network.
 */
export type Insecurity = 'secure' | 'named' | 'address';

/** Which registries may be spoken to over unverified TLS and plain HTTP: the rules of dockerd's isSecureIndex. */
export class InsecureRegistries {
  readonly #names: ReadonlySet<string>;
  readonly #networks: ReturnType<typeof networksOf>;
  readonly #lookup: Lookup;
  readonly #known: ExpiringMap<Insecurity>;

  constructor(options: { entries: readonly string[]; implicit: readonly string[]; lookup: Lookup; now: () => number }) {
    const entries = options.entries.map((entry) => entry.replace(/^https?:\/\//, '').toLowerCase());
    this.#names = new Set(entries.filter((entry) => parseCidr(entry) === undefined));
    this.#networks = networksOf([...entries, ...options.implicit].filter((entry) => parseCidr(entry) !== undefined));
    this.#lookup = options.lookup;
    this.#known = new ExpiringMap({ limit: MAX_HOSTS, life: ADDRESS_LIFE, now: options.now });
  }

  async of(url: URL): Promise<Insecurity> {
    const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
    if (this.#names.has(`${url.hostname}:${port}`)) return 'named';
    if (url.port === '' && this.#names.has(url.hostname)) return 'named';
    const known = this.#known.get(url.hostname);
    if (known !== undefined) return known;
    // A name that cannot be resolved here, perhaps because a proxy does that, is in no listed network.
    const addresses = await addressesOf(url.hostname, this.#lookup).catch(() => []);
    const listed = addresses.some((address) => this.allows(address));
    const literal = isIP(bareAddress(url.hostname)) !== 0;
    const insecurity = !listed ? 'secure' : literal ? 'named' : 'address';
    this.#known.set(url.hostname, insecurity);
    return insecurity;
  }

  /** Whether an address is in a listed network. */
  allows(address: string): boolean {
    return contains(this.#networks, bareAddress(address));
  }
}
