import type { Request } from 'express';

/** The template of the route that took a request, such as `/images/{name}/json`; undefined where none did. */
export function routeOf({ route }: Request): string | undefined {
  const path: unknown = (route as { path?: unknown } | undefined)?.path;
  return typeof path === 'string' ? path.replace(/[*:](\w+)/g, '{$1}') : undefined;
}
