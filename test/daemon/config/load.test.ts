import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { tlsFiles, type Surroundings } from '../../../src/daemon/config/config.ts';
import { parseCommandLine } from '../../../src/daemon/config/flags.ts';
import { loadConfig } from '../../../src/daemon/config/load.ts';
import { mergeReload } from '../../../src/daemon/config/reload.ts';

const dir = mkdtempSync(join(tmpdir(), 'layerd-config-'));
after(() => rmSync(dir, { recursive: true }));

const root: Surroundings = { root: true, env: {}, home: '/root' };
const file = join(dir, 'daemon.json');

/** Loads what the flags and the content of a file say; without content no file is named. */
function load(args: string[], content?: unknown, surroundings = root) {
  if (content !== undefined) {
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    args = [...args, '--config-file', file];
  }
  const line = parseCommandLine(args, '1.2.3');
  assert.ok(line.action === 'run');
  return loadConfig(line.flags, line.configFile, surroundings);
}

/** That it is refused, in one line that matches. */
function refuses(args: string[], content: unknown, message: RegExp, surroundings = root) {
  assert.throws(
    () => load(args, content, surroundings),
    (error: Error & { kind?: string }) => {
      assert.match(error.message, message);
      assert.ok(!error.message.includes('\n'), `${error.message} is one line`);
      assert.equal(error.kind, 'invalid');
      return true;
    },
  );
}

describe('limits of bandwidth', () => {
  it('are for all or one registry, always or at a time of day', () => {
    const { downloadBandwidth, uploadBandwidth } = load(['--upload-bandwidth', '2m@22:30-06:00'], {
      'download-bandwidth': ['20m', 'registry.example.com:5000=500k@08:00-18:00'],
    });
    const time = undefined;
    assert.deepEqual(downloadBandwidth, [
      { registry: undefined, bytesPerSecond: 20 * 1024 * 1024, time },
      { registry: 'registry.example.com:5000', bytesPerSecond: 500 * 1024, time: { from: 480, to: 1080 } },
    ]);
    assert.deepEqual(uploadBandwidth, [
      { registry: undefined, bytesPerSecond: 2 * 1024 * 1024, time: { from: 1350, to: 360 } },
    ]);
  });
});

describe('the garbage collection of images', () => {
  it('removes nothing for space or age where nobody says so', () => {
    const config = load([]);
    assert.equal(config.imageGcHighThreshold, undefined);
    assert.equal(config.imageGcMaximumAge, undefined);
    assert.equal(config.imageGcMinimumAge, 120_000);
    assert.equal(config.imageGcLocalImages, false);
  });

  it('takes thresholds and ages, also from a reload', () => {
    const content = { 'image-gc-high-threshold': 85, 'image-gc-low-threshold': 80, 'image-gc-maximum-age': '720h' };
    const config = load(['--image-gc-minimum-age', '1h', '--image-gc-local-images'], content);
    assert.deepEqual(
      [config.imageGcHighThreshold, config.imageGcLowThreshold, config.imageGcMinimumAge, config.imageGcMaximumAge],
      [85, 80, 3600_000, 720 * 3600_000],
    );
    assert.equal(config.imageGcLocalImages, true);
    const { changed, pending } = mergeReload(load([]), config);
    assert.equal(changed.filter((key) => key.startsWith('image-gc-')).length, 5);
    assert.ok(!pending.some((key) => key.startsWith('image-gc-')));
  });

  it('refuses what makes no sense together', () => {
    refuses([], { 'image-gc-low-threshold': 80 }, /low-threshold is given but image-gc-high-threshold is not/);
    refuses(['--image-gc-high-threshold', '70', '--image-gc-low-threshold', '80'], undefined, /80 is above .* 70/);
    refuses([], { 'image-gc-high-threshold': 101 }, /must be a whole number from 0 to 100/);
    refuses([], { 'image-gc-maximum-age': '2m' }, /must be longer than image-gc-minimum-age/);
    refuses([], { 'image-gc-maximum-age': '30d' }, /must be a span of time/);
  });
});

