import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatHost, isLoopback, parseHost, portOf } from '../../../src/daemon/config/host.ts';

describe('an address to listen on', () => {
  it('is a Unix socket, a tcp address or a socket of systemd', () => {
    assert.deepEqual(parseHost('unix:///run/a b.sock'), { kind: 'unix', path: '/run/a b.sock' });
    assert.deepEqual(parseHost('tcp://127.0.0.1:1234'), { kind: 'tcp', host: '127.0.0.1', port: 1234 });
    assert.deepEqual(parseHost('tcp://[::1]:0'), { kind: 'tcp', host: '::1', port: 0 });
    assert.deepEqual(parseHost('fd://'), { kind: 'fd', name: undefined });
    assert.deepEqual(parseHost('fd://*'), { kind: 'fd', name: undefined });
    assert.deepEqual(parseHost('fd://layerd.socket'), { kind: 'fd', name: 'layerd.socket' });
  });

  it('has the port that is registered for the Docker API where none is given, and localhost for a host', () => {
    const host = parseHost('tcp://');
    assert.ok(host.kind === 'tcp');
    assert.equal(host.host, 'localhost');
    assert.equal(portOf(host, false), 2375);
    assert.equal(portOf(host, true), 2376);
    const given = parseHost('tcp://:80');
    assert.ok(given.kind === 'tcp' && portOf(given, true) === 80);
  });

  for (const bad of [
    ['', /must be unix:/],
    ['/run/layerd.sock', /must be unix:/],
    ['0.0.0.0:2375', /must be unix:/],
    ['http://localhost:2375', /must be unix:/],
    ['unix://', /absolute path/],
    ['unix://run/a.sock', /absolute path/],
    [`unix:///${'a'.repeat(107)}`, /at most 107 bytes/],
    ['unix:///a\0b', /zero byte/],
    ['tcp://localhost:65536', /HOST:PORT/],
    ['tcp://localhost:-1', /HOST:PORT/],
    ['tcp://::1:80', /HOST:PORT/],
    ['tcp://[localhost]:80', /HOST:PORT/],
    ['tcp://localhost:80/path', /HOST:PORT/],
    ['tcp://a b:80', /not a host name/],
  ] as const) {
    it(`is not ${JSON.stringify(bad[0].slice(0, 40))}`, () => assert.throws(() => parseHost(bad[0]), bad[1]));
  }

  it('reads back as it is written', () => {
    const plain = { noNullPrototype: true } as const;
    const port = fc.integer({ min: 0, max: 65535 });
    const name = fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6());
    const host = fc.oneof(
      fc.record(
        { kind: fc.constant('unix' as const), path: fc.webPath({ size: 'small' }).map((path) => `/s${path}`) },
        plain,
      ),
      fc.record({ kind: fc.constant('tcp' as const), host: name, port }, plain),
      fc.record({ kind: fc.constant('fd' as const), name: fc.stringMatching(/^[a-z.]+$/) }, plain),
    );
    fc.assert(
      fc.property(
        host.filter((each) => each.kind !== 'unix' || Buffer.byteLength(each.path) <= 107),
        (each) => assert.deepEqual(parseHost(formatHost(each)), each),
      ),
    );
  });

  it('is reached by this machine alone only on loopback', () => {
    for (const host of ['localhost', '127.0.0.1', '127.8.9.10', '::1']) assert.ok(isLoopback(host), host);
    for (const host of [
      '0.0.0.0',
      '::',
      '10.0.0.1',
      '127.0.0.1.example.com',
      '127.1',
      'registry',
      '::ffff:127.0.0.1',
    ]) {
      assert.ok(!isLoopback(host), host);
    }
  });
});
