import { BlockList, isIP, isIPv6 } from 'node:net';

/** What kind of network an IP address belongs to, as far as it matters who may send us there. */
export type AddressClass =
  | 'public'
  | 'loopback'
  | 'private' // RFC 1918, and the unique local addresses of IPv6
  | 'link-local' // among them 169.254.169.254, where clouds serve a machine's credentials
  | 'shared' // carrier-grade NAT, RFC 6598
  | 'multicast'
  | 'reserved';

/** The special-purpose networks of IANA's registries that are not reachable over the public Internet. */
const NETWORKS: readonly (readonly [Exclude<AddressClass, 'public'>, readonly string[]])[] = [
  ['loopback', ['127.0.0.0/8', '::1/128']],
  ['private', ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7', 'fec0::/10', '64:ff9b:1::/48']],
  ['link-local', ['169.254.0.0/16', 'fe80::/10']],
  ['shared', ['100.64.0.0/10']],
  ['multicast', ['224.0.0.0/4', 'ff00::/8']],
  // 0.0.0.0/8 and :: reach the machine itself on Linux. 6to4 and Teredo carry any IPv4 address and are obsolete.
  ['reserved', ['0.0.0.0/8', '192.0.0.0/24', '198.18.0.0/15', '240.0.0.0/4', '::/96', '2001::/32', '2002::/16']],
];

const CLASSES = NETWORKS.map(([name, cidrs]) => [name, networksOf(cidrs)] as const);

/** IPv4 addresses behind NAT64 (RFC 6052); IPv6-only networks reach every IPv4 registry that way. */
const NAT64 = networksOf(['64:ff9b::/96']);

/** Classifies an IP address in any spelling, with or without brackets and zone. What is no address is `reserved`. */
export function classifyAddress(text: string): AddressClass {
  const address = bareAddress(text);
  if (isIP(address) === 0) return 'reserved';
  if (contains(NAT64, address)) return classifyAddress(lastFourBytes(address));
  return CLASSES.find(([, networks]) => contains(networks, address))?.[0] ?? 'public';
}

/** Without the brackets of URLs and the zone of link-local addresses. */
export function bareAddress(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '').replace(/%.*$/, '');
}

/** Whether the networks contain the address. An IPv4 address mapped into IPv6 counts as the IPv4 address it reaches. */
export function contains(networks: BlockList, address: string): boolean {
  return networks.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/** The network of a CIDR such as `10.0.0.0/8`; undefined when it is none. */
export function parseCidr(text: string): { network: string; prefix: number; family: 'ipv4' | 'ipv6' } | undefined {
  const [, network = '', digits = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const version = isIP(network);
  const prefix = Number(digits);
  if (version === 0 || prefix > (version === 4 ? 32 : 128)) return undefined;
  return { network, prefix, family: version === 4 ? 'ipv4' : 'ipv6' };
}

/** All networks of a list of CIDRs and single addresses; others are left out. */
export function networksOf(texts: readonly string[]): BlockList {
  const networks = new BlockList();
  for (const text of texts) {
    const cidr = parseCidr(text);
    if (cidr !== undefined) networks.addSubnet(cidr.network, cidr.prefix, cidr.family);
    else if (isIP(text) !== 0) networks.addAddress(text, isIPv6(text) ? 'ipv6' : 'ipv4');
  }
  return networks;
}

/** The last four bytes of an IPv6 address, as an IPv4 address. */
function lastFourBytes(address: string): string {
  // The URL parser writes every spelling, dotted or not, as groups of hex digits.
  const groups = new URL(`http://[${address}]`).hostname.slice(1, -1).split(':').slice(-2);
  const [high = 0, low = 0] = groups.map((group) => parseInt(group || '0', 16));
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}
