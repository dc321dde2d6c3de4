import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { startCollector, type Collector, type ReceivedSpan } from '../support/collector.ts';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { bulk, image, push } from '../support/images.ts';
import { listen } from '../support/listen.ts';
import { needs } from '../support/process.ts';
import { ACCOUNT, startRegistry } from '../support/registry.ts';
import { beginPull, startStack, type StackOptions } from '../support/stack.ts';

const MEBIBYTE = 1024 * 1024;
/** Some client's trace, of which it asks something of the daemon. */
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const CLIENT_SPAN = '00f067aa0ba902b7';
const TRACEPARENT = `00-${TRACE}-${CLIENT_SPAN}-01`;

const SERVER = 2;
const CLIENT = 3;
const ERROR = 2;

function traced({ url }: Pick<Collector, 'url'>, env: Record<string, string> = {}): Pick<StackOptions, 'env'> {
  return { env: { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_BSP_SCHEDULE_DELAY: '50', ...env } };
}

const pull = (daemon: Daemon, ref: string, headers: Record<string, string> = {}) =>
  daemon.request(`/images/create?fromImage=${encodeURIComponent(ref)}`, { method: 'POST', headers });

/** Waits for a request of the API to be told, and with it all that came of it, which ended before. */
async function tree(collector: Collector, what: string, fits: (span: ReceivedSpan) => boolean): Promise<Tree> {
  const root = await collector.span(what, (span) => span.kind === SERVER && fits(span));
  return new Tree(
    root,
    collector.spans.filter(({ traceId }) => traceId === root.traceId),
  );
}

class Tree {
  readonly root: ReceivedSpan;
  readonly #spans: readonly ReceivedSpan[];

  constructor(root: ReceivedSpan, spans: readonly ReceivedSpan[]) {
    this.root = root;
    this.#spans = spans;
  }

  /** The one span of the name that there is. */
  one(name: string, fits: (span: ReceivedSpan) => boolean = () => true): ReceivedSpan {
    const found = this.#spans.filter((span) => span.name === name && fits(span));
    assert.equal(found.length, 1, `${found.length} spans ${name} among ${this.#spans.map((span) => span.name).join()}`);
    return found[0] as ReceivedSpan;
  }

  /** Names from below the root down to the span. */
  path(span: ReceivedSpan): string[] {
    const parent = this.#spans.find(({ spanId }) => spanId === span.parentSpanId);
    return span === this.root || parent === undefined ? [] : [...this.path(parent), span.name];
  }