describe('the configuration', () => {
  it('has the places of a system daemon for root', () => {
    const config = load([]);
    assert.deepEqual(config.hosts, [{ kind: 'unix', path: '/run/layerd/layerd.sock' }]);
    assert.equal(config.dataRoot, '/var/lib/layerd');
    assert.equal(config.execRoot, '/run/layerd');
    assert.equal(config.pidfile, '/run/layerd/layerd.pid');
    assert.equal(config.configFile, undefined);
    assert.equal(config.maxConcurrentDownloads, 3);
    assert.equal(config.maxConcurrentUploads, 5);
    assert.equal(config.maxDownloadAttempts, 5);
    assert.equal(tlsFiles(config), undefined);
  });

  it('has the XDG places without root', () => {
    const config = load([], undefined, { root: false, env: { XDG_RUNTIME_DIR: '/run/user/7' }, home: '/home/u' });
    assert.deepEqual(config.hosts, [{ kind: 'unix', path: '/run/user/7/layerd/layerd.sock' }]);
    assert.equal(config.dataRoot, '/home/u/.local/share/layerd');
    assert.equal(config.pidfile, '/run/user/7/layerd/layerd.pid');
    const env = { XDG_RUNTIME_DIR: '/run/user/7', XDG_DATA_HOME: '/data' };
    assert.equal(load([], undefined, { root: false, env, home: '/home/u' }).dataRoot, '/data/layerd');
  });

  it('reads the file of the user without root', () => {
    const env = { XDG_RUNTIME_DIR: dir, XDG_CONFIG_HOME: dir };
    const config = load([], undefined, { root: false, env, home: '/nowhere' });
    assert.equal(config.configFile, undefined);
  });

  it('looks for certificates of registries where docker has them, and for a user in its own folders first', () => {
    assert.deepEqual(load([]).certsDirs, ['/etc/docker/certs.d', '/etc/layerd/certs.d']);
    const env = { XDG_RUNTIME_DIR: dir };
    assert.deepEqual(load([], undefined, { root: false, env, home: '/home/u' }).certsDirs, [
      '/home/u/.config/docker/certs.d',
      '/home/u/.config/layerd/certs.d',
      '/etc/docker/certs.d',
      '/etc/layerd/certs.d',
    ]);
  });

  it('says what to do where XDG_RUNTIME_DIR is missing, unless no default needs it', () => {
    const user = { root: false, env: {}, home: '/home/u' };
    refuses([], undefined, /XDG_RUNTIME_DIR is not set.*--host/, user);
    assert.equal(load(['-H', 'fd://', '--exec-root', '/e', '-p', '/p'], undefined, user).execRoot, '/e');
  });

  it('takes flags and the file together, and is frozen throughout', () => {
    const config = load(['-H', 'unix:///a', '--host=unix:///b', '-D', '--registry-mirror', 'https://m.example'], {
      'insecure-registries': ['r:5000', '10.0.0.0/8', '[::1]:5000', 'fd00::/8'],
      'max-concurrent-downloads': 7,
      proxies: { 'http-proxy': 'proxy:3128', 'no-proxy': 'a,b' },
    });
    assert.deepEqual(config.hosts, [
      { kind: 'unix', path: '/a' },
      { kind: 'unix', path: '/b' },
    ]);
    assert.equal(config.debug, true);
    assert.deepEqual(config.registryMirrors, ['https://m.example/']);
    assert.deepEqual(config.insecureRegistries, ['r:5000', '10.0.0.0/8', '[::1]:5000', 'fd00::/8']);
    assert.equal(config.maxConcurrentDownloads, 7);
    assert.equal(config.httpProxy, 'http://proxy:3128/');
    assert.equal(config.noProxy, 'a,b');
    assert.equal(config.configFile, file);
    assert.throws(() => (config.hosts as unknown[]).push('x'), TypeError);
    assert.throws(() => Object.assign(config.hosts[0] ?? {}, { path: 'x' }), TypeError);
  });

  it('makes relative paths of flags absolute, and refuses them in the file', () => {
    assert.equal(load(['--data-root', 'a/../b']).dataRoot, join(process.cwd(), 'b'));
    refuses([], { 'data-root': 'b' }, /invalid value for "data-root" in .*: "b" must be an absolute path/);
    refuses(['--data-root', ''], undefined, /--data-root: "" must be an absolute path/);
  });

  it('takes proxies from the environment where nobody else says, in either case', () => {
    const env = { HTTP_PROXY: 'http://a:1', https_proxy: 'http://b:2', NO_PROXY: 'c' };
    const config = load([], undefined, { ...root, env });
    assert.deepEqual([config.httpProxy, config.httpsProxy, config.noProxy], ['http://a:1/', 'http://b:2/', 'c']);
    assert.equal(load(['--http-proxy', 'http://z:9'], undefined, { ...root, env }).httpProxy, 'http://z:9/');
    refuses([], undefined, /environment variable HTTP_PROXY/, { ...root, env: { HTTP_PROXY: 'ftp://x' } });
  });

  it('may have an empty file, and one that begins with a byte order mark', () => {
    assert.equal(load([], ' \n').maxConcurrentUploads, 5);
    assert.equal(load([], '\uFEFF{"debug": true}').debug, true);
  });

  it('drops addresses and registries that are said twice', () => {
    assert.equal(load(['-H', 'unix:///a', '-H', 'unix:///a']).hosts.length, 1);
  });
});

