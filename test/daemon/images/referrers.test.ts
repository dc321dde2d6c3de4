import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { imageReferrers, type ReferrersRequest } from '../../../src/daemon/images/referrers.ts';
import type { Registries } from '../../../src/daemon/registry/registry.ts';
import { ARM64, Fixture, sha256 } from './fixture.ts';

const ALL: ReferrersRequest = { platform: undefined, artifactType: undefined };

describe('what refers to an image', () => {
  /** A registry that says what it was asked. */
  function recording(): Pick<Registries, 'referrers'> & { asked: string[] } {
    const asked: string[] = [];
    return {
      asked,
      referrers: ({ registry, path }, digest, { artifactType } = {}) => {
        asked.push([`${registry}/${path}@${digest}`, artifactType].join(' '));
        return Promise.resolve([{ mediaType: 'application/x', digest: sha256('signature'), size: 7 }]);
      },
    };
  }

  it('is asked of the repository that is named, else of the first that has it, by the digest that it has there', async () => {
    using fixture = new Fixture();
    const manifest = await fixture.image('registry.example.com/team/app:1', [fixture.layer('base')]);
    fixture.put('mirror.example.com/app:1', [manifest]);
    fixture.put('local:1', [manifest], { byDigest: false });
    const { digest } = manifest.descriptor;
    for (const [name, repository] of [
      ['registry.example.com/team/app:1', 'registry.example.com/team/app'],
      ['mirror.example.com/app:1', 'mirror.example.com/app'],
      [`registry.example.com/team/app@${digest}`, 'registry.example.com/team/app'],
      ['local:1', 'mirror.example.com/app'],
      [manifest.stored.configDigest, 'mirror.example.com/app'],
    ] as const) {
      const registries = recording();
      const report = await imageReferrers(fixture.store, registries, name, { ...ALL, artifactType: 'sbom' });
      assert.deepEqual(registries.asked, [`${repository}@${digest} sbom`]);
      assert.deepEqual([report.repository, report.digest, report.referrers.length], [repository, digest, 1]);
    }
  });

  it('is asked for of an index, or of one platform’s manifest', async () => {
    using fixture = new Fixture();
    const amd64 = await fixture.manifest([fixture.layer('amd64')]);
    const arm64 = await fixture.manifest([fixture.layer('arm64')], { platform: ARM64 });
    const target = await fixture.index([amd64.descriptor, arm64.descriptor]);
    fixture.put('redis:7', [amd64, arm64], { target });
    const registries = recording();
    await imageReferrers(fixture.store, registries, 'redis:7', ALL);
    const report = await imageReferrers(fixture.store, registries, 'redis:7', { ...ALL, platform: ARM64 });
    assert.equal(report.repository, 'redis');
    assert.deepEqual(
      registries.asked,
      [target, arm64.descriptor].map(({ digest }) => `docker.io/library/redis@${digest} `),
    );
  });

  it('cannot be told of an image that no registry has', async () => {
    using fixture = new Fixture();
    const manifest = await fixture.manifest([fixture.layer('loaded')]);
    fixture.put('loaded:1', [manifest], { byDigest: false });
    const ask = (name: string, options = ALL): Promise<unknown> =>
      imageReferrers(fixture.store, recording(), name, options);
    await assert.rejects(ask('loaded:1'), { kind: 'not-found', message: /no registry is known to have loaded:1/ });
    await assert.rejects(ask('nothing'), { kind: 'not-found', message: /No such image/ });
    await fixture.image('redis:7', [fixture.layer('redis')]);
    await assert.rejects(ask('redis:7', { ...ALL, platform: ARM64 }), { kind: 'not-found', message: /linux\/arm64/ });
  });
});
