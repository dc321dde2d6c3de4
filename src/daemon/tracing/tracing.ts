import { hostname } from 'node:os';
import type { TracingSettings } from '../config/tracing.ts';
import { noTracer, type Tracer } from './tracer.ts';

/** The tracing of a daemon, from its start to its stop. */
export interface Tracing {
  readonly tracer: Tracer;
  /** Sends what has ended and was not sent yet, for so many milliseconds at most. */
  close(timeout: number): Promise<void>;
}

interface TracingLog {
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
}

/** Where there is no collector. */
export const noTracing: Tracing = { tracer: noTracer, close: () => Promise.resolve() };

/** Begins to send spans where a collector is configured; else nothing of what would do it is loaded. */
export async function startTracing(
  settings: TracingSettings | undefined,
  { version, log }: { readonly version: string; readonly log: TracingLog },
): Promise<Tracing> {
  if (settings === undefined) return noTracing;
  const [{ Recorder }, { Exporter }, { samplerOf }] = await Promise.all([
    import('./recorder.ts'),
    import('./exporter.ts'),
    import('./sampler.ts'),
  ]);
  for (const warning of settings.warnings) log.warn(warning);
  const resource = {
    'service.name': 'layerd',
    'service.version': version,
    'host.name': hostname(),
    'process.pid': process.pid,
    'telemetry.sdk.name': 'layerd',
    'telemetry.sdk.language': 'nodejs',
    'telemetry.sdk.version': version,
    ...settings.resource,
  };
  const exporter = new Exporter({ settings, source: { resource, scope: { name: 'layerd', version } }, log });
  const tracer = new Recorder({
    sampler: samplerOf(settings.sampler, settings.share),
    continues: settings.continues,
    tells: settings.tellsRegistries,
    onEnd: (span) => exporter.take(span),
  });
  return { tracer, close: (timeout) => exporter.close(timeout) };
}
