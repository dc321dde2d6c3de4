import { header, type HttpResponse } from './http.ts';
import type { Logger } from './registry.ts';
import { sanitise } from './reason.ts';

/** What a registry last told of its pull limit. */
export interface RateLimit {
  /** Pulls in the window. */
  readonly limit: number;
  readonly remaining: number;
  /** Whom it counts for: an address, or an account's ID. */
  readonly source?: string;
  /** When it was told, in milliseconds since the epoch. */
  readonly at: number;
}

const MAX_REGISTRIES = 64;
/** What is left is worth a line in the log whenever it falls below another of these parts of the limit. */
const NOTABLE_PARTS = [0.5, 0.25, 0.1, 0.05, 0];

/**
 * The pull limits that registries tell in the headers of their manifests, as Docker Hub documents them:
 * `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 76;w=21600`, `docker-ratelimit-source: 192.0.2.1`.
 */
export class RateLimits {
  readonly #limits = new Map<string, RateLimit>();
  readonly #logger: Logger;
  readonly #now: () => number;

  constructor(options: { logger: Logger; now: () => number }) {
    this.#logger = options.logger;
    this.#now = options.now;
  }

  get all(): ReadonlyMap<string, RateLimit> {
    return this.#limits;
  }

  /** Takes note of what an answer tells. */
  note(registry: string, response: HttpResponse): void {
    const limit = count(header(response, 'ratelimit-limit'));
    const remaining = count(header(response, 'ratelimit-remaining'));
    if (limit === undefined || remaining === undefined) return;
    const source = sanitise(header(response, 'docker-ratelimit-source') ?? '');
    const latest = { limit, remaining, ...(source === '' ? {} : { source }), at: this.#now() };
    const before = this.#limits.get(registry);
    this.#limits.delete(registry);
    this.#limits.set(registry, latest);
    for (const oldest of this.#limits.keys()) {
      if (this.#limits.size <= MAX_REGISTRIES) break;
      this.#limits.delete(oldest);
    }
    if (before?.limit !== limit || before.source !== latest.source || partOf(latest) !== partOf(before)) {
      this.#logger.info('pull limit of the registry', { registry, limit, remaining, source: latest.source });
    }
  }
}

/** How many of the notable parts what is left has fallen to. */
function partOf({ limit, remaining }: RateLimit): number {
  return NOTABLE_PARTS.filter((part) => remaining <= limit * part).length;
}

/** The number in `100;w=21600`. */
function count(text: string | undefined): number | undefined {
  const digits = /^\s*(\d{1,9})\s*(?:;|,|$)/.exec(text ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
}
