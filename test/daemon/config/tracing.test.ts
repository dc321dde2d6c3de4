import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { loadConfig } from '../../../src/daemon/config/load.ts';
import { readTracing } from '../../../src/daemon/config/tracing.ts';

const ENDPOINT = 'http://collector:4318/v1/traces';

function endpoint(env: Record<string, string>, flag?: string): string | undefined {
  const flags = flag === undefined ? new Map() : new Map([['otlpEndpoint' as const, flag]]);
  return loadConfig(flags, undefined, { root: true, env, home: '/root' }).tracing?.endpoint;
}

describe('where traces go', () => {
  it('is said by the option, else by the environment; without, nowhere', () => {
    assert.equal(endpoint({}), undefined);
    assert.equal(endpoint({ OTEL_EXPORTER_OTLP_ENDPOINT: '' }), undefined);
    assert.equal(endpoint({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }), ENDPOINT);
    assert.equal(endpoint({ OTEL_EXPORTER_OTLP_ENDPOINT: 'https://c/otlp/' }), 'https://c/otlp/v1/traces');
    const own = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://traces/in', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://all' };
    assert.equal(endpoint(own), 'http://traces/in');
    assert.equal(endpoint(own, 'http://flag'), 'http://flag/v1/traces');
  });

  it('is refused where it is no URL', () => {
    assert.throws(
      () => endpoint({}, 'collector:4318'),
      /invalid value for --otlp-endpoint: "collector:4318" must be a URL such as http:\/\/localhost:4318/,
    );
    for (const name of ['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']) {
      assert.throws(() => endpoint({ [name]: 'grpc://c' }), new RegExp(`variable ${name}: it must be a URL`));
    }
  });

  it('is nowhere where traces are turned off', () => {
    assert.equal(readTracing(ENDPOINT, { OTEL_SDK_DISABLED: 'TRUE' }), undefined);
    assert.equal(readTracing(ENDPOINT, { OTEL_TRACES_EXPORTER: 'none' }), undefined);
    assert.notEqual(readTracing(ENDPOINT, { OTEL_SDK_DISABLED: 'false' }), undefined);
  });
});

describe('how traces are sent', () => {
  it('is as the specification has it where nothing is said', () => {
    assert.deepEqual(readTracing(ENDPOINT, {}), {
      endpoint: ENDPOINT,
      headers: {},
      timeout: 10_000,
      compression: 'none',
      tls: { ca: undefined, cert: undefined, key: undefined },
      resource: {},
      sampler: 'parentbased_always_on',
      share: 1,
      delay: 5000,
      batchSize: 512,
      queueSize: 2048,
      continues: true,
      tellsRegistries: false,
      warnings: [],
    });
  });

  it('is said by the environment, for traces alone before all signals', () => {
    const settings = readTracing(ENDPOINT, {
      OTEL_EXPORTER_OTLP_HEADERS: 'a=1',
      OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'X-Key=a%20b%3D , c=',
      OTEL_EXPORTER_OTLP_TIMEOUT: '1000',
      OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: '2000',
      OTEL_EXPORTER_OTLP_CERTIFICATE: '/ca.pem',
      OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: '/cert.pem',
      OTEL_EXPORTER_OTLP_CLIENT_KEY: '/key.pem',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_RESOURCE_ATTRIBUTES: 'service.name=other,deployment.environment.name=test%2Clab',
      OTEL_SERVICE_NAME: 'images',
      OTEL_TRACES_SAMPLER: 'traceidratio',
      OTEL_TRACES_SAMPLER_ARG: '0.25',
      OTEL_PROPAGATORS: 'tracecontext, baggage',
    });
    assert.deepEqual(settings?.headers, { 'x-key': 'a b=', c: '' });
    assert.equal(settings.timeout, 2000);
    assert.deepEqual(settings.tls, { ca: '/ca.pem', cert: '/cert.pem', key: '/key.pem' });
    assert.deepEqual(settings.resource, { 'service.name': 'images', 'deployment.environment.name': 'test,lab' });
    assert.deepEqual([settings.sampler, settings.share], ['traceidratio', 0.25]);
    assert.deepEqual([settings.continues, settings.tellsRegistries], [true, true]);
    assert.deepEqual(settings.warnings, []);
    const none = readTracing(ENDPOINT, { OTEL_PROPAGATORS: 'none' });
    assert.deepEqual([none?.continues, none?.tellsRegistries], [false, false]);
  });

  for (const [name, value, expected] of [
    ['OTEL_EXPORTER_OTLP_HEADERS', 's3cret', /name=value/],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a=s3cret%0Ab', /name=value/],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a=s3cret%zz', /name=value/],
    ['OTEL_RESOURCE_ATTRIBUTES', '=s3cret', /name=value/],
    ['OTEL_EXPORTER_OTLP_TIMEOUT', '0', /whole number/],
    ['OTEL_BSP_SCHEDULE_DELAY', '5s', /whole number/],
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'grpc', /http\/json/],
    ['OTEL_EXPORTER_OTLP_COMPRESSION', 'zstd', /none, gzip/],
    ['OTEL_TRACES_SAMPLER', 'jaeger_remote', /parentbased_always_on/],
    ['OTEL_TRACES_EXPORTER', 'zipkin', /otlp, none/],
    ['OTEL_SDK_DISABLED', '1', /true, false/],
  ] as const) {
    it(`warns of ${name}=${value} without quoting it, and takes the default`, () => {
      const { warnings, ...settings } = readTracing(ENDPOINT, { [name]: value }) ?? assert.fail();
      assert.equal(warnings.length, 1);
      const [warning = ''] = warnings;
      assert.ok(warning.includes(name) && expected.test(warning) && !warning.includes('s3cret'), warning);
      const { warnings: _, ...defaults } = readTracing(ENDPOINT, {}) ?? assert.fail();
      assert.deepEqual(settings, defaults);
    });
  }

  it('warns of a share that is none', () => {
    const env = { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '2' };
    const settings = readTracing(ENDPOINT, env);
    assert.equal(settings?.share, 1);
    assert.match(settings.warnings.join(), /OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1/);
  });
});
