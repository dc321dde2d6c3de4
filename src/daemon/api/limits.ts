import type { Router } from 'express';
import type { DirectionLimits as DirectionReport, LimitsReport } from '../../protocol/engine.ts';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { MAX_CONCURRENCY } from '../config/options.ts';
import { bandwidth, formatBandwidth, integer, registry, type ValueType } from '../config/value.ts';
import type { DirectionLimits, TransferLimits } from '../transfers/limits.ts';
import { ANY_REGISTRY } from '../transfers/queue.ts';
import { newRouter, serve } from './call.ts';
import { known, readFields } from './fields.ts';
import { quote } from './parameters.ts';
import type { ApiParts } from './parts.ts';

/** A change of the limits, in bytes: 64 KiB. */
const MAX_BODY_BYTES = 64 * 1024;

const DIRECTIONS = ['downloads', 'uploads'] as const;
const FIELDS = ['concurrency', 'registries', 'bandwidth'] as const;

const count = integer(1, MAX_CONCURRENCY);

/** The limits of transfers, told and changed while the daemon runs, under `/layerd/limits`. */
export function limitRoutes({ limits }: Pick<ApiParts, 'limits'>): Router {
  const router = newRouter();
  router.get(
    '/layerd/limits',
    serve((call) => call.json(reportOf(limits.get()))),
  );
  router.patch(
    '/layerd/limits',
    serve(async (call) => {
      const patch = await readFields(call, MAX_BODY_BYTES);
      if (patch === undefined) {
        throw new LayerdError(
          'invalid',
          `the body is no change: expected a JSON object with ${DIRECTIONS.join(' or ')}`,
        );
      }
      // From here on in one turn: what somebody else changes meanwhile stays.
      const before = limits.get();
      const after = patched(before, patch);
      const changed = changesBetween(reportOf(before), reportOf(after));
      if (Object.keys(changed).length > 0) limits.change(after, changed);
      call.json(reportOf(after));
    }),
  );
  return router;
}

function reportOf({ downloads, uploads }: TransferLimits): LimitsReport {
  const direction = ({ total, registries, bandwidth: rules }: DirectionLimits): DirectionReport => ({
    concurrency: total,
    registries: { ...registries },
    bandwidth: rules.map(formatBandwidth),
  });
  return { downloads: direction(downloads), uploads: direction(uploads) };
}

/** Each field that differs, with its new value. */
function changesBetween(before: LimitsReport, after: LimitsReport): Record<string, string> {
  const told = (report: LimitsReport): [string, string][] =>
    DIRECTIONS.flatMap((direction) =>
      FIELDS.map((field): [string, string] => [`${direction}.${field}`, JSON.stringify(report[direction][field])]),
    );
  const old = new Map(told(before));
  return Object.fromEntries(told(after).filter(([name, value]) => old.get(name) !== value));
}

/** The limits with the patch applied. Throws `invalid`, naming the first field that is wrong. */
function patched(limits: TransferLimits, patch: Record<string, unknown>): TransferLimits {
  const directions = known(patch, DIRECTIONS);
  const direction = (name: (typeof DIRECTIONS)[number]): DirectionLimits => {
    const before = limits[name];
    if (directions[name] === undefined) return before;
    const fields = known(objectIn(name, directions[name]), FIELDS, `${name}.`);
    const { concurrency, registries, bandwidth: rules } = fields;
    return {
      total: concurrency === undefined ? before.total : checked(`${name}.concurrency`, count, concurrency),
      registries: registriesIn(`${name}.registries`, before.registries, registries),
      bandwidth: rules === undefined ? before.bandwidth : rulesIn(`${name}.bandwidth`, rules),
    };
  };
  return { downloads: direction('downloads'), uploads: direction('uploads') };
}

function registriesIn(name: string, before: DirectionLimits['registries'], patch: unknown): Record<string, number> {
  if (patch === null) return {};
  const limits = new Map(Object.entries(before));
  for (const [key, value] of Object.entries(patch === undefined ? {} : objectIn(name, patch))) {
    const host = key === ANY_REGISTRY ? key : checked(name, registry, key);
    if (value === null) limits.delete(host);
    else limits.set(host, checked(`${name}.${key}`, count, value));
  }
  return Object.fromEntries(limits);
}

function rulesIn(name: string, value: unknown): DirectionLimits['bandwidth'] {
  if (value === null) return [];
  if (!Array.isArray(value)) throw new LayerdError('invalid', `field ${name}: expected a list such as ["20m"]`);
  return value.map((rule: unknown, index) => checked(`${name}[${index}]`, bandwidth, rule));
}

function objectIn(name: string, value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new LayerdError('invalid', `field ${name}: expected an object`);
}

function checked<T>(name: string, type: ValueType<T>, value: unknown): T {
  try {
    return type.check(value);
  } catch (error) {
    const shown = quote(JSON.stringify(value));
    throw new LayerdError('invalid', `field ${name}: ${shown} ${messageOf(error)}`, { cause: error });
  }
}
