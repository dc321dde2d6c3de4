import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  armVariant,
  choosePlatform,
  decodePlatform,
  formatPlatform,
  hostPlatform,
  isAttestation,
  normalizePlatform,
  only,
  onlyStrict,
  parsePlatform,
  provides,
} from '../../../src/daemon/images/platform.ts';
import { MediaType } from '../../../src/protocol/media-types.ts';
import type { Descriptor, Platform } from '../../../src/protocol/oci.ts';
import { AMD64, sha256 } from './fixture.ts';

const parse = (specifier: string): Platform => parsePlatform(specifier, AMD64);

const descriptor = (platform: string | undefined, annotations?: Record<string, string>): Descriptor => ({
  mediaType: MediaType.ociManifest,
  digest: sha256(platform ?? 'none'),
  size: 1,
  ...(platform === undefined ? {} : { platform: parse(platform) }),
  ...(annotations === undefined ? {} : { annotations }),
});

describe('a platform', () => {
  it('is read as users write it', () => {
    const cases: [string, Platform][] = [
      ['linux/arm64', { os: 'linux', architecture: 'arm64' }],
      ['arm64', { os: 'linux', architecture: 'arm64' }],
      ['linux', { os: 'linux', architecture: 'amd64' }],
      ['linux/arm/v7', { os: 'linux', architecture: 'arm', variant: 'v7' }],
      ['linux/arm', { os: 'linux', architecture: 'arm' }],
      ['linux/amd64/v3', { os: 'linux', architecture: 'amd64', variant: 'v3' }],
      ['linux/arm64/8', { os: 'linux', architecture: 'arm64', variant: 'v8' }],
      ['Linux/X86_64', { os: 'linux', architecture: 'amd64' }],
      ['linux/aarch64', { os: 'linux', architecture: 'arm64' }],
      ['armhf', { os: 'linux', architecture: 'arm' }],
      ['armel', { os: 'linux', architecture: 'arm', variant: 'v6' }],
      ['linux/i386', { os: 'linux', architecture: '386' }],
      ['macos', { os: 'darwin', architecture: 'amd64' }],
      ['linux/weird/v1', { os: 'linux', architecture: 'weird', variant: 'v1' }],
      ['windows(10.0.17763)/amd64', { os: 'windows', architecture: 'amd64', 'os.version': '10.0.17763' }],
      [
        'windows(10.0.17763+win32k)/amd64',
        { os: 'windows', architecture: 'amd64', 'os.version': '10.0.17763', 'os.features': ['win32k'] },
      ],
    ];
    for (const [specifier, platform] of cases) assert.deepEqual(parse(specifier), platform, specifier);
  });

  it('that is none is refused', () => {
    for (const specifier of ['', '*', 'linux/*', 'linux/', 'nonsense', 'linux/arm/v7/x', 'linux/arm v7', 'li nux']) {
      assert.throws(() => parse(specifier), { kind: 'invalid' }, specifier);
    }
  });

  it('is read as JSON where clients send it so', () => {
    const full = { os: 'windows', architecture: 'amd64', 'os.version': '10.0.1', 'os.features': ['win32k'] };
    assert.deepEqual(decodePlatform(JSON.stringify(full)), full);
    assert.deepEqual(decodePlatform('{"os":"linux","architecture":"arm","variant":""}'), {
      os: 'linux',
      architecture: 'arm',
    });
    for (const json of ['linux/amd64', '', 'null', '[]', '{"os":"linux"}', '{"os":1,"architecture":"arm"}']) {
      assert.throws(() => decodePlatform(json), { kind: 'invalid', message: /^failed to parse platform/ }, json);
    }
  });

  it('is written so that it is read again', () => {
    const name = fc.stringMatching(/^[a-z][a-z0-9]{0,6}$/);
    const version = fc.stringMatching(/^[0-9]{1,3}[+(/)%.]{0,2}[0-9]{1,3}$/);
    fc.assert(
      fc.property(name, name, fc.option(name), fc.option(version), (os, architecture, variant, version) => {
        const platform = normalizePlatform({
          os,
          architecture,
          ...(variant === null ? {} : { variant }),
          ...(version === null ? {} : { 'os.version': version }),
        });
        assert.deepEqual(normalizePlatform(parse(formatPlatform(platform))), platform);
      }),
    );
    assert.equal(formatPlatform({ os: '', architecture: '' }), 'unknown');
  });
});

