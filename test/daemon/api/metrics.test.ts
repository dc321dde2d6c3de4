import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import request from 'supertest';
import { parseExposition, sumOf, type Samples } from '../../support/exposition.ts';
import { Fixture } from './fixture.ts';

describe('GET /metrics', () => {
  let api: Fixture;
  before(async () => {
    api = await Fixture.start();
    await api.fill();
  });
  after(() => api[Symbol.asyncDispose]());

  const scrape = async (): Promise<Samples> =>
    parseExposition((await request(api.url).get('/metrics').expect(200)).text, false);

  it('answers in the format that is asked for, with and without a version', async () => {
    const prometheus =
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
    const open = await request(api.url).get('/v1.56/metrics').set('Accept', prometheus).buffer(true).expect(200);
    assert.equal(open.headers['content-type'], 'application/openmetrics-text; version=1.0.0; charset=utf-8');
    parseExposition(open.text, true);
    for (const accept of ['text/plain', '*/*', '', 'application/json']) {
      const { headers, text } = await request(api.url).get('/metrics').set('Accept', accept).expect(200);
      assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
      parseExposition(text, false);
    }
    await request(api.url).head('/metrics').expect(200);
    await request(api.url).post('/metrics').expect(404);
  });

  it('has requests by the templates of their routes, whatever is asked for', async () => {
    await request(api.url).get('/v1.40/images/redis:7/json').expect(200);
    await request(api.url).get('/images/localhost:5000/team/app:1.0/json').expect(200);
    await request(api.url).get('/images/nothing/json').expect(404);
    await request(api.url).get('/made/up?by=a&client').expect(404);
    await request(api.url).get('/v9.99/info').expect(400);
    const samples = await scrape();
    const of = (method: string, route: string, status: number): number | undefined =>
      samples.get(`layerd_http_requests_total{method="${method}",route="${route}",status="${status}"}`);
    assert.equal(of('GET', '/images/{name}/json', 200), 2);
    assert.equal(of('GET', '/images/{name}/json', 404), 1);
    assert.equal(of('GET', 'none', 404), 1);
    assert.equal(of('GET', 'none', 400), 1);
    assert.equal(sumOf(samples, 'layerd_http_request_duration_seconds_count', 'route="/images/{name}/json"'), 3);
    assert.equal(samples.get('layerd_http_requests_in_flight'), 1);
  });

  it('has subscribers, over WebSockets too, until they go', async () => {
    const socket = new WebSocket(`${api.url.replace('http', 'ws')}/layerd/events`);
    await new Promise((resolve) => socket.addEventListener('message', resolve, { once: true }));
    const during = await scrape();
    assert.equal(during.get('layerd_event_subscribers'), 1);
    assert.equal(during.get('layerd_event_subscriber_lag_events'), 0);
    assert.equal(during.get('layerd_http_requests_in_flight'), 2);
    const closed = new Promise((resolve) => socket.addEventListener('close', resolve, { once: true }));
    socket.close();
    await closed;
    // The server hears of the end a little later than the client.
    let samples = await scrape();
    const hasLeft = (): boolean =>
      samples.get('layerd_event_subscribers') === 0 && samples.get('layerd_http_requests_in_flight') === 1;
    for (let scrapes = 0; !hasLeft() && scrapes < 1000; scrapes += 1) samples = await scrape();
    assert.ok(hasLeft());
    assert.equal(samples.get('layerd_http_requests_total{method="GET",route="/layerd/events",status="101"}'), 1);
  });
});
