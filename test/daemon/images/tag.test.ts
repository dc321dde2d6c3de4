import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { inspectImage } from '../../../src/daemon/images/inspect.ts';
import { Tagger } from '../../../src/daemon/images/tag.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { parseReference } from '../../../src/protocol/reference.ts';
import { Fixture, type TestManifest } from './fixture.ts';

describe('a tag', () => {
  let fixture: Fixture;
  let tagger: Tagger;
  let redis: TestManifest;
  let changes: number;
  beforeEach(async () => {
    fixture = new Fixture();
    changes = 0;
    tagger = new Tagger({
      store: fixture.store,
      events: { append: (event) => fixture.events.push(event) },
      onChange: () => changes++,
    });
    redis = await fixture.image('redis:7', [fixture.layer('redis')], { config: { config: { Labels: { team: 'a' } } } });
  });
  afterEach(() => fixture[Symbol.dispose]());

  const tag = (name: string, target: string): void => tagger.tag(name, parseReference(target));

  it('names an image found by reference, ID, digest or the start of one', () => {
    const { configDigest, digest } = redis.stored;
    for (const [source, target, named] of [
      ['redis:7', 'localhost:5000/team/redis:1', 'localhost:5000/team/redis:1'],
      [configDigest, 'by-id', 'by-id:latest'],
      [configDigest.slice(7, 19), 'by-prefix:x', 'by-prefix:x'],
      [`redis@${digest}`, 'by-digest:x', 'by-digest:x'],
    ] as const) {
      tag(source, target);
      assert.equal(fixture.store.resolve(named).target, digest);
      assert.deepEqual(fixture.events.at(-1), {
        type: 'image',
        action: 'tag',
        actor: configDigest,
        attributes: { team: 'a', name: named },
      });
    }
    assert.equal(changes, 4);
  });

  it('says nothing of an origin, and sets when the image was tagged last', async () => {
    const before = await inspectImage(fixture.store, 'redis:7');
    fixture.now += 60_000;
    tag('redis:7', 'localhost:5000/team/redis:1');
    const after = await inspectImage(fixture.store, 'redis:7');
    assert.deepEqual(after.RepoDigests, before.RepoDigests);
    assert.deepEqual(after.Identity, before.Identity);
    assert.deepEqual(after.RepoTags, ['redis:7', 'localhost:5000/team/redis:1']);
    assert.equal(Date.parse(String(after.Metadata.LastTagTime)), fixture.now);
    fixture.now += 60_000;
    tag('redis:7', 'redis:7');
    const again = await inspectImage(fixture.store, 'redis:7');
    assert.equal(Date.parse(String(again.Metadata.LastTagTime)), fixture.now);
  });

  it('moves from another image, which stays without a name', async () => {
    const old = await fixture.manifest([fixture.layer('old')]);
    fixture.put('app:1', [old], { byDigest: false });
    tag('redis:7', 'app:1');
    assert.equal(fixture.store.resolve('app:1').target, redis.stored.digest);
    assert.deepEqual(fixture.store.names(old.stored.configDigest), []);
    assert.equal(fixture.store.resolve(old.stored.configDigest).target, old.stored.digest);
    assert.deepEqual(
      fixture.events.map(({ action }) => action),
      ['tag'],
    );
    const listed = fixture.store.listing().find(({ id }) => id === old.stored.configDigest);
    assert.ok(listed !== undefined, 'the old image is no longer listed');
  });

  it('is refused, and changes nothing, where the name or the image is none', () => {
    const refused: [source: string, target: string, kind: string, message: RegExp][] = [
      ['redis:7', `app@${redis.stored.digest}`, 'invalid', /refusing to create a tag with a digest reference/],
      ['redis:7', 'sha256:7', 'invalid', /ambiguous tag using digest algorithm/],
      ['redis:8', 'app:1', 'not-found', /No such image: redis:8/],
      ['Redis', 'app:1', 'invalid', /must be lowercase/],
    ];
    const names = fixture.store.names(redis.stored.configDigest);
    for (const [source, target, kind, message] of refused) {
      assert.throws(
        () => tag(source, target),
        (error) => error instanceof LayerdError && error.kind === kind && message.test(error.message),
      );
    }
    assert.deepEqual(fixture.store.names(redis.stored.configDigest), names);
    assert.deepEqual([fixture.events, changes], [[], 0]);
  });
});