describe('what runs on a platform', () => {
  it('is what containerd says', () => {
    // The platform, what fits best first, and what does not fit.
    const cases: [string, string[], string[]][] = [
      ['linux/amd64', ['linux/amd64', 'linux/386'], ['linux/amd64/v2', 'linux/arm64', 'windows/amd64']],
      ['linux/amd64/v3', ['linux/amd64/v3', 'linux/amd64/v2', 'linux/amd64/v1', 'linux/386'], ['linux/amd64/v4']],
      ['linux/386', ['linux/386'], ['linux/amd64']],
      [
        'linux/arm/v7',
        ['linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5'],
        ['linux/arm/v4', 'linux/arm/v8', 'linux/arm64'],
      ],
      ['linux/arm/v6', ['linux/arm/v6', 'linux/arm/v5'], ['linux/arm', 'linux/arm/v7']],
      ['linux/arm/v4', ['linux/arm/v4'], ['linux/arm/v5', 'linux/arm']],
      [
        'linux/arm64',
        ['linux/arm64/v8', 'linux/arm/v8', 'linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5'],
        ['linux/arm/v4', 'linux/arm64/v9', 'linux/amd64'],
      ],
      ['linux/arm64/v8.1', ['linux/arm64/v8.1', 'linux/arm64', 'linux/arm/v8'], ['linux/arm64/v8.2']],
      [
        'linux/arm64/v9',
        ['linux/arm64/v9', 'linux/arm64/v8.5', 'linux/arm64/v8.1', 'linux/arm64/v8', 'linux/arm/v7'],
        ['linux/arm64/v8.6', 'linux/arm/v9x'],
      ],
      ['linux/riscv64', ['linux/riscv64'], ['linux/amd64']],
    ];
    for (const [platform, fitting, others] of cases) {
      const matcher = only(parse(platform));
      const ranks = fitting.map((each) => matcher.rank(parse(each)) ?? Infinity);
      assert.ok(
        ranks.every((rank, index) => rank < Infinity && rank > (ranks[index - 1] ?? -1)),
        platform,
      );
      for (const other of others) assert.equal(matcher.rank(parse(other)), undefined, `${platform} runs no ${other}`);
    }
  });

  it('is the platform alone where it was asked for', () => {
    const fits = (wanted: string, platform: string): boolean =>
      onlyStrict(parse(wanted)).rank(parse(platform)) !== undefined;
    assert.ok(fits('linux/arm64', 'linux/arm64/v8'));
    assert.ok(fits('linux/arm/v7', 'linux/arm'));
    assert.ok(fits('linux/arm64/v9', 'linux/arm64/v9.0'));
    assert.ok(!fits('linux/amd64', 'linux/386'));
    assert.ok(!fits('linux/arm/v7', 'linux/arm/v6'));
    assert.ok(!fits('linux/arm64', 'linux/arm/v8'));
  });

  it('depends on the version of Windows, and of no other system', () => {
    const fits = (wanted: string, platform: string): boolean => only(parse(wanted)).rank(parse(platform)) === 0;
    assert.ok(fits('windows(10.0.17763)/amd64', 'windows(10.0.17763.1)/amd64'));
    assert.ok(!fits('windows(10.0.17763)/amd64', 'windows(10.0.14393)/amd64'));
    assert.ok(fits('windows(10.0.17763)/amd64', 'windows/amd64'));
    assert.ok(fits('windows/amd64', 'windows(10.0.17763)/amd64'));
    // From the server of 2022 on, those since the last long-term release run too.
    assert.ok(fits('windows(10.0.22000)/amd64', 'windows(10.0.20348)/amd64'));
    assert.ok(!fits('windows(10.0.22000)/amd64', 'windows(10.0.17763)/amd64'));
    assert.ok(!fits('windows(10.0.20348)/amd64', 'windows(10.0.22000)/amd64'));
    assert.ok(!fits('windows(10.0.26200)/amd64', 'windows(10.0.20348)/amd64'));
    assert.ok(fits('linux(1.0.0)/amd64', 'linux(2.0.0)/amd64'));
  });

  it('needs no feature that is not there', () => {
    const matcher = only({ ...AMD64, 'os.features': ['a', 'b'] });
    assert.equal(matcher.rank({ ...AMD64, 'os.features': ['b'] }), 0);
    assert.equal(matcher.rank({ ...AMD64, 'os.features': ['b', 'c'] }), undefined);
  });

  it('is also a config without the variant that its index states', () => {
    assert.ok(provides({ os: 'linux', architecture: 'arm' }, parse('linux/arm/v6')));
    assert.ok(!provides({ os: 'linux', architecture: 'arm', variant: 'v7' }, parse('linux/arm/v6')));
    assert.ok(!provides({ os: 'linux', architecture: '386' }, AMD64));
    assert.ok(!provides({ os: 'linux', architecture: 'arm', 'os.features': ['a'] }, parse('linux/arm/v6')));
    assert.ok(provides({ os: 'linux', architecture: 'arm', 'os.features': ['a'] }, parse('linux(+a+b)/arm/v6')));
  });
});

