/**
 * The media type out of those offered that an Accept header wants most (RFC 9110, section 12.5.1): by weight, then by how
 * exactly it is named, then in the order offered. The fallback answers a client that names none of them.
 */
export function negotiate(accept: string | undefined, offers: readonly string[], fallback: string): string {
  const ranges = (accept ?? '').split(',').map(parseRange);
  const ranked = offers.flatMap((offer, order) =>
    ranges
      .filter(({ range, weight }) => weight > 0 && exactness(range, offer) > 0)
      .map(({ range, weight }) => ({ offer, order, weight, exact: exactness(range, offer) })),
  );
  ranked.sort((a, b) => b.weight - a.weight || b.exact - a.exact || a.order - b.order);
  return ranked[0]?.offer ?? fallback;
}

function parseRange(text: string): { range: string; weight: number } {
  const [range = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice('q='.length);
  return { range, weight: weight === undefined ? 1 : Number(weight) || 0 };
}

/** 0 where the range does not cover the type, else more the more exactly it does. */
function exactness(range: string, type: string): number {
  if (range === type) return 3;
  if (range.endsWith('/*') && range !== '*/*' && type.startsWith(range.slice(0, -1))) return 2;
  return range === '*/*' ? 1 : 0;
}
