import { Readable } from 'node:stream';
import type { Dispatcher, Pool as UndiciPool, buildConnector } from 'undici';
import { bareAddress, type AddressClass } from './address.ts';
import { readCertificates, type Certificates } from './certificates.ts';
import { connectionError } from './connection-error.ts';
import { cancelled, type HttpRequest, type HttpResponse, type RequestBody } from './http.ts';
import type { InsecureRegistries } from './insecure.ts';
import { addressesOf, checkLiteral, guardedLookup, type AddressRule, type Lookup } from './lookup.ts';
import { proxyAuthorization, type ProxySelector } from './proxies.ts';

/** Milliseconds. */
export interface Timeouts {
  /** Until a connection stands, TLS included. */
  readonly connect: number;
  /** From the request until the headers of the answer; while a body is taken up, from its last piece. */
  readonly headers: number;
  /** The same, where the server assembles an upload first: one in an object store copies it whole. */
  readonly assembly: number;
  /** Between two pieces of a body; while the reader is the slow one, the time does not run. */
  readonly stall: number;
}

export const TIMEOUTS: Timeouts = { connect: 10_000, headers: 30_000, assembly: 300_000, stall: 30_000 };

/** How long an idle connection is kept: 30 s, in milliseconds. */
const KEEP_ALIVE = 30_000;
/** Origins with connections at a time; one more closes the one that was used longest ago. */
const MAX_POOLS = 64;
/** A body that is discarded is read up to so many bytes to keep its connection: 64 KiB. */
const MAX_DISCARD = 64 * 1024;

interface Pool {
  readonly dispatcher: Dispatcher;
  /** Whether any of its connections led, or may have led, to a public address. */
  isPublic(): boolean;
}

/**
 * Sends requests over pools of kept connections. A pool belongs to an origin and to the rules under which it was
 * connected to, so that a connection made under a lax rule never serves a request under a strict one.
 */
export class Transport {
  readonly #certsDirs: readonly string[];
  readonly #insecure: InsecureRegistries;
  readonly #proxyFor: ProxySelector;
  readonly #lookup: Lookup;
  readonly #classify: (address: string) => AddressClass;
  readonly #timeouts: Timeouts;
  readonly #pools = new Map<string, Promise<Pool>>();

  constructor(options: {
    certsDirs: readonly string[];
    insecure: InsecureRegistries;
    proxyFor: ProxySelector;
    lookup: Lookup;
    classify: (address: string) => AddressClass;
    timeouts: Timeouts;
  }) {
    this.#certsDirs = options.certsDirs;
    this.#insecure = options.insecure;
    this.#proxyFor = options.proxyFor;
    this.#lookup = options.lookup;
    this.#classify = options.classify;
    this.#timeouts = options.timeouts;
  }