describe('a start is refused for', () => {
  const cases: [string, string[], unknown, RegExp][] = [
    ['an unknown flag', ['--data-rot', 'x'], undefined, /unknown option '--data-rot'.*Did you mean --data-root/],
    ['an argument', ['start'], undefined, /too many arguments/],
    ['a flag without its value', ['--data-root'], undefined, /argument missing/],
    ['a flag given twice', ['--data-root', '/a', '--data-root', '/b'], undefined, /--data-root is given twice/],
    ['a switch given twice', ['--tls=false', '--tls'], undefined, /--tls is given twice/],
    ['an unknown key', [], { 'data-rot': 1, proxies: { http: 'x' } }, /don't match any.*data-rot, proxies\.http/],
    ['a dotted key', [], { 'proxies.http-proxy': 'http://a' }, /don't match any/],
    ['keys of objects that every object has', [], '{"__proto__": {}, "constructor": 1}', /don't match any/],
    ['a key given twice', [], '{"debug": true,\n"debug": false}', /"debug" is given twice, the second time on line 2/],
    ['a key given twice inside', [], '{"proxies": {"no-proxy": "a", "no-proxy": "b"}}', /"no-proxy" is given twice/],
    [
      'an option in both places',
      ['-D', '-H', 'fd://'],
      { debug: true, hosts: ['fd://'] },
      /both as a flag and in the configuration file: debug: \(from flag: true, from file: true\), hosts: /,
    ],
    [
      'a nested option in both places',
      ['--no-proxy', 'a'],
      { proxies: { 'no-proxy': 'b' } },
      /both as a flag.*proxies\.no-proxy/,
    ],
    ['a file that is no JSON', [], '{"debug": tru}', /unable to configure the daemon with file .*daemon\.json: .*JSON/],
    ['a file that is no object', [], '[]', /must be an object/],
    ['proxies that are no object', [], { proxies: 'http://p' }, /"proxies" must be an object/],
    ['a number as text', [], { 'max-concurrent-downloads': '3' }, /"3" must be a whole number from 1/],
    ['a limit without a rate', [], { 'download-bandwidth': ['registry.example.com='] }, /must be like 20m/],
    ['a limit at no time', ['--upload-bandwidth', '5m@08:00-24:00'], undefined, /must have times from 00:00 to 23:59/],
    ['a limit of nothing', [], { 'upload-bandwidth': ['a.example.com=0'] }, /"a.example.com=0" must be a size/],
    ['a fraction', [], { 'max-concurrent-downloads': 1.5 }, /must be a whole number/],
    ['no downloads at all', ['--max-concurrent-downloads', '0'], undefined, /--max-concurrent-downloads: 0 must be/],
    ['a number that is none', ['--max-download-attempts=many'], undefined, /"many" must be a whole number/],
    ['null', [], { 'data-root': null }, /null must be a text/],
    ['a boolean as text', [], { debug: 'true' }, /"true" must be true or false/],
    ['a switch that is neither on nor off', ['--tls=maybe'], undefined, /"maybe" must be true or false/],
    ['one host instead of a list', [], { hosts: 'fd://' }, /must be a list/],
    ['a bad host', [], { hosts: ['fd://', 'foo'] }, /"hosts" in .*: "foo" must be unix:/],
    ['an unknown log level', ['-l', 'trace'], undefined, /must be one of debug, info, warn, error, fatal/],
    ['a mirror with a path', ['--registry-mirror', 'https://m/x'], undefined, /must not have a path/],
    [
      'a mirror with credentials',
      ['--registry-mirror', 'https://u:secret@m'],
      undefined,
      /xxxxx@m" must not contain a user/,
    ],
    ['a lookaside over FTP', ['--signature-lookaside', 'ftp://m/x'], undefined, /must be like https:\/\/signatures/],
    ['a lookaside that is a scope', ['--signature-lookaside', 'm.example/team'], undefined, /must be like https/],
    ['a lookaside on a host of files', ['--signature-lookaside', 'a=file://m/x'], undefined, /must be like https/],
    [
      'a lookaside with credentials',
      ['--signature-lookaside', 'https://u:p@m'],
      undefined,
      /must not have a user name/,
    ],
    ['a signature policy nowhere', [], { 'signature-policy': 'policy.json' }, /must be an absolute path/],
    ['a mirror without scheme', ['--registry-mirror', 'm.example:5000'], undefined, /must be a URL/],
    ['an insecure registry with a scheme', ['--insecure-registry', 'http://r'], undefined, /without http/],
    ['a bad block of addresses', ['--insecure-registry', '10.0.0.0/33'], undefined, /block of addresses/],
    ['a repository as insecure registry', ['--insecure-registry', 'r/app'], undefined, /must be host/],
    ['a group with spaces', ['-G', 'a b'], undefined, /name or the number of a group/],
    [
      'a file that was named and is not there',
      ['--config-file', '/nonexistent.json'],
      undefined,
      /nonexistent\.json: ENOENT/,
    ],
    ['tlsverify without TLS', ['--tls=false', '--tlsverify'], undefined, /tls is false and tlsverify is true/],
    ['TLS without a certificate', ['--tlsverify'], undefined, /--tlscert, --tlskey/],
    ['TLS without an authority', ['--tls', '--tlscert', 'c', '--tlskey', 'k'], undefined, /--tlscacert/],
    ['a certificate without TLS', ['--tlscert', 'c'], undefined, /tlscert is given but TLS is off/],
    ['an open port', ['-H', 'tcp://0.0.0.0:1'], undefined, /refusing to listen on tcp:\/\/0\.0\.0\.0:1 without TLS/],
    ['an open port in the file', [], { hosts: ['tcp://[::]:1'] }, /refusing to listen on tcp:\/\/\[::\]:1/],
    ['a name that may be any address', ['-H', 'tcp://example.com:1'], undefined, /refusing to listen/],
  ];
  for (const [what, args, content, message] of cases) it(what, () => refuses(args, content, message));

  it('a secret in no message', () => {
    refuses(
      ['--http-proxy', 'http://u:secret@p'],
      { proxies: { 'http-proxy': 'http://v:secret@q' } },
      /^((?!secret).)*$/,
    );
  });
});

describe('tcp', () => {
  const certificate = ['--tlscert', '/c', '--tlskey', '/k'];

  it('needs no TLS on loopback, nor where somebody said so', () => {
    assert.equal(tlsFiles(load(['-H', 'tcp://127.0.0.1:1'])), undefined);
    assert.equal(tlsFiles(load(['-H', 'tcp://0.0.0.0:1', '--tls=false'])), undefined);
  });

  it('demands certificates of clients unless somebody said not to', () => {
    const verified = { cert: '/c', key: '/k', clientCa: '/a' };
    assert.deepEqual(tlsFiles(load(['--tls', '--tlscacert', '/a', ...certificate])), verified);
    assert.deepEqual(tlsFiles(load(['--tlsverify', '--tlscacert', '/a', ...certificate])), verified);
    assert.deepEqual(tlsFiles(load(['-H', 'tcp://0.0.0.0:1', '--tlsverify=false', ...certificate])), {
      ...verified,
      clientCa: undefined,
    });
  });
});

describe('the command line', () => {
  it('prints the version and a help that names every option', () => {
    assert.deepEqual(parseCommandLine(['-v'], '1.2.3'), { action: 'print', text: 'layerd version 1.2.3\n' });
    const help = parseCommandLine(['--help'], '1.2.3');
    assert.ok(help.action === 'print');
    for (const part of ['-H, --host', '--data-root', '--tlsverify', '--config-file', 'Examples:', 'SIGHUP']) {
      assert.ok(help.text.includes(part), part);
    }
  });

  it('asks for a validation', () => {
    assert.equal(parseCommandLine(['--validate'], '1').action, 'validate');
  });
});

describe('a reload', () => {
  it('takes on what can change and leaves the rest for a restart', () => {
    const present = load([], { 'max-concurrent-downloads': 2, 'data-root': '/a' });
    const next = load([], { debug: true, 'registry-mirrors': ['https://m'], 'data-root': '/b', hosts: ['fd://'] });
    const { config, changed, pending } = mergeReload(present, next);
    assert.deepEqual(changed.toSorted(), ['debug', 'max-concurrent-downloads', 'registry-mirrors']);
    assert.deepEqual(pending.toSorted(), ['data-root', 'hosts']);
    assert.equal(config.maxConcurrentDownloads, 3);
    assert.equal(config.debug, true);
    assert.equal(config.dataRoot, '/a');
    assert.deepEqual(config.hosts, present.hosts);
    assert.ok(Object.isFrozen(config));
  });

  it('of the same file changes nothing', () => {
    const config = load(['-D'], { 'insecure-registries': ['a'] });
    const { changed, pending } = mergeReload(config, load(['-D'], { 'insecure-registries': ['a'] }));
    assert.deepEqual([changed, pending], [[], []]);
  });
});
