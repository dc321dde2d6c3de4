import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { describe, it } from 'node:test';
import { readTracing } from '../../../src/daemon/config/tracing.ts';
import { startTracing, type Tracing } from '../../../src/daemon/tracing/tracing.ts';
import { makeCertificate } from '../../support/certificates.ts';
import { startCollector, type Collector } from '../../support/collector.ts';
import { listen } from '../../support/listen.ts';
import { needs, scratch } from '../../support/process.ts';
import { until } from '../../support/stack.ts';

interface Line {
  readonly level: 'info' | 'warn';
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

async function start(
  { url }: Pick<Collector, 'url'>,
  env: Record<string, string> = {},
): Promise<{ tracing: Tracing; lines: Line[] }> {
  const lines: Line[] = [];
  const to =
    (level: Line['level']) =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}): void => {
      lines.push({ level, message, fields });
    };
  const settings = readTracing(`${url}/v1/traces?key=s3cret`, { OTEL_BSP_SCHEDULE_DELAY: '10', ...env });
  const tracing = await startTracing(settings, { version: '1.2.3', log: { info: to('info'), warn: to('warn') } });
  return { tracing, lines };
}

const spans = ({ tracer }: Tracing, count: number): void => {
  for (let number = 0; number < count; number += 1) tracer.begin('span', { attributes: { number } }).end();
};

