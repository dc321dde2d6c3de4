import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { NewEvent } from '../../../src/daemon/events/event.ts';
import type { PullRequest, Survey } from '../../../src/daemon/images/pull.ts';
import type { Registries } from '../../../src/daemon/registry/registry.ts';
import { Reconciler, type Clock } from '../../../src/daemon/sets/reconciler.ts';
import type { ImageSet } from '../../../src/daemon/sets/set.ts';
import { parseSpec } from '../../../src/daemon/sets/spec.ts';
import { UNPACKED } from '../../../src/daemon/sets/space.ts';
import type { Digest } from '../../../src/protocol/digest.ts';
import { LayerdError } from '../../../src/protocol/errors.ts';
import { MediaType } from '../../../src/protocol/media-types.ts';
import { familiarString } from '../../../src/protocol/reference.ts';
import { AMD64, Fixture, sha256, type TestManifest } from '../images/fixture.ts';

/** A time that passes only when it is told to. */
class ManualClock implements Clock {
  #now = Date.UTC(2026, 0, 1);
  readonly #sleepers = new Set<{ readonly until: number; readonly wake: () => void }>();

  now(): number {
    return this.#now;
  }

  sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const sleeper = {
        until: this.#now + milliseconds,
        wake: () => {
          this.#sleepers.delete(sleeper);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal.addEventListener('abort', sleeper.wake);
      if (signal.aborted) sleeper.wake();
    });
  }

  /** Lets time pass, from one waking to the next, and what follows from each happen. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    for (;;) {
      await this.#settle();
      const next = Math.min(...[...this.#sleepers].map(({ until }) => until));
      if (next > end) break;
      this.#now = Math.max(this.#now, next);
      for (const sleeper of [...this.#sleepers]) if (sleeper.until <= this.#now) sleeper.wake();
    }
    this.#now = end;
  }

  async #settle(): Promise<void> {
    for (let turn = 0; turn < 30; turn += 1) await new Promise(setImmediate);
  }
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;

/** Sets on a real store, whose registry the test is. */
class World implements AsyncDisposable {
  readonly fixture = new Fixture();
  readonly clock = new ManualClock();
  readonly events: NewEvent[] = [];
  /** What the registry has, by reference: an image, or an error. */
  readonly published = new Map<string, TestManifest | LayerdError>();
  /** What was asked of the registry, in order. */
  readonly asked: string[] = [];
  readonly requests: PullRequest[] = [];
  readonly sets = this.fixture.sets;
  spare: number | Error = 1e12;
  /** What the log was told that nobody expects. */
  readonly errors: string[] = [];
  survey: Survey = { missing: [] };
  pulling: (name: string, signal: AbortSignal) => Promise<void> = () => Promise.resolve();
  readonly reconciler: Reconciler;

