import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Recorder, type RecorderOptions, type SpanRecord } from '../../../src/daemon/tracing/recorder.ts';
import { samplerOf } from '../../../src/daemon/tracing/sampler.ts';
import { parseTraceContext } from '../../../src/daemon/tracing/trace-context.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

function recorder(options: Partial<RecorderOptions> = {}): { tracer: Recorder; ended: SpanRecord[] } {
  const ended: SpanRecord[] = [];
  const sampler = samplerOf('parentbased_always_on', 1);
  const tracer = new Recorder({
    sampler,
    continues: true,
    tells: true,
    onEnd: (span) => ended.push(span),
    ...options,
  });
  return { tracer, ended };
}

describe('a trace', () => {
  it('has spans below each other, through whatever awaits', async () => {
    const { tracer, ended } = recorder();
    await tracer.during('outer', { a: 1 }, async () => {
      await turn();
      tracer.during('inner', {}, () => tracer.current.event('happened', { b: true }));
      tracer.current.set({ c: 'd' });
    });
    tracer.begin('other').end();
    const [inner, outer, other] = ended;
    assert.ok(inner !== undefined && outer !== undefined);
    assert.deepEqual(
      ended.map(({ name }) => name),
      ['inner', 'outer', 'other'],
    );
    assert.equal(inner.parentId, outer.context.spanId);
    assert.equal(inner.context.traceId, outer.context.traceId);
    assert.notEqual(other?.context.traceId, outer.context.traceId);
    assert.deepEqual(outer.attributes, { a: 1, c: 'd' });
    assert.deepEqual(
      inner.events.map(({ name, attributes }) => [name, attributes]),
      [['happened', { b: true }]],
    );
    assert.ok(outer.begin <= inner.begin && inner.end <= outer.end);
  });

  it('has the error of what throws, now or later, with its kind', async () => {
    const { tracer, ended } = recorder();
    const error = new LayerdError('not-found', 'no such thing');
    const fail = (): never => {
      throw error;
    };
    assert.throws(() => tracer.during('now', {}, fail), error);
    await assert.rejects(
      tracer.during('later', {}, () => turn().then(fail)),
      error,
    );
    for (const span of ended) {
      assert.equal(span.error, 'no such thing');
      assert.equal(span.attributes['error.type'], 'not-found');
    }
    assert.equal(ended.length, 2);
  });

  it('goes on from a caller, unless that is turned off', () => {
    const caller = { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'a=1' };
    const { tracer, ended } = recorder();
    const span = tracer.begin('served', { kind: 'server', caller });
    assert.match(span.traceparent ?? '', new RegExp(`^00-${TRACE}-[0-9a-f]{16}-01$`));
    span.end();
    assert.deepEqual([ended[0]?.context.traceId, ended[0]?.parentId, ended[0]?.context.state], [TRACE, SPAN, 'a=1']);
    const alone = recorder({ continues: false, tells: false });
    const own = alone.tracer.begin('served', { caller });
    assert.notEqual(own.traceId, TRACE);
    assert.equal(own.traceparent, undefined);
  });

  it('takes nothing after its end, and keeps so many links and events', () => {
    const { tracer, ended } = recorder();
    const span = tracer.begin('busy');
    for (let count = 0; count < 130; count += 1) {
      span.event('again');
      span.link(tracer.begin('joined'));
    }
    span.end();
    span.set({ late: true });
    span.event('late');
    span.end();
    const [busy, ...others] = ended;
    assert.deepEqual(others, []);
    assert.deepEqual([busy?.events.length, busy?.droppedEvents], [128, 2]);
    assert.deepEqual([busy?.links.length, busy?.droppedLinks], [128, 2]);
    assert.equal(busy?.attributes['late'], undefined);
  });
});

describe('a sampler', () => {
  const begin = (name: Parameters<typeof samplerOf>[0], share: number, flags?: string): number => {
    const { tracer, ended } = recorder({ sampler: samplerOf(name, share) });
    for (let count = 0; count < 200; count += 1) {
      const caller = flags === undefined ? {} : { traceparent: `00-${TRACE}-${SPAN}-${flags}` };
      const span = tracer.begin('root', { caller });
      span.within(() => tracer.begin('below').end());
      span.end();
    }
    // Whole traces or nothing.
    assert.equal(ended.length % 2, 0);
    return ended.length / 2;
  };

  it('takes all, none, or a share of the traces', () => {
    assert.equal(begin('always_on', 1), 200);
    assert.equal(begin('always_off', 1), 0);
    assert.equal(begin('traceidratio', 1), 200);
    assert.equal(begin('traceidratio', 0), 0);
    const half = begin('parentbased_traceidratio', 0.5);
    assert.ok(half > 20 && half < 180, `${half}`);
  });

  it('follows the caller where it is based on that', () => {
    assert.equal(begin('parentbased_always_on', 1, '00'), 0);
    assert.equal(begin('parentbased_always_off', 1, '01'), 200);
    assert.equal(begin('always_on', 1, '00'), 200);
    assert.equal(begin('always_off', 1, '01'), 0);
  });
});

describe("a caller's headers", () => {
  it('are read as W3C Trace Context has them', () => {
    const context = parseTraceContext({ traceparent: `00-${TRACE}-${SPAN}-00`, tracestate: 'x=y' });
    assert.deepEqual(context, { traceId: TRACE, spanId: SPAN, isSampled: false, state: 'x=y' });
    assert.equal(parseTraceContext({ traceparent: `00-${TRACE}-${SPAN}-03` })?.isSampled, true);
    assert.equal(parseTraceContext({ traceparent: `cc-${TRACE}-${SPAN}-01-what-comes` })?.traceId, TRACE);
    assert.equal(
      parseTraceContext({ traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'x'.repeat(513) })?.state,
      undefined,
    );
  });

  it('are ignored where they are not valid', () => {
    const bad = [
      '',
      'nonsense',
      `ff-${TRACE}-${SPAN}-01`,
      `00-${TRACE}-${SPAN}-01-more`,
      `00-${'0'.repeat(32)}-${SPAN}-01`,
      `00-${TRACE}-${'0'.repeat(16)}-01`,
      `00-${TRACE.toUpperCase()}-${SPAN}-01`,
      `00-${TRACE}-${SPAN}`,
    ];
    for (const traceparent of bad) assert.equal(parseTraceContext({ traceparent }), undefined, traceparent);
    assert.equal(parseTraceContext({ tracestate: 'x=y' }), undefined);
  });
});
