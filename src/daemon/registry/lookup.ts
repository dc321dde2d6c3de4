import { lookup as systemLookup } from 'node:dns/promises';
import { isIP, isIPv6, type LookupFunction } from 'node:net';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { bareAddress } from './address.ts';

/** All addresses of a host name, as the system resolves it. */
export type Lookup = (hostname: string) => Promise<readonly { address: string; family: number }[]>;

export const lookupAll: Lookup = (hostname) => systemLookup(hostname, { all: true });

/** A host's addresses; those of an address are itself. Rejects where there are none. */
export async function addressesOf(hostname: string, lookup: Lookup): Promise<string[]> {
  const bare = bareAddress(hostname);
  if (isIP(bare) !== 0) return [bare];
  return (await lookup(bare)).map(({ address }) => address);
}

/** Which addresses may be connected to. */
export interface AddressRule {
  allows(address: string): boolean;
  /** Whether one address that is not allowed spoils the others too. */
  readonly all: boolean;
  /** What is wrong with a host that has no address to connect to. */
  readonly refusal: string;
}

/** Throws `forbidden` when an address may not be connected to: a URL with a literal address is never looked up. */
export function checkLiteral(url: URL, rule: AddressRule): void {
  const address = bareAddress(url.hostname);
  if (isIP(address) !== 0 && !rule.allows(address)) throw refused(url.hostname, rule);
}

/**
 * The resolver of a connection, which applies the rule to the very addresses that are about to be connected to. Checking
 * the name beforehand and letting the connection resolve it again would be open to DNS rebinding: a name server that
 * answers with a public address first and with 127.0.0.1 a moment later.
 */
export function guardedLookup(lookup: Lookup, rule: AddressRule): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname).then(
      (found) => {
        const allowed = found.filter(({ address }) => rule.allows(address));
        const [first] = allowed;
        if (first === undefined || (rule.all && allowed.length < found.length)) {
          callback(refused(hostname, rule), '', 0);
        } else if (options.all === true) callback(null, [...allowed]);
        else callback(null, first.address, isIPv6(first.address) ? 6 : 4);
      },
      (error: unknown) => callback(error instanceof Error ? error : new Error(messageOf(error)), '', 0),
    );
  };
}

function refused(hostname: string, rule: AddressRule): LayerdError {
  return new LayerdError('forbidden', `refusing to connect to ${hostname}: ${rule.refusal}`);
}