  constructor() {
    this.fixture.now = this.clock.now();
    this.reconciler = new Reconciler({
      sets: this.sets,
      images: {
        survey: async (request) => {
          await this.#get('survey', request);
          return this.survey;
        },
        pull: async (request) => {
          const manifest = await this.#get('pull', request);
          const name = familiarString(request.reference);
          await this.pulling(name, request.signal);
          this.fixture.put(name, [manifest]);
        },
      },
      registries: {
        resolve: async (repository, reference) => {
          const name = familiarString({ ...repository, tag: reference, digest: undefined });
          const { descriptor } = await this.#find('check', name);
          return { mediaType: MediaType.ociManifest, digest: descriptor.digest, size: descriptor.size };
        },
      } satisfies Pick<Registries, 'resolve'>,
      credentials: (name) =>
        name === 'good'
          ? Promise.resolve({ username: 'u', password: 'p' })
          : Promise.reject(
              new LayerdError('unauthorized', `the credentials /x/${name}.json cannot be used: no such file`),
            ),
      spare: () => {
        if (this.spare instanceof Error) throw this.spare;
        return this.spare;
      },
      clock: this.clock,
      random: () => 0,
      log: { debug: () => undefined, warn: () => undefined, error: (message) => this.errors.push(message) },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reconciler.close();
    this.fixture[Symbol.dispose]();
  }

  /** Publishes an image, in place of what the tag named before. */
  async publish(name: string, content: string): Promise<Digest> {
    const manifest = await this.fixture.manifest([this.fixture.layer(content)]);
    this.published.set(name, manifest);
    return manifest.descriptor.digest;
  }

  put(name: string, spec: object): void {
    this.sets.put(name, parseSpec(spec, AMD64));
    this.reconciler.wake();
  }

  get(name: string): ImageSet {
    const set = this.sets.get(name);
    assert.ok(set);
    return set;
  }

  /** The conditions that are true, with their reasons. */
  truths(name: string): string[] {
    return this.get(name).conditions.flatMap(({ type, status, reason }) =>
      status === 'True' ? [`${type} ${reason}`] : [],
    );
  }

  async pass(milliseconds: number): Promise<void> {
    await this.clock.pass(milliseconds);
    this.fixture.now = this.clock.now();
  }

  #get(what: string, request: PullRequest): Promise<TestManifest> {
    this.requests.push(request);
    return this.#find(what, familiarString(request.reference));
  }

  #find(what: string, name: string): Promise<TestManifest> {
    this.asked.push(`${what} ${name}`);
    const found = this.published.get(name) ?? new LayerdError('not-found', `${name} not found`);
    return found instanceof LayerdError ? Promise.reject(found) : Promise.resolve(found);
  }
}

