/**
 * JSON with whole numbers beyond 2^53. ECMAScript's source text access (reviver context, `JSON.rawJSON`) is not in
 * TypeScript's library yet.
 */
type Reviver = (this: unknown, key: string, value: unknown, context: { source?: string }) => unknown;
const parse = JSON.parse as (text: string, reviver?: Reviver) => unknown;
const rawJSON = (JSON as unknown as { rawJSON: (text: string) => unknown }).rawJSON;

/** Parses JSON; the numbers of the given field become bigints, every digit kept. */
export function parseWithBigInt(text: string, field: string): unknown {
  return parse(text, (key, value, { source }) =>
    key === field && typeof value === 'number' && source !== undefined ? BigInt(source) : value,
  );
}

/** Writes JSON; bigints as numbers. */
export function stringify(value: unknown, indent?: string | number): string {
  // JSON.stringify gives undefined for what JSON cannot express.
  const text = JSON.stringify(
    value,
    (_key, item: unknown) => (typeof item === 'bigint' ? rawJSON(String(item)) : item),
    indent,
  ) as string | undefined;
  return text ?? 'null';
}
