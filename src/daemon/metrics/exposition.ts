import type { Labels, Metric } from './metric.ts';

/** Prometheus's text format 0.0.4, and OpenMetrics 1.0, by their media types. */
export type Exposition = 'text/plain' | 'application/openmetrics-text';

/** Writes metrics as text. The formats differ in how they name counters, and in that OpenMetrics says where it ends. */
export function expose(metrics: readonly Metric[], form: Exposition): string {
  const isOpen = form === 'application/openmetrics-text';
  const lines: string[] = [];
  for (const metric of metrics) {
    const family = metric.type === 'counter' && !isOpen ? `${metric.name}_total` : metric.name;
    lines.push(`# HELP ${family} ${escape(metric.help)}`, `# TYPE ${family} ${metric.type}`);
    for (const { suffix, labels, value } of metric.samples()) {
      lines.push(`${metric.name}${suffix}${labelText(labels)} ${value}`);
    }
  }
  if (isOpen) lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escape(value).replaceAll('"', '\\"')}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

const escape = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
