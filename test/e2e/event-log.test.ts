import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { LayerdClient, type EventMessage } from '../../src/client/index.ts';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import { image, layer, ociArchive } from '../support/images.ts';

/** How often the daemon is killed; LAYERD_TEST_KILLS=100 is for whoever changed the log. */
const KILLS = Number(process.env['LAYERD_TEST_KILLS'] ?? 10);
/** Clients that change the store at the same time. */
const WORKERS = 4;
/** Changes that are answered at most before a kill. */
const MAX_CHANGES = 40;

/** What clients were told of, and so what has to be so. */
interface Answered {
  readonly tagged: Set<string>;
  readonly untagged: Set<string>;
}

describe('the log of events under kill -9', () => {
  let daemon: Daemon;
  let client: LayerdClient;
  before(async () => {
    daemon = await startDaemon({ args: ['--log-level', 'warn'] });
    client = new LayerdClient({ host: `unix://${daemon.socket}` });
  });
  after(async () => {
    client.close();
    await daemon.stop();
  });

  let made = 0;
  const answered: Answered = { tagged: new Set(), untagged: new Set() };

  /** Changes the store until the daemon is gone; `told` is called with each change that was answered. */
  async function change(told: () => void): Promise<void> {
    const name = `storm/${(made += 1)}`;
    const done = async (method: string, path: string, body?: Buffer): Promise<void> => {
      const headers = body === undefined ? {} : { 'Content-Type': 'application/x-tar' };
      const response = await daemon.request(path, { method, headers, ...(body === undefined ? {} : { body }) });
      assert.ok(response.status < 300, `${response.body}\n${daemon.log}`);
      assert.doesNotMatch(response.body, /errorDetail/);
      told();
    };
    const archive = await ociArchive(image({ layers: [await layer([{ name, content: name }])] }), `${name}:1`);
    await done('POST', '/images/load?quiet=1', archive);
    answered.tagged.add(`${name}:1`);
    for (const tag of ['2', '3']) {
      await done('POST', `/images/${name}:1/tag?repo=${name}&tag=${tag}`);
      answered.tagged.add(`${name}:${tag}`);
    }
    const gone = made % 3 === 0 ? ['1', '2', '3'] : ['2'];
    for (const tag of gone) {
      await done('DELETE', `/images/${name}:${tag}`);
      answered.untagged.add(`${name}:${tag}`);
    }
  }

  /** Has clients change the store until so many changes were answered, and kills the daemon amidst them. */
  async function storm(changes: number): Promise<void> {
    let left = changes;
    const enough = Promise.withResolvers<undefined>();
    const told = (): void => {
      if ((left -= 1) === 0) enough.resolve(undefined);
    };
    let isKilled = false;
    const workers = Array.from({ length: WORKERS }, async () => {
      try {
        for (;;) await change(told);
      } catch (error) {
        // What the kill broke is what this is about; anything else fails the test.
        if (!isKilled || error instanceof assert.AssertionError) throw error;
      }
    });
    await Promise.race([enough.promise, Promise.all(workers)]);
    isKilled = true;
    await daemon.kill('SIGKILL');
    await Promise.all(workers);
  }

  /** The whole log as it is now. */
  async function log(): Promise<EventMessage[]> {
    const events: EventMessage[] = [];
    let newest = 0;
    for await (const event of client.events({ cursor: 0, onHello: (hello) => (newest = hello.newest) })) {
      events.push(event);
      if (event.seq === newest) break;
    }
    return events;
  }

  /** Asserts that the log tells of every change that is in the store, and of no other. */
  async function assertTrue(events: readonly EventMessage[]): Promise<void> {
    events.forEach(({ seq }, index) => assert.equal(seq, index + 1));
    const of = (action: string): EventMessage[] => events.filter(({ Action }) => Action === action);
    const count = (told: readonly EventMessage[], id: string): number =>
      told.filter(({ Actor }) => Actor.ID === id).length;
    const [tags, untags, loads, deletes] = ['tag', 'untag', 'load', 'delete'].map(of) as [
      EventMessage[],
      EventMessage[],
      EventMessage[],
      EventMessage[],
    ];
    const stored = new Map<string, string[]>((await client.images()).map(({ Id, RepoTags }) => [Id, RepoTags]));
    const ids = new Set([...stored.keys(), ...tags.map(({ Actor }) => Actor.ID)]);
    for (const id of ids) {
      const names = stored.get(id) ?? [];
      const given = tags.filter(({ Actor }) => Actor.ID === id).map(({ Actor }) => Actor.Attributes['name'] ?? '');
      assert.deepEqual([new Set(given).size, count(loads, id)], [given.length, 1]);
      assert.ok(names.every((name) => given.includes(name)));
      assert.equal(names.length, given.length - count(untags, id));
      assert.equal(count(deletes, id), stored.has(id) ? 0 : 1);
    }
    // And what was answered is in both.
    const told = new Set(tags.map(({ Actor }) => Actor.Attributes['name']));
    const named = new Set([...stored.values()].flat());
    for (const name of answered.tagged) assert.ok(told.has(name), `no event of ${name}`);
    for (const name of answered.untagged) assert.ok(!named.has(name), `${name} is there again`);
  }

  /** Follows the log over all kills, at its own pace. */
  async function follow(seqs: number[], signal: AbortSignal, afterEach: () => Promise<unknown>): Promise<void> {
    // One of its own, as other programs are.
    await using own = new LayerdClient({ host: `unix://${daemon.socket}` });
    try {
      for await (const { seq } of own.events({ cursor: 0, signal })) {
        seqs.push(seq ?? 0);
        await afterEach();
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  it('tells of every change that was kept, to everybody in order, and of none that was not', async () => {
    const stop = new AbortController();
    using _stopped = { [Symbol.dispose]: () => stop.abort() };
    const followers = [() => Promise.resolve(), () => sleep(1), () => new Promise(setImmediate)].map((pause) => {
      const seqs: number[] = [];
      return { seqs, ended: follow(seqs, stop.signal, pause).then(() => assert.ok(stop.signal.aborted, 'it ended')) };
    });
    for (let kill = 0; kill < KILLS; kill += 1) {
      await storm(1 + Math.floor(Math.random() * MAX_CHANGES));
      await daemon.start();
      await assertTrue(await log());
    }
    const whole = (await log()).map(({ seq }) => seq ?? 0);
    for (const { seqs, ended } of followers) {
      while (seqs.length < whole.length) await Promise.race([sleep(5), ended]);
      assert.deepEqual(seqs, whole);
    }
    stop.abort();
    await Promise.all(followers.map(({ ended }) => ended));
  });
});
