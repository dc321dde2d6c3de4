import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { defaultHost, parseHost } from '../../src/client/endpoint.ts';
import { hostFrom } from '../../src/client/connect.ts';
import { isKind } from '../../src/protocol/errors.ts';

describe('a host', () => {
  const understood = [
    ['unix:///run/layerd/layerd.sock', false, { transport: 'unix', socketPath: '/run/layerd/layerd.sock' }],
    ['tcp://daemon', false, { transport: 'tcp', hostname: 'daemon', port: 2375, tls: false }],
    ['tcp://daemon', true, { transport: 'tcp', hostname: 'daemon', port: 2376, tls: true }],
    ['tcp://10.0.0.1:80', true, { transport: 'tcp', hostname: '10.0.0.1', port: 80, tls: true }],
    ['http://daemon:80/', true, { transport: 'tcp', hostname: 'daemon', port: 80, tls: false }],
    ['https://[::1]:443', false, { transport: 'tcp', hostname: '::1', port: 443, tls: true }],
  ] as const;
  for (const [host, tls, endpoint] of understood) {
    it(`${host} ${tls ? 'with TLS ' : ''}is ${JSON.stringify(endpoint)}`, () => {
      assert.deepEqual(parseHost(host, tls), endpoint);
    });
  }

  for (const host of [
    '',
    '/run/x.sock',
    'unix://x.sock',
    'ssh://host',
    'tcp://',
    'tcp://a:b',
    'tcp://a:0',
    'tcp://u@h:1',
    'tcp://h:1/v2',
    'tcp://h:99999',
  ]) {
    it(`'${host}' is refused`, () => {
      assert.throws(
        () => parseHost(host, false),
        (error) => isKind(error, 'invalid'),
      );
    });
  }

  it('is by default the system daemon for root and the user’s own otherwise', () => {
    assert.equal(defaultHost(0, { XDG_RUNTIME_DIR: '/run/user/0' }), 'unix:///run/layerd/layerd.sock');
    assert.equal(defaultHost(7, { XDG_RUNTIME_DIR: '/tmp/run' }), 'unix:///tmp/run/layerd/layerd.sock');
    assert.equal(defaultHost(7, {}), 'unix:///run/user/7/layerd/layerd.sock');
  });

  it('comes from the option, LAYERD_HOST, DOCKER_HOST, in this order', () => {
    const env = { LAYERD_HOST: 'tcp://layerd', DOCKER_HOST: 'tcp://docker' };
    assert.equal(hostFrom({ host: 'tcp://option' }, env, 0), 'tcp://option');
    assert.equal(hostFrom({}, env, 0), 'tcp://layerd');
    assert.equal(hostFrom({}, { ...env, LAYERD_HOST: '' }, 0), 'tcp://docker');
    assert.equal(hostFrom({}, {}, 0), 'unix:///run/layerd/layerd.sock');
  });
});
