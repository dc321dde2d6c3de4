import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DaemonMetrics } from '../../../src/daemon/metrics/daemon.ts';
import { expose } from '../../../src/daemon/metrics/exposition.ts';
import { Counter, Gauge, Histogram } from '../../../src/daemon/metrics/metric.ts';
import { parseExposition, sumOf } from '../../support/exposition.ts';

const daemonMetrics = () =>
  new DaemonMetrics({
    build: { version: '1' },
    transfers: (direction) => ({ waiting: direction === 'upload' ? 2 : 0, running: 1 }),
    events: () => ({ subscribers: 3, lag: 4, end: 5 }),
    disk: () => ({ capacity: 100, available: 40 }),
    sets: () => new Map(),
    stored: () => ({ images: 6, blobs: 7, blobBytes: 8, layers: 9, layerBytes: 10, damaged: 0 }),
  });

describe('the exposition', () => {
  const counter = new Counter<'who'>({ name: 'things', help: 'A\\B\nC' });
  counter.add({ who: 'a "b"\\\n' }, 2);
  counter.add({ who: 'a "b"\\\n' });
  const histogram = new Histogram({ name: 'took_seconds', help: 'Time.', bounds: [0.5, 2] });
  for (const value of [0.5, 0.6, 3]) histogram.observe({}, value);
  const gauge = new Gauge({ name: 'now', help: 'Now.', read: () => [[{}, -1.5]] });

  it('has the text format 0.0.4', () => {
    assert.equal(
      expose([counter, histogram, gauge], 'text/plain'),
      `# HELP things_total A\\\\B\\nC
# TYPE things_total counter
things_total{who="a \\"b\\"\\\\\\n"} 3
# HELP took_seconds Time.
# TYPE took_seconds histogram
took_seconds_bucket{le="0.5"} 1
took_seconds_bucket{le="2.0"} 2
took_seconds_bucket{le="+Inf"} 3
took_seconds_sum 4.1
took_seconds_count 3
# HELP now Now.
# TYPE now gauge
now -1.5
`,
    );
  });

  it('has OpenMetrics, where families of counters have no suffix and the end is told', () => {
    const text = expose([counter, gauge], 'application/openmetrics-text');
    assert.match(text, /^# HELP things A.*\n# TYPE things counter\nthings_total\{who=/);
    assert.ok(text.endsWith('\nnow -1.5\n# EOF\n'));
  });
});

describe('the metrics of the daemon', () => {
  it('follow the format, in both forms, with and without anything to tell', () => {
    const metrics = daemonMetrics();
    for (const form of ['text/plain', 'application/openmetrics-text'] as const) {
      const samples = parseExposition(metrics.expose(form), form !== 'text/plain');
      assert.equal(samples.get('layerd_stored_objects{kind="layer"}'), 9);
      assert.equal(samples.get('layerd_transfers_waiting{direction="upload"}'), 2);
      assert.equal(samples.get('layerd_event_subscriber_lag_events'), 4);
      assert.ok((samples.get('process_resident_memory_bytes') ?? 0) > 1e6);
      assert.ok((samples.get('process_cpu_seconds_total') ?? 0) > 0);
    }
    metrics.operated('pull', 'ok', 1);
    metrics.transferred('download', 'docker.io', 'done', 1);
    metrics.moved('download', 'docker.io', 10);
    metrics.asked('docker.io', undefined);
    metrics.asked('docker.io', 429);
    metrics.asked('docker.io', 404);
    metrics.appended('image');
    metrics.freed({ blobs: [1, 2], layers: [], bytes: 100 });
    metrics.delayed(0.2);
    const answered = metrics.requested();
    assert.equal(parseExposition(metrics.expose('text/plain'), false).get('layerd_http_requests_in_flight'), 1);
    answered({ method: 'GET', route: '/info', status: 200 });
    for (const form of ['text/plain', 'application/openmetrics-text'] as const) {
      const samples = parseExposition(metrics.expose(form), form !== 'text/plain');
      assert.equal(samples.get('layerd_http_requests_in_flight'), 0);
      assert.equal(samples.get('layerd_http_requests_total{method="GET",route="/info",status="200"}'), 1);
      assert.equal(samples.get('layerd_registry_requests_total{host="docker.io",status="none"}'), 1);
      assert.equal(samples.get('layerd_registry_requests_total{host="docker.io",status="429"}'), 1);
      assert.equal(samples.get('layerd_registry_requests_total{host="docker.io",status="4xx"}'), 1);
      assert.equal(samples.get('layerd_reclaimed_objects_total{kind="blob"}'), 2);
      assert.equal(samples.get('layerd_reclaimed_bytes_total'), 100);
      assert.equal(samples.get('layerd_event_loop_delay_seconds_bucket{le="0.1"}'), 0);
      assert.equal(samples.get('layerd_event_loop_delay_seconds_bucket{le="0.25"}'), 1);
    }
  });

  it('do not grow with what clients and registries make up', () => {
    const metrics = daemonMetrics();
    for (let number = 0; number < 1000; number += 1) {
      metrics.asked(`cdn${number}.example.com`, 100 + (number % 900));
      metrics.requested()({ method: `M${number}`, route: 'none', status: 404 });
    }
    // The hosts of redirects leave the names of registries alone.
    for (let number = 0; number < 1000; number += 1) metrics.moved('download', `r${number}.example.com`, 1);
    const samples = parseExposition(metrics.expose('text/plain'), false);
    assert.equal(samples.get('layerd_transfer_bytes_total{direction="download",registry="r31.example.com"}'), 1);
    assert.equal(samples.get('layerd_transfer_bytes_total{direction="download",registry="other"}'), 968);
    assert.equal(sumOf(samples, 'layerd_registry_requests_total'), 1000);
    assert.equal(samples.get('layerd_http_requests_total{method="other",route="none",status="404"}'), 1000);
    assert.ok(samples.size < 500, `${samples.size}`);
  });
});
