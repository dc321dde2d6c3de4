import type { EventLogLimits } from '../../../src/daemon/events/log.ts';

/** What no test comes to. */
export const LIMITS: EventLogLimits = { events: 100_000, age: 720n * 3600n * 1_000_000_000n, bytes: 64 * 1024 * 1024 };
