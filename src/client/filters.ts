import { LayerdError } from '../protocol/errors.ts';
import type { Filters } from './engine.ts';

/** Filters from `--filter KEY=VALUE`, several of them. Throws `invalid` for one without `=`. */
export function parseFilters(given: readonly string[]): Filters {
  const filters: Record<string, string[]> = {};
  for (const filter of given) {
    const split = filter.indexOf('=');
    if (split <= 0) throw new LayerdError('invalid', `bad filter '${filter}': it has the form KEY=VALUE`);
    const key = filter.slice(0, split).trim().toLowerCase();
    (filters[key] ??= []).push(filter.slice(split + 1).trim());
  }
  return filters;
}
