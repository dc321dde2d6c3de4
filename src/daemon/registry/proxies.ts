import { isIP, type BlockList } from 'node:net';
import { LayerdError } from '../../protocol/errors.ts';
import { bareAddress, classifyAddress, contains, networksOf, parseCidr } from './address.ts';

/** Finds the proxy that a URL is to be fetched through; undefined for none. */
export type ProxySelector = (url: URL) => URL | undefined;

interface DomainRule {
  /** With its leading dot. */
  readonly suffix: string;
  readonly port: string;
  /** Whether it matches the domain itself, and not only what is below it. */
  readonly itself: boolean;
}
interface AddressRule {
  readonly networks: BlockList;
  readonly port: string;
}

/**
 * Chooses proxies as Go's golang.org/x/net/http/httpproxy does, which dockerd and its users' settings rely on: NO_PROXY
 * holds domains (also matching what is below them; with a leading dot only that), addresses and CIDRs, each but the last
 * with an optional port, or `*` for everything. Localhost and loopback addresses are never proxied.
 */
export function createProxySelector(proxies: {
  readonly http?: string | undefined;
  readonly https?: string | undefined;
  readonly no?: string | undefined;
}): ProxySelector {
  const http = parseProxy(proxies.http);
  const https = parseProxy(proxies.https);
  const isExcluded = parseNoProxy(proxies.no ?? '');
  return (url) => {
    const proxy = url.protocol === 'https:' ? https : http;
    return proxy === undefined || isExcluded(url) ? undefined : proxy;
  };
}

/** The Proxy-Authorization of a proxy's URL. */
export function proxyAuthorization(proxy: URL): string | undefined {
  if (proxy.username === '') return undefined;
  const userinfo = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return `Basic ${Buffer.from(userinfo).toString('base64')}`;
}

function parseProxy(text: string | undefined): URL | undefined {
  if (text === undefined || text === '') return undefined;
  const url = URL.parse(text.includes('://') ? text : `http://${text}`);
  // The text itself stays out of the message: it may hold a password.
  if (url === null || url.host === '')
    throw new LayerdError('invalid', 'the proxy is not a URL: write it as http://HOST:PORT');
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new LayerdError(
      'invalid',
      `a proxy by ${url.protocol.slice(0, -1)} is not supported: use an http or https one`,
    );
  }
  return url;
}

function parseNoProxy(text: string): (url: URL) => boolean {
  const addresses: AddressRule[] = [];
  const domains: DomainRule[] = [];
  for (const entry of text.split(',').map((each) => each.trim().toLowerCase())) {
    if (entry === '') continue;
    if (entry === '*') return () => true;
    if (parseCidr(entry) !== undefined) {
      addresses.push({ networks: networksOf([entry]), port: '' });
      continue;
    }
    const { host, port } = splitPort(entry);
    if (host === '') continue;
    if (isIP(host) !== 0) {
      addresses.push({ networks: networksOf([host]), port });
      continue;
    }
    const name = host.startsWith('*.') ? host.slice(1) : host;
    const itself = !name.startsWith('.');
    domains.push({ suffix: itself ? `.${name}` : name, port, itself });
  }
  return (url) => {
    const host = bareAddress(url.hostname);
    const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
    const fits = (rule: { port: string }): boolean => rule.port === '' || rule.port === port;
    if (host === 'localhost') return true;
    if (isIP(host) !== 0) {
      if (classifyAddress(host) === 'loopback') return true;
      if (addresses.some((rule) => contains(rule.networks, host) && fits(rule))) return true;
    }
    return domains.some(
      (rule) => (host.endsWith(rule.suffix) || (rule.itself && host === rule.suffix.slice(1))) && fits(rule),
    );
  };
}

/** `host:port`, `[v6]:port`, or a host or address alone. */
function splitPort(entry: string): { host: string; port: string } {
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:]*)):([^:]*)$/.exec(entry) ?? [];
  if (port === undefined) return { host: bareAddress(entry), port: '' };
  return { host: bracketed ?? plain ?? '', port };
}
