import { LayerdError } from '../../protocol/errors.ts';

/** The `filters` query parameter of the Engine API: for each name the values that were given. */
export type Filters = ReadonlyMap<string, ReadonlySet<string>>;

/**
 * Parses the parameter, in the form `{"name": ["value"]}` or the older `{"name": {"value": true}}`. Throws `invalid` for
 * anything else and for a name that is not among the accepted.
 */
export function parseFilters(_json: string | undefined, _accepted: readonly string[]): Filters {
  throw new LayerdError('not-implemented', 'parseFilters');
}

/** The value of a filter that is true or false; undefined where it is not given. */
export function booleanFilter(_filters: Filters, _name: string): boolean | undefined {
  throw new LayerdError('not-implemented', 'booleanFilter');
}

/** Whether the labels have every `key` or `key=value` of the filter. */
export function matchesLabels(_filters: Filters, _labels: Readonly<Record<string, string>>): boolean {
  throw new LayerdError('not-implemented', 'matchesLabels');
}