describe('spans on their way to a collector', () => {
  it('go to its path with the headers and attributes that the environment says', async () => {
    await using collector = await startCollector();
    const { tracing } = await start(collector, {
      OTEL_EXPORTER_OTLP_HEADERS: 'x-team=images,Authorization=Basic%20c2VjcmV0',
      OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
      OTEL_SERVICE_NAME: 'images',
    });
    tracing.tracer.begin('span', { attributes: { list: ['a', 'b'], share: 0.5, yes: true, left: undefined } }).end();
    const span = await collector.span('the span', ({ name }) => name === 'span');
    const [{ path, headers } = assert.fail()] = collector.requests;
    assert.equal(path, '/v1/traces?key=s3cret');
    assert.deepEqual(
      ['x-team', 'authorization', 'content-type', 'content-encoding', 'user-agent'].map((name) => headers[name]),
      ['images', 'Basic c2VjcmV0', 'application/json', 'gzip', 'layerd/1.2.3'],
    );
    assert.deepEqual(span.attributes, { list: ['a', 'b'], share: 0.5, yes: true });
    assert.equal(span.resource['service.name'], 'images');
    assert.equal(span.resource['service.version'], '1.2.3');
    await tracing.close(1000);
  });

  it(
    'go over TLS to a collector that the environment vouches for, and to no other',
    { skip: needs('openssl') },
    async () => {
      await using folder = await scratch('collector');
      const { certificate, key } = await makeCertificate(folder.path, 'collector');
      await using collector = await startCollector({ cert: await readFile(certificate), key: await readFile(key) });
      const strange = await start(collector);
      spans(strange.tracing, 1);
      await until('it to be refused', () => Promise.resolve(strange.lines.length > 0));
      assert.match(String(strange.lines[0]?.fields['reason']), /certificate/);
      assert.deepEqual(collector.requests, []);
      await strange.tracing.close(1000);
      const { tracing } = await start(collector, { OTEL_EXPORTER_OTLP_CERTIFICATE: certificate });
      spans(tracing, 1);
      await tracing.close(10_000);
      assert.equal(collector.spans.length, 1);
    },
  );

  it('go some at a time, and the rest at the stop', async () => {
    await using collector = await startCollector();
    const { tracing } = await start(collector, {
      OTEL_BSP_SCHEDULE_DELAY: '3600000',
      OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10',
    });
    spans(tracing, 25);
    await tracing.close(10_000);
    assert.deepEqual(
      collector.spans.map(({ attributes }) => attributes['number']),
      Array.from({ length: 25 }, (_, number) => number),
    );
    assert.equal(collector.requests.length, 3);
    // What comes too late is nobody's.
    spans(tracing, 1);
  });

  it('wait while the collector is busy, and come in order, and it is logged once', async () => {
    await using collector = await startCollector();
    const { tracing, lines } = await start(collector);
    collector.answer = { status: 503 };
    spans(tracing, 3);
    await until('it to be tried again', () => Promise.resolve(collector.requests.length >= 3));
    spans(tracing, 1);
    assert.deepEqual(
      lines.map(({ level }) => level),
      ['warn'],
    );
    assert.match(lines[0]?.message ?? '', /cannot be sent/);
    assert.deepEqual(lines[0]?.fields, { collector: `${collector.url}/v1/traces`, reason: 'status 503' });
    collector.answer = undefined;
    await until('it to be told', () => Promise.resolve(lines.length === 2));
    assert.deepEqual(
      collector.spans.map(({ attributes }) => attributes['number']),
      [0, 1, 2, 0],
    );
    assert.deepEqual([lines[1]?.level, lines[1]?.fields['lost']], ['info', 0]);
    await tracing.close(1000);
  });

  it('are dropped where the collector refuses them, or too many wait', async () => {
    await using collector = await startCollector();
    const { tracing, lines } = await start(collector, { OTEL_BSP_MAX_QUEUE_SIZE: '5' });
    collector.answer = { status: 400 };
    spans(tracing, 8);
    await until('them to be refused', () => Promise.resolve(lines.length === 1));
    collector.answer = undefined;
    spans(tracing, 1);
    await until('it to be told', () => Promise.resolve(lines.length === 2));
    assert.equal(lines[1]?.fields['lost'], 8);
    assert.equal(collector.spans.length, 1);
    await tracing.close(1000);
  });

  it('are told of once where the collector takes only some', async () => {
    await using collector = await startCollector();
    const { tracing, lines } = await start(collector);
    collector.answer = {
      status: 200,
      body: JSON.stringify({ partialSuccess: { rejectedSpans: '1', errorMessage: 'too old' } }),
    };
    for (const count of [1, 2]) {
      spans(tracing, 1);
      await until('them to be sent', () => Promise.resolve(collector.spans.length === count));
    }
    await tracing.close(1000);
    assert.deepEqual(
      lines.map(({ fields }) => fields),
      [{ rejected: 1, reason: 'too old' }],
    );
  });

  it('keep nobody waiting for a collector that does not answer', async () => {
    // Takes requests and says nothing.
    const silent = await listen(createServer(() => undefined));
    await using _closing = { [Symbol.asyncDispose]: silent.close };
    const url = `http://${silent.host}`;
    const { tracing } = await start({ url }, { OTEL_BSP_SCHEDULE_DELAY: '3600000' });
    spans(tracing, 1);
    await tracing.close(50);
    const patient = await start({ url }, { OTEL_EXPORTER_OTLP_TIMEOUT: '20' });
    spans(patient.tracing, 1);
    await until('it to be given up', () => Promise.resolve(patient.lines.length > 0));
    assert.equal(patient.lines[0]?.fields['reason'], 'no answer within 20 ms');
    // It was not reached, and is not waited for again.
    await patient.tracing.close(60_000);
    assert.match(patient.lines.at(-1)?.message ?? '', /not sent before the stop/);
  });
});

it('without a collector nothing is recorded', async () => {
  const tracing = await startTracing(undefined, {
    version: '1.2.3',
    log: { info: () => undefined, warn: () => undefined },
  });
  const { tracer } = tracing;
  const span = tracer.begin('span');
  assert.equal(span, tracer.current);
  assert.equal(span.traceId, undefined);
  assert.equal(span.traceparent, undefined);
  assert.equal(
    tracer.during('work', {}, () => 7),
    7,
  );
  await tracing.close(1000);
});
