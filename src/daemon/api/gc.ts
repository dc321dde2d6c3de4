import type { GcRequest } from '../images/gc/gc.ts';
import type { Call } from './call.ts';
import { duration, flag, integer } from './parameters.ts';

const PERCENT = { min: 0, max: 100 };
const BYTES = { min: 0, max: 2 ** 49 };

/** What a client asks for of a collection of images. */
export const gcRequest = ({ query, signal }: Call): GcRequest => ({
  dryRun: flag(query, 'dryRun'),
  highThreshold: integer(query, 'high', PERCENT),
  lowThreshold: integer(query, 'low', PERCENT),
  free: integer(query, 'free', BYTES),
  minimumAge: duration(query, 'minimumAge'),
  maximumAge: duration(query, 'maximumAge'),
  localImages: query.has('local') ? flag(query, 'local') : undefined,
  signal,
});