  async send(request: HttpRequest): Promise<HttpResponse> {
    const { url, signal } = request;
    if (signal?.aborted === true) throw cancelled(signal, url);
    const headersTimeout = request.assembles === true ? this.#timeouts.assembly : this.#timeouts.headers;
    const failure = (error: unknown): Error =>
      signal?.aborted === true
        ? cancelled(signal, url)
        : connectionError(
            error,
            url,
            { headers: headersTimeout, stall: this.#timeouts.stall },
            this.#proxyFor(url)?.origin,
          );
    try {
      const pool = await this.#poolFor(request);
      const { statusCode, headers, body } = await pool.dispatcher.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: request.method,
        headers: { ...request.headers, ...request.headersFor?.(url) },
        ...(request.body === undefined ? {} : { body: openBody(request.body) }),
        ...(signal === undefined ? {} : { signal }),
        headersTimeout,
        bodyTimeout: this.#timeouts.stall,
      });
      return {
        status: statusCode,
        headers,
        url,
        public: pool.isPublic(),
        body: guardBody(body, failure),
        async discard() {
          try {
            await body.dump({ limit: MAX_DISCARD });
          } catch {
            // Nobody wants these bytes; that their connection broke is no loss.
          }
        },
      };
    } catch (error) {
      throw failure(error);
    }
  }

  /** Lets requests under way end, then closes all connections. */
  retire(): Promise<void> {
    return this.#end((dispatcher) => dispatcher.close());
  }

  /** Closes all connections; requests under way fail. */
  close(): Promise<void> {
    return this.#end((dispatcher) => dispatcher.destroy());
  }

  async #end(how: (dispatcher: Dispatcher) => Promise<void>): Promise<void> {
    const pools = await Promise.allSettled(this.#pools.values());
    this.#pools.clear();
    await Promise.all(pools.filter((pool) => pool.status === 'fulfilled').map(({ value }) => how(value.dispatcher)));
  }

  async #poolFor({ url, reach }: HttpRequest): Promise<Pool> {
    const proxy = this.#proxyFor(url);
    const insecurity = await this.#insecure.of(url);
    // Through a proxy nobody knows which of a name's addresses answers, so its addresses make nothing insecure.
    const verify = insecurity === 'secure' || (insecurity === 'address' && proxy !== undefined);
    const rule = reach === 'public' ? this.#publicOnly() : insecurity === 'address' ? this.#listedOnly() : undefined;
    if (rule !== undefined) checkLiteral(url, rule);
    // Where the proxy resolves names, ours is the only look that can be had at where they lead.
    if (rule !== undefined && proxy !== undefined) await this.#checkName(url, rule);
    // Each time, as dockerd does: what is put into the folder, renewed or taken away counts from the next request on.
    const certificates = url.protocol === 'https:' ? await readCertificates(this.#certsDirs, url) : undefined;
    const key = [url.origin, verify, rule?.refusal, proxy?.href, certificates?.fingerprint].join(' ');
    const known = this.#pools.get(key);
    const pool = known ?? this.#connect(url, { proxy, verify, rule, certificates });
    this.#pools.delete(key);
    this.#pools.set(key, pool);
    // A pool that could not be made, perhaps for a certificate that cannot be used, is made anew next time.
    if (known === undefined) pool.catch(() => this.#pools.delete(key));
    this.#evict();
    return pool;
  }

  #evict(): void {
    for (const [key, pool] of this.#pools) {
      if (this.#pools.size <= MAX_POOLS) return;
      this.#pools.delete(key);
      pool.then(
        ({ dispatcher }) => dispatcher.close(),
        () => undefined,
      );
    }
  }

  async #connect(
    url: URL,
    {
      proxy,
      verify,
      rule,
      certificates,
    }: {
      proxy: URL | undefined;
      verify: boolean;
      rule: AddressRule | undefined;
      certificates: Certificates | undefined;
    },
  ): Promise<Pool> {
    // The library takes its time and tens of megabytes to load, which a daemon that pulls nothing does not need.
    const undici = await import('undici');
    const secureContext = certificates?.context();
    const tls = { rejectUnauthorized: verify, ...(secureContext === undefined ? {} : { secureContext }) };
    const keepAlive = { keepAliveTimeout: KEEP_ALIVE, keepAliveMaxTimeout: KEEP_ALIVE };
    const timeout = this.#timeouts.connect;
    if (proxy !== undefined) {
      const token = proxyAuthorization(proxy);
      const isPublic = await this.#looksPublic(url);
      const dispatcher = new undici.ProxyAgent({
        uri: proxy.origin,
        ...(token === undefined ? {} : { token }),
        ...keepAlive,
        // As Go does: tunnels for https, and requests in absolute form for plain http.
        proxyTunnel: false,
        requestTls: { ...tls, timeout },
        factory: (origin, options) => {
          // The agent's own connector, which makes the tunnels.
          const { connect, ...rest } = options as UndiciPool.Options & { readonly connect: buildConnector.connector };
          return new undici.Pool(origin, { ...rest, connect: endingWithError(connect) });
        },
        proxyTls: { timeout },
        // A proxy that takes the CONNECT and says nothing.
        clientFactory: (origin, options) =>
          new undici.Pool(origin, { ...options, headersTimeout: this.#timeouts.headers }),
      });
      return { dispatcher, isPublic: () => isPublic };
    }
    const lookup = guardedLookup(this.#lookup, rule ?? ANYWHERE);
    const connector = endingWithError(undici.buildConnector({ ...tls, timeout, lookup }));
    let isPublic = false;
    const connect: buildConnector.connector = (target, callback) =>
      connector(target, (...[error, socket]) => {
        if (error !== null) {
          callback(error, null);
          return;
        }
        isPublic ||= this.#classify(socket.remoteAddress ?? '') === 'public';
        callback(null, socket);
      });
    return { dispatcher: new undici.Pool(url.origin, { ...keepAlive, connect }), isPublic: () => isPublic };
  }

  /**
   * Answers server-side request forgery: whoever chooses a URL for us, by a redirect or the realm of a challenge, would
   * have the daemon, which is inside of the network and often root, fetch from what only the inside can reach: a
   * cloud's metadata service, an admin interface on localhost, a neighbour without authentication.
   */
  #publicOnly(): AddressRule {
    return {
      allows: (address) => this.#classify(address) === 'public',
      all: true,
      refusal: 'a public registry must not send us to a loopback, private or link-local address',
    };
  }

  /**
   * Answers a name server that shows us a listed address when we ask whether the registry may be insecure, and another
   * one when we connect: the connection goes to the listed addresses only.
   */
  #listedOnly(): AddressRule {
    return {
      allows: (address) => this.#insecure.allows(address),
      all: false,
      refusal: 'its addresses are no longer in a network of insecure-registries',
    };
  }

  async #checkName(url: URL, rule: AddressRule): Promise<void> {
    const addresses = await addressesOf(url.hostname, this.#lookup).catch(() => []);
    for (const address of addresses)
      checkLiteral(new URL(`http://${address.includes(':') ? `[${address}]` : address}`), rule);
  }

  /** Whether a host that a proxy connects to must be taken for public. */
  async #looksPublic(url: URL): Promise<boolean> {
    const addresses = await addressesOf(url.hostname, this.#lookup).catch(() => []);
    return addresses.length === 0 || addresses.some((address) => this.#classify(bareAddress(address)) === 'public');
  }
}

/**
 * Has connections end with their first error. When the other side sends an alert after the handshake, which is how TLS 1.3
 * refuses a client certificate, Node tells it and leaves the connection to end by itself; the library would take that end
 * for what went wrong.
 */
function endingWithError(connector: buildConnector.connector): buildConnector.connector {
  return (options, callback) =>
    connector(options, (...[error, socket]) => {
      if (error !== null) {
        callback(error, null);
        return;
      }
      socket.on('error', (alert: Error) => socket.destroy(alert));
      callback(null, socket);
    });
}

const ANYWHERE: AddressRule = { allows: () => true, all: false, refusal: 'it has no address' };

/** What the library sends. A stream asks for a piece only when the last one is on its way. */
function openBody(body: RequestBody): string | Uint8Array | Readable {
  return typeof body === 'function' ? Readable.from(body(), { highWaterMark: 1 }) : body;
}

/** The body, with its errors in our words. A reader that stops early closes the connection. */
async function* guardBody(
  body: AsyncIterable<Uint8Array>,
  failure: (error: unknown) => Error,
): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of body) yield chunk;
  } catch (error) {
    throw failure(error);
  }
}