  below(span: ReceivedSpan): string[] {
    const inOrder = [...this.#spans].sort((a, b) => Number(a.begin - b.begin));
    return inOrder.filter(({ parentSpanId }) => parentSpanId === span.spanId).map(({ name }) => name);
  }
}

describe('traces', { skip: needs('docker-registry', 'openssl') }, () => {
  it('show a pull from its client down to the registry and to the transaction', async () => {
    await using collector = await startCollector();
    const args = ['-D', '--log-format', 'json'];
    await using stack = await startStack({ args, ...traced(collector, { OTEL_RESOURCE_ATTRIBUTES: 'rack=7' }) });
    const { daemon, proxy } = stack;
    const layer = await bulk('traced', 2 * MEBIBYTE);
    const pushed = await stack.push('app:1', image({ layers: [layer] }));
    proxy.inject({ path: new RegExp(`blobs/${layer.digest}`), times: 1, answer: { status: 503 } });
    await pull(daemon, stack.ref('app:1'), { traceparent: TRACEPARENT, tracestate: 'vendor=1' });

    const trace = await tree(collector, 'the pull', ({ name }) => name === 'POST /images/create');
    const { root } = trace;
    assert.deepEqual([root.traceId, root.parentSpanId, root.traceState], [TRACE, CLIENT_SPAN, 'vendor=1']);
    assert.equal(root.attributes['http.route'], '/images/create');
    assert.equal(root.attributes['http.response.status_code'], 200);
    assert.equal(root.attributes['url.path'], '/images/create');
    assert.deepEqual([root.resource['service.name'], root.resource['rack']], ['layerd', '7']);

    const verb = trace.one('pull');
    assert.deepEqual(trace.path(verb), ['pull']);
    assert.equal(verb.attributes['layerd.reference'], stack.ref('app:1'));
    assert.equal(verb.attributes['layerd.result'], 'ok');
    assert.deepEqual(verb.status, {});
    const resolved = trace.one('resolve');
    assert.equal(resolved.attributes['layerd.digest'], pushed.digest);
    assert.deepEqual(trace.below(resolved), ['HEAD /v2/{name}/manifests/{reference}']);
    assert.deepEqual(trace.path(trace.one('commit')), ['pull', 'commit']);

    const transfer = trace.one('transfer layer');
    assert.deepEqual(trace.path(transfer), ['pull', 'transfer layer']);
    assert.equal(transfer.attributes['layerd.blob.digest'], layer.digest);
    assert.equal(transfer.attributes['layerd.transfer.received'], layer.bytes.byteLength);
    assert.equal(transfer.attributes['layerd.transfer.host'], proxy.host);
    assert.equal(transfer.attributes['layerd.result'], 'done');
    assert.deepEqual(transfer.links, []);
    const states = ['waiting', 'downloading', 'verifying', 'extracting'];
    assert.deepEqual(
      trace.below(transfer).filter((name) => states.includes(name)),
      states,
    );
    const asked = trace.one('GET /v2/{name}/blobs/{digest}', ({ parentSpanId }) => parentSpanId === transfer.spanId);
    assert.equal(asked.kind, CLIENT);
    assert.equal(asked.attributes['http.response.status_code'], 200);
    assert.equal(
      `${String(asked.attributes['server.address'])}:${String(asked.attributes['server.port'])}`,
      proxy.host,
    );
    assert.deepEqual(
      asked.events.map(({ name, attributes }) => [name, attributes['http.response.status_code']]),
      [
        ['attempt', 503],
        ['attempt', 200],
      ],
    );
    for (const span of collector.spans) {
      assert.ok(span.end >= span.begin && span.begin >= root.begin && span.end <= root.end, span.name);
    }

    const lines = daemon.log.split('\n').filter((line) => line.includes('asked a registry'));
    const about = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual([...new Set(about.map((line) => line['trace']))], [TRACE]);
    assert.deepEqual([...new Set(about.map((line) => line['request']))], [root.attributes['layerd.request']]);
    // A registry learns nothing of it.
    for (const { headers } of proxy.seen) assert.equal(headers['traceparent'], undefined);
  });

  it('link a transfer with all pulls that share it, and tell why a pull failed', async () => {
    await using collector = await startCollector();
    await using stack = await startStack(traced(collector));
    const { daemon, proxy } = stack;
    const layer = await bulk('shared', 2 * MEBIBYTE);
    for (const name of ['one', 'two']) {
      await stack.push(`${name}:1`, image({ layers: [layer], config: { author: name } }));
    }
    const going = Promise.withResolvers<undefined>();
    proxy.inject({ path: new RegExp(`blobs/${layer.digest}`), stallAfter: MEBIBYTE, until: going.promise });
    await beginPull(stack, 'one:1', layer);
    const second = pull(daemon, stack.ref('two:1'));
    for (;;) {
      const transfers = (await daemon.request('/layerd/transfers')).json<{ wantedBy: unknown[] }[]>();
      if (transfers.some(({ wantedBy }) => wantedBy.length === 2)) break;
    }
    going.resolve(undefined);
    await second;

    const reference = (name: string) => (span: ReceivedSpan) =>
      span.name === 'pull' && span.attributes['layerd.reference'] === stack.ref(name);
    const [one, two] = [
      await collector.span('the first pull', reference('one:1')),
      await collector.span('the second pull', reference('two:1')),
    ];
    const [transfer, ...others] = collector.spans.filter(({ name }) => name === 'transfer layer');
    assert.ok(transfer !== undefined && others.length === 0);
    assert.deepEqual([transfer.traceId, transfer.parentSpanId], [one.traceId, one.spanId]);
    assert.notEqual(two.traceId, one.traceId);
    const idsOf = (links: ReceivedSpan['links']) => links.map(({ traceId, spanId }) => ({ traceId, spanId }));
    assert.deepEqual(idsOf(transfer.links), [{ traceId: two.traceId, spanId: two.spanId }]);
    assert.deepEqual(idsOf(two.links), [{ traceId: transfer.traceId, spanId: transfer.spanId }]);
    assert.deepEqual(one.links, []);

    await pull(daemon, stack.ref('nothing:1'));
    const lost = await collector.span('the failed pull', reference('nothing:1'));
    assert.equal(lost.status.code, ERROR);
    assert.match(lost.status.message ?? '', /nothing/);
    assert.deepEqual([lost.attributes['error.type'], lost.attributes['layerd.result']], ['not-found', 'not-found']);
    // What is asked all the time is in no trace, and what clients make up is none.
    await daemon.request('/v1.44/_ping');
    await daemon.request('/metrics');
    await daemon.request('/images/nothing/json', { headers: { traceparent: '00-zz-zz-01' } });
    await collector.span('an inspection', ({ name }) => name === 'GET /images/{name}/json');
    const paths = collector.spans.map(({ attributes }) => attributes['url.path']);
    assert.ok(!paths.includes('/v1.44/_ping') && !paths.includes('/metrics'));
  });

  it('hold no credentials, and no query of a URL', async () => {
    await using collector = await startCollector();
    await using stack = await startStack({ registry: { tokenAuth: { anonymousPull: false } }, ...traced(collector) });
    const { daemon, proxy, registry } = stack;
    const layer = await bulk('signed', MEBIBYTE);
    await using open = await startRegistry({ storage: join(registry.dir, 'storage') });
    await push(open.host, 'app', '1', image({ layers: [layer] }));
    // The layer comes from elsewhere, by a URL that is signed.
    const { bytes } = layer;
    const storage = await listen(
      createServer(({ url }, response) => {
        response.writeHead(url?.startsWith('/missing') === true ? 404 : 200).end(bytes);
      }),
    );
    await using _closing = { [Symbol.asyncDispose]: () => storage.close() };
    proxy.inject({
      path: new RegExp(`blobs/${layer.digest}`),
      answer: { status: 307, headers: { location: `http://${storage.host}/layer?X-Amz-Signature=s1gn4ture` } },
    });
    const auth = Buffer.from(JSON.stringify(ACCOUNT)).toString('base64url');
    const answer = await pull(daemon, stack.ref('app:1'), { 'X-Registry-Auth': auth });
    assert.match(answer.body, /Downloaded newer image/);
    for (const name of ['rootfs.tar', 'missing.tar']) {
      const source = encodeURIComponent(`http://someone:s3cret@${storage.host}/${name}?sig=s1gn4ture`);
      await daemon.request(`/images/create?fromSrc=${source}&repo=imported`, { method: 'POST' });
    }
    await collector.span('the import that failed', ({ name, status }) => name === 'import' && status.code === ERROR);
    await collector.span('the redirected blob', ({ events }) =>
      events.some(({ attributes }) => attributes['url.full'] === `http://${storage.host}/layer`),
    );
    const sent = collector.requests.map(({ text }) => text).join();
    const { password } = ACCOUNT;
    const tokens = proxy.seen.flatMap(({ authorization }) => authorization?.split(' ')[1] ?? []);
    assert.ok(tokens.length > 0);
    for (const secret of [password, encodeURIComponent(password), auth, ...tokens, 's1gn4ture', 's3cret']) {
      assert.ok(!sent.includes(secret), `${secret} was sent to the collector`);
    }
  });

  it('show each verb with what it was about, and what its transfers did', async () => {
    await using collector = await startCollector();
    await using stack = await startStack(traced(collector));
    const { daemon, proxy, registry } = stack;
    const layer = await bulk('verbs', MEBIBYTE);
    await stack.push('app:1', image({ layers: [layer] }));
    await pull(daemon, stack.ref('app:1'));
    const name = `${registry.host}/other`;
    await daemon.request(`/images/${stack.ref('app:1')}/tag?repo=${encodeURIComponent(name)}&tag=2`, {
      method: 'POST',
    });
    await daemon.request(`/images/${name}/push?tag=2`, { method: 'POST', headers: { 'X-Registry-Auth': 'e30=' } });
    const saved = await daemon.open(`/images/get?names=${encodeURIComponent(`${name}:2`)}`);
    const archive = await buffer(saved);
    await daemon.request(`/images/${name}:2`, { method: 'DELETE' });
    await daemon.request('/images/load', { method: 'POST', body: archive });
    const trace = await tree(collector, 'the load', ({ attributes }) => attributes['http.route'] === '/images/load');
    assert.deepEqual(trace.path(trace.one('commit')), ['load', 'commit']);

    const about = (verb: string) => collector.spans.find((span) => span.name === verb)?.attributes;
    assert.deepEqual(about('tag'), { 'layerd.image': stack.ref('app:1'), 'layerd.reference': `${name}:2` });
    assert.deepEqual(about('push'), { 'layerd.reference': `${name}:2`, 'layerd.result': 'ok' });
    assert.deepEqual(about('save'), { 'layerd.image': [`${name}:2`], 'layerd.platform': [] });
    const removed = { 'layerd.image': `${name}:2`, 'layerd.platform': [], 'layerd.result': 'ok' };
    assert.deepEqual(about('remove'), removed);
    const push = await tree(collector, 'the push', ({ name: called }) => called === 'POST /images/{name}/push');
    const upload = push.one('transfer layer');
    assert.deepEqual(push.path(upload), ['push', 'transfer layer']);
    assert.equal(upload.attributes['layerd.transfer.direction'], 'upload');
    const sent = push.below(upload);
    for (const expected of ['uploading', 'POST /v2/{name}/blobs/uploads/', 'PUT /v2/{name}/blobs/uploads/{session}']) {
      assert.ok(sent.includes(expected), sent.join());
    }
    assert.deepEqual(push.path(push.one('commit')), ['push', 'commit']);

    // Refused, which may be how a registry hides what there is.
    await daemon.request(`/images/${stack.ref('app:1')}?force=1`, { method: 'DELETE' });
    await daemon.request(`/images/${name}:2`, { method: 'DELETE' });
    proxy.inject({ path: new RegExp(`blobs/${layer.digest}`), answer: { status: 403 } });
    await pull(daemon, stack.ref('app:1'));
    const lost = await collector.span(
      'the failed transfer',
      ({ attributes }) => attributes['layerd.result'] === 'failed',
    );
    assert.deepEqual([lost.status.code, lost.attributes['error.type']], [ERROR, 'not-found']);
    const refused = collector.spans.find(({ attributes }) => attributes['http.response.status_code'] === 403);
    assert.deepEqual([refused?.status.code, refused?.attributes['error.type']], [ERROR, '403']);
  });

  it('are sent on a stop, and tell registries of themselves where that is wanted', async () => {
    await using collector = await startCollector();
    const env = { OTEL_PROPAGATORS: 'tracecontext,baggage', OTEL_BSP_SCHEDULE_DELAY: '60000' };
    await using stack = await startStack(traced(collector, env));
    const { daemon, proxy } = stack;
    const layer = await bulk('told', MEBIBYTE);
    await stack.push('app:1', image({ layers: [layer] }));
    const headers: unknown[] = [];
    const { bytes } = layer;
    const storage = await listen(
      createServer((request, response) => {
        headers.push(request.headers['traceparent']);
        response.end(bytes);
      }),
    );
    await using _closing = { [Symbol.asyncDispose]: () => storage.close() };
    const location = `http://${storage.host}/layer`;
    proxy.inject({ path: new RegExp(`blobs/${layer.digest}`), answer: { status: 307, headers: { location } } });
    const seen = proxy.seen.length;
    await pull(daemon, stack.ref('app:1'), { traceparent: TRACEPARENT });
    await daemon.kill('SIGTERM');
    const spans = new Map(collector.spans.map((span) => [span.spanId, span]));
    assert.ok([...spans.values()].some(({ name }) => name === 'POST /images/create'));
    for (const { headers: told } of proxy.seen.slice(seen)) {
      const [, traceId = '', spanId = ''] = String(told['traceparent']).split('-');
      assert.equal(traceId, TRACE);
      assert.equal(spans.get(spanId)?.kind, CLIENT);
    }
    assert.deepEqual(headers, [undefined]);
  });

  it('hold nothing up where the collector cannot be reached', async () => {
    // A port that was free a moment ago.
    const { host, close } = await listen(createServer());
    await close();
    await using daemon = await startDaemon(traced({ url: `http://${host}` }));
    for (let count = 0; count < 3; count += 1) await daemon.request('/images/json');
    while (!daemon.log.includes('traces cannot be sent')) await daemon.request('/images/json');
    const outcome = await daemon.kill('SIGTERM');
    assert.equal(outcome.code, 0);
    assert.equal(outcome.stderr.split('traces cannot be sent').length, 2);
    assert.match(outcome.stderr, /spans were not sent before the stop/);
  });
});