describe('the reconciler of image sets', () => {
  let world: World;
  beforeEach(() => {
    world = new World();
    world.reconciler.start();
  });
  afterEach(async () => {
    await world[Symbol.asyncDispose]();
    assert.deepEqual(world.errors, []);
  });

  it('pulls what is missing, tells how it is, and asks no more', async () => {
    const digest = await world.publish('redis:7', 'redis');
    await world.publish('debian:12', 'debian');
    world.put('base', { images: ['redis:7', 'debian:12'] });
    await world.pass(MINUTE);
    assert.deepEqual(world.truths('base'), ['Ready AllPresent']);
    const set = world.get('base');
    assert.deepEqual([set.generation, set.observedGeneration], [1, 1]);
    assert.equal(set.members[0]?.state.pinned?.target, digest);
    await world.pass(100 * MINUTE);
    assert.deepEqual(world.asked.toSorted(), ['pull debian:12', 'pull redis:7', 'survey debian:12', 'survey redis:7']);
    const { client, priority } = world.requests[0] ?? {};
    assert.deepEqual([client, priority], ['image set base', -10]);
    const told = world.fixture.events.filter(({ type }) => type === 'imageset').map(({ action }) => action);
    assert.deepEqual(told, ['create', 'progressing', 'ready']);
  });

  it('asks nobody for what is here', async () => {
    await world.fixture.image('redis:7', [world.fixture.layer('redis')]);
    world.put('base', { images: ['redis:7'] });
    await world.pass(MINUTE);
    assert.deepEqual([world.truths('base'), world.asked], [['Ready AllPresent'], []]);
  });

  it('follows a tag after its interval, and pulls only when it moved', async () => {
    await world.publish('redis:7', 'old');
    world.put('base', { images: [{ reference: 'redis:7', pullPolicy: 'Always', interval: '10m' }] });
    await world.pass(11 * MINUTE);
    assert.deepEqual(world.asked, ['survey redis:7', 'pull redis:7', 'check redis:7']);
    const moved = await world.publish('redis:7', 'new');
    await world.pass(10 * MINUTE);
    assert.deepEqual(world.asked.slice(3), ['check redis:7', 'survey redis:7', 'pull redis:7']);
    assert.equal(world.get('base').members[0]?.state.pinned?.target, moved);
    assert.deepEqual(world.truths('base'), ['Ready AllPresent']);
    const told = world.fixture.events.filter(({ type }) => type === 'imageset').map(({ action }) => action);
    assert.deepEqual(told, ['create', 'progressing', 'ready', 'progressing', 'ready']);
  });

  it('tries again ever later, and is in order when the registry is back', async () => {
    world.published.set('redis:7', new LayerdError('unavailable', 'cannot reach the registry'));
    world.put('base', { images: ['redis:7'] });
    await world.pass(SECOND / 4);
    assert.deepEqual(world.truths('base'), ['Degraded RegistryUnavailable']);
    const since = world.get('base').conditions[2]?.lastTransitionTime;
    await world.pass(30 * SECOND);
    const attempts = world.asked.length;
    assert.ok(attempts >= 5 && attempts <= 7, `${attempts} attempts`);
    assert.equal(world.get('base').conditions[2]?.lastTransitionTime, since);
    assert.match(world.get('base').conditions[2]?.message ?? '', /^redis:7: cannot reach the registry$/);
    await world.publish('redis:7', 'redis');
    await world.pass(5 * MINUTE);
    assert.deepEqual(world.truths('base'), ['Ready AllPresent']);
    assert.equal(world.get('base').members[0]?.state.failures, 0);
  });

  it('waits as long as a registry asks, and a minute where a pull was cancelled', async () => {
    const hour = 60 * MINUTE;
    world.published.set('a:1', new LayerdError('too-many-requests', 'slow down', { retryAfter: 10 * MINUTE }));
    world.published.set('b:1', new LayerdError('cancelled', 'the pull was cancelled through the API'));
    world.published.set('c:1', new LayerdError('too-many-requests', 'never again', { retryAfter: 1000 * hour }));
    world.put('base', { images: ['a:1', 'b:1', 'c:1'] });
    const count = (name: string) => world.asked.filter((each) => each === `survey ${name}`).length;
    await world.pass(59 * SECOND);
    assert.deepEqual([count('a:1'), count('b:1')], [1, 1]);
    await world.pass(5 * SECOND);
    assert.deepEqual([count('a:1'), count('b:1')], [1, 2]);
    await world.pass(11 * MINUTE);
    assert.equal(count('a:1'), 2);
    await world.pass(hour);
    assert.equal(count('c:1'), 2);
    const reasons = world.get('base').members.map(({ state }) => state.error?.reason);
    assert.deepEqual(reasons, ['RateLimited', 'Cancelled', 'RateLimited']);
  });

  it('pulls nothing of a set for which there is no space, and all of it once there is', async () => {
    await world.publish('a:1', 'a');
    await world.publish('b:1', 'b');
    const blob = { digest: sha256('blob'), size: 1e9, received: 4e8, unpacks: true };
    // Both need the same blob, which is counted once.
    world.survey = { missing: [blob] };
    world.spare = 6e8 + UNPACKED * 1e9 - 1;
    world.put('base', { images: ['a:1', 'b:1'] });
    await world.pass(SECOND / 4);
    assert.deepEqual(world.truths('base'), ['Degraded InsufficientSpace']);
    assert.match(
      world.get('base').conditions[2]?.message ?? '',
      /needs 3600 MB of the disk, of which 3600 MB are free/,
    );
    assert.deepEqual(
      world.asked.filter((each) => each.startsWith('pull')),
      [],
    );
    world.spare = 6e8 + UNPACKED * 1e9;
    await world.pass(5 * MINUTE);
    assert.deepEqual(world.truths('base'), ['Ready AllPresent']);
  });

  it('counts the space that another set is being pulled into', async () => {
    await world.publish('a:1', 'a');
    await world.publish('b:1', 'b');
    world.survey = { missing: [{ digest: sha256('blob'), size: 1e9, received: 0, unpacks: false }] };
    world.spare = 1.5e9;
    const first = Promise.withResolvers<undefined>();
    world.pulling = (name) => (name === 'a:1' ? first.promise : Promise.resolve());
    world.put('one', { images: ['a:1'] });
    await world.pass(SECOND / 4);
    world.put('two', { images: ['b:1'] });
    await world.pass(SECOND / 4);
    assert.deepEqual(world.truths('two'), ['Degraded InsufficientSpace']);
    first.resolve(undefined);
    await world.pass(MINUTE);
    assert.deepEqual([world.truths('one'), world.truths('two')], [['Ready AllPresent'], ['Ready AllPresent']]);
  });

  it('leaves alone for a while an image of which nothing can be noted, instead of trying without end', async () => {
    await world.publish('a:1', 'a');
    world.spare = new Error('no file system');
    world.put('base', { images: ['a:1'] });
    await world.pass(29 * SECOND);
    assert.deepEqual(world.asked, ['survey a:1']);
    assert.match(world.errors.splice(0).join(), /^the images of a set could not be seen to: no file system$/);
    world.spare = 1e12;
    await world.pass(2 * SECOND);
    assert.deepEqual(world.truths('base'), ['Ready AllPresent']);
  });

  it('uses the credentials that it names, and says which file is wrong', async () => {
    await world.publish('a:1', 'a');
    world.put('base', { images: ['a:1'], credentials: 'good' });
    await world.pass(MINUTE);
    assert.deepEqual(world.requests[0]?.credentials, { username: 'u', password: 'p' });
    await world.publish('b:1', 'b');
    world.put('base', { images: ['b:1'], credentials: 'bad' });
    await world.pass(SECOND / 4);
    assert.deepEqual(world.truths('base'), ['Degraded CredentialsUnusable']);
    assert.match(world.get('base').conditions[2]?.message ?? '', /^b:1: the credentials \/x\/bad\.json cannot be used/);
  });

  it('pulls again what was removed by force', async () => {
    await world.publish('a:1', 'a');
    world.put('base', { images: ['a:1'] });
    await world.pass(MINUTE);
    world.fixture.remover.remove('a:1', { force: true });
    world.reconciler.wake();
    await world.pass(MINUTE);
    assert.deepEqual(world.truths('base'), ['Ready AllPresent']);
    assert.deepEqual(world.asked.filter((each) => each === 'pull a:1').length, 2);
  });

  it('gives up a pull when its set is deleted, and removes nothing', async () => {
    await world.publish('a:1', 'a');
    await world.publish('b:1', 'b');
    const aborted = Promise.withResolvers<unknown>();
    world.pulling = (name, signal) =>
      name === 'b:1'
        ? new Promise((_, reject) =>
            signal.addEventListener('abort', () => {
              aborted.resolve(signal.reason);
              reject(new LayerdError('cancelled', 'it was aborted'));
            }),
          )
        : Promise.resolve();
    world.put('base', { images: ['a:1', 'b:1'] });
    await world.pass(SECOND);
    world.sets.delete('base');
    world.reconciler.wake();
    await world.pass(SECOND);
    assert.match(String(await aborted.promise), /no image set wants it any more/);
    assert.equal(world.sets.get('base'), undefined);
    assert.equal(world.fixture.store.resolve('a:1').byId, false);
  });

  it('does not pull in a circle what is for another platform than the host, or than was asked for', async () => {
    const arm = await world.fixture.manifest([world.fixture.layer('arm')], {
      platform: { os: 'linux', architecture: 'arm64' },
    });
    world.published.set('arm:1', arm);
    world.put('base', { images: ['arm:1'] });
    await world.pass(10 * MINUTE);
    assert.deepEqual([world.truths('base'), world.asked], [['Ready AllPresent'], ['survey arm:1', 'pull arm:1']]);
    world.put('other', { images: [{ reference: 'arm:1', platform: 'linux/amd64' }] });
    await world.pass(SECOND / 4);
    assert.deepEqual(world.truths('other'), ['Degraded PullFailed']);
  });
});