describe('choosing among the manifests of an index', () => {
  const index = ['linux/386', 'linux/amd64', 'linux/arm/v7', 'linux/arm64/v8'].map((each) => descriptor(each));
  const chosen = (manifests: Descriptor[], host: string, wanted?: string): string => {
    const { platform } = choosePlatform(manifests, parse(host), wanted === undefined ? undefined : parse(wanted));
    return platform === undefined ? 'none' : formatPlatform(platform);
  };

  it('takes the best for the host', () => {
    assert.equal(chosen(index, 'linux/amd64'), 'linux/amd64');
    assert.equal(chosen(index, 'linux/amd64/v3'), 'linux/amd64');
    assert.equal(chosen(index, 'linux/arm64'), 'linux/arm64/v8');
    assert.equal(chosen(index.slice(0, 3), 'linux/arm64'), 'linux/arm/v7');
    assert.equal(chosen(index.slice(0, 1), 'linux/amd64'), 'linux/386');
  });

  it('takes what was asked for, and nothing like it', () => {
    assert.equal(chosen(index, 'linux/amd64', 'linux/arm64'), 'linux/arm64/v8');
    assert.throws(() => chosen(index.slice(0, 1), 'linux/amd64', 'linux/amd64'), { kind: 'not-found' });
  });

  it('says which platforms there are when none fits', () => {
    assert.throws(() => chosen(index, 'linux/amd64', 'linux/riscv64'), {
      kind: 'not-found',
      message:
        'no matching manifest for linux/riscv64 in the manifest list entries; ' +
        'it has linux/386, linux/amd64, linux/arm/v7, linux/arm64/v8',
    });
    assert.throws(() => chosen([], 'linux/amd64'), { message: /no matching manifest for linux\/amd64 .* no image/ });
  });

  it('never takes an attestation', () => {
    const attestation = descriptor('unknown/unknown', { 'vnd.docker.reference.type': 'attestation-manifest' });
    const disguised = descriptor('linux/amd64', { 'vnd.docker.reference.type': 'attestation-manifest' });
    assert.ok(isAttestation(attestation));
    assert.ok(isAttestation(descriptor('unknown/unknown')));
    assert.ok(!isAttestation(descriptor('linux/amd64')));
    assert.equal(chosen([attestation, disguised, descriptor('linux/386')], 'linux/amd64'), 'linux/386');
    assert.throws(() => chosen([attestation, disguised], 'linux/amd64', 'unknown/unknown'), { kind: 'not-found' });
  });

  it('takes one that states no platform only when no other fits', () => {
    assert.equal(chosen([descriptor(undefined), descriptor('linux/386')], 'linux/amd64'), 'linux/386');
    assert.equal(chosen([descriptor(undefined), descriptor('linux/arm64')], 'linux/amd64'), 'none');
  });
});

describe('the platform of a host', () => {
  it('is known by Go names', () => {
    const { os, architecture } = hostPlatform();
    assert.equal(os, 'linux');
    assert.match(architecture, /^(?:amd64|arm64|386|arm|ppc64le|s390x|riscv64|loong64)$/);
  });

  it('has the variant that an ARM processor states', () => {
    assert.equal(armVariant('arm64', 'processor\t: 0\nCPU architecture: 8\n'), 'v8');
    assert.equal(armVariant('arm64', 'CPU architecture: AArch64\n'), 'v8');
    assert.equal(armVariant('arm64', 'processor\t: 0\n'), 'v8');
    assert.equal(armVariant('arm', 'model name\t: ARMv7 Processor rev 4 (v7l)\nCPU architecture: 7\n'), 'v7');
    assert.equal(armVariant('arm', 'model name\t: ARMv6-compatible processor\nCPU architecture: 7\n'), 'v6');
    assert.equal(armVariant('arm', 'CPU architecture: 5TEJ\n'), 'v5');
    assert.equal(armVariant('arm', ''), undefined);
  });
});
