import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createProxySelector, proxyAuthorization } from '../../../src/daemon/registry/proxies.ts';

const PROXY = 'http://proxy:3128';
/** Whether a URL is proxied under a NO_PROXY. */
const isProxied = (no: string, url: string): boolean =>
  createProxySelector({ http: PROXY, https: PROXY, no })(new URL(url)) !== undefined;

describe('the choice of a proxy', () => {
  // The cases of Go's httpproxy tests: https://pkg.go.dev/golang.org/x/net/http/httpproxy
  const NO_PROXY =
    'foobar.com, .barbaz.net, *.stars.org, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, 2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64';
  for (const [host, proxied] of [
    ['localhost', false],
    ['localhost:5000', false],
    ['127.0.0.1', false],
    ['127.0.0.2', false],
    ['[::1]', false],
    ['[::2]', true],
    ['192.168.1.1', false],
    ['192.168.1.2:81', false],
    ['192.168.1.2', true],
    ['192.168.1.3', false],
    ['192.168.1.4', true],
    ['10.0.0.2', false],
    ['10.0.0.4', true],
    ['[2001:db8::52:0:1]', false],
    ['[2001:db8::52:0:2]', true],
    ['[2001:db8::52:0:2]:443', false],
    ['[2001:db8::52:0:3]', false],
    ['[2002:db8:a::123]', false],
    ['[fe80::424b:c8be:1643:a1b6]', true],
    ['barbaz.net', true],
    ['www.barbaz.net', false],
    ['foobar.com', false],
    ['www.foobar.com', false],
    ['foofoobar.com', true],
    ['baz.com', true],
    ['localhost.net', true],
    ['local.localhost', true],
    ['stars.org', true],
    ['www.stars.org', false],
  ] as const) {
    it(`${proxied ? 'takes one' : 'takes none'} for ${host}`, () => {
      assert.equal(isProxied(NO_PROXY, `http://${host}/`), proxied);
    });
  }

  it('goes by the scheme', () => {
    const select = createProxySelector({ http: 'plain:1', https: 'https://tls:2' });
    assert.equal(select(new URL('http://a/'))?.href, 'http://plain:1/');
    assert.equal(select(new URL('https://a/'))?.href, 'https://tls:2/');
    assert.equal(createProxySelector({ http: PROXY })(new URL('https://a/')), undefined);
  });

  it('knows the port of https when none is written', () => {
    assert.equal(isProxied('a.com:443', 'https://a.com/'), false);
    assert.equal(isProxied('a.com:443', 'http://a.com/'), true);
  });

  it('is none at all for *', () => {
    assert.equal(isProxied('x.com,*', 'https://example.com/'), false);
  });

  it('refuses what is no proxy of HTTP, without repeating the password in it', () => {
    assert.throws(
      () => createProxySelector({ https: 'socks5://me:secret@proxy:1080' }),
      (error: Error) => {
        assert.match(error.message, /socks5 is not supported/);
        assert.doesNotMatch(error.message, /secret/);
        return true;
      },
    );
    assert.throws(() => createProxySelector({ https: 'http://' }), { kind: 'invalid' });
  });

  it('takes the credentials of a proxy out of its URL', () => {
    assert.equal(proxyAuthorization(new URL('http://me:p%40ss@proxy')), `Basic ${btoa('me:p@ss')}`);
    assert.equal(proxyAuthorization(new URL(PROXY)), undefined);
  });

  it('excludes a domain, all below it, and nothing that merely ends like it', () => {
    const label = fc.stringMatching(/^[a-z]{1,6}$/);
    fc.assert(
      fc.property(label, label, label, (sub, name, other) => {
        const domain = `${name}.test`;
        assert.equal(isProxied(domain, `https://${domain}/`), false);
        assert.equal(isProxied(domain, `https://${sub}.${domain}/`), false);
        assert.equal(isProxied(domain, `https://${other}${domain}/`), true);
        assert.equal(isProxied(`.${domain}`, `https://${domain}/`), true);
        assert.equal(isProxied(`.${domain}`, `https://${sub}.${domain}/`), false);
      }),
    );
  });

  it('excludes each address of a network', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.integer({ min: 0, max: 32 }), (address, prefix) => {
        assert.equal(isProxied(`${address}/${prefix}`, `https://${address}/`), false);
      }),
    );
  });

  it('takes any text for a NO_PROXY', () => {
    fc.assert(fc.property(fc.string(), (text) => typeof isProxied(text, 'https://example.com/') === 'boolean'));
  });
});
