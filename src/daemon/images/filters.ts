import { LayerdError } from '../../protocol/errors.ts';

/** Filters of a list: for each name the values that were given (Engine API, the query parameter `filters`). */
export type Filters = ReadonlyMap<string, readonly string[]>;

const TRUE: ReadonlySet<string> = new Set(['true', '1']);
const FALSE: ReadonlySet<string> = new Set(['false', '0']);

/**
 * Parses the parameter, in the form `{"name": ["value"]}` or the equivalent `{"name": {"value": true}}`. Throws `invalid`
 * for anything else, and for a name that is not among the accepted.
 */
export function parseFilters(json: string | undefined, accepted: readonly string[]): Filters {
  if (json === undefined || json === '') return new Map();
  let given: unknown;
  try {
    given = JSON.parse(json);
  } catch (error) {
    throw new LayerdError('invalid', `${MALFORMED}, and this is not JSON: ${json}`, { cause: error });
  }
  // Go reads null as an empty map.
  if (given === null) return new Map();
  if (typeof given !== 'object' || Array.isArray(given)) throw new LayerdError('invalid', `${MALFORMED}: ${json}`);
  const filters = new Map(Object.entries(given).map(([name, values]) => [name, valuesOf(values, json)]));
  for (const name of filters.keys()) {
    if (!accepted.includes(name)) {
      throw new LayerdError('invalid', `invalid filter '${name}': the filters here are ${accepted.join(', ')}`);
    }
  }
  return filters;
}

const MALFORMED = 'invalid filter: filters are JSON of the form {"name": ["value"]}';

function valuesOf(values: unknown, json: string): string[] {
  if (values === null) return [];
  if (Array.isArray(values) && values.every((value) => typeof value === 'string')) return values;
  const isMap = typeof values === 'object' && !Array.isArray(values);
  if (isMap && Object.values(values).every((value) => typeof value === 'boolean')) {
    return Object.entries(values).flatMap(([value, isSet]) => (isSet === true ? [value] : []));
  }
  throw new LayerdError('invalid', `${MALFORMED}: ${json}`);
}

/** The values of a filter, none where it is not given. */
export function filterValues(filters: Filters, name: string): readonly string[] {
  return filters.get(name) ?? [];
}

/** The value of a filter that is true or false; undefined where it is not given. Throws `invalid` for anything else. */
export function booleanFilter(filters: Filters, name: string): boolean | undefined {
  const values = filters.get(name);
  if (values === undefined) return undefined;
  if (values.length > 0 && values.every((value) => TRUE.has(value))) return true;
  if (values.length > 0 && values.every((value) => FALSE.has(value))) return false;
  throw new LayerdError('invalid', `invalid filter '${name}=[${values.join(' ')}]': it is true or false`);
}

/** Whether the labels have every `key` or `key=value` of the filter `label`, and none of `label!`. */
export function matchesLabels(filters: Filters, labels: Readonly<Record<string, string>>): boolean {
  const has = (wanted: string): boolean => {
    const equals = wanted.indexOf('=');
    if (equals < 0) return Object.hasOwn(labels, wanted);
    const key = wanted.slice(0, equals);
    return Object.hasOwn(labels, key) && labels[key] === wanted.slice(equals + 1);
  };
  return filterValues(filters, 'label').every(has) && !filterValues(filters, 'label!').some(has);
}
