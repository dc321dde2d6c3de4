import { readdirSync } from 'node:fs';
import { Gauge, type Metric, type Sample } from './metric.ts';

const MICROSECONDS = 1_000_000;

/** What every process is asked, under the names that Prometheus's own client libraries have for it. */
export function processMetrics(): Metric[] {
  const started = Date.now() / 1000 - process.uptime();
  const one = (name: string, help: string, value: () => number): Gauge =>
    new Gauge({ name, help, read: () => [[{}, value()]] });
  return [
    {
      name: 'process_cpu_seconds',
      type: 'counter',
      help: 'CPU time, of the user and the system, in seconds.',
      samples: (): Sample[] => {
        const { user, system } = process.cpuUsage();
        return [{ suffix: '_total', labels: {}, value: (user + system) / MICROSECONDS }];
      },
    },
    one('process_resident_memory_bytes', 'Resident memory in bytes.', () => process.memoryUsage.rss()),
    one('process_start_time_seconds', 'Start of the process, in seconds since the epoch.', () => started),
    one('process_open_fds', 'Open file descriptors.', () => readdirSync('/proc/self/fd').length),
    one('nodejs_heap_size_used_bytes', 'Heap of JavaScript in use, in bytes.', () => process.memoryUsage().heapUsed),
    one('nodejs_external_memory_bytes', 'Memory outside of the heap, in bytes.', () => process.memoryUsage().external),
  ];
}
