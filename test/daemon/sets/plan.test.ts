import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { conditionsOf, holds, transitions } from '../../../src/daemon/sets/conditions.ts';
import { plan, stateOf, type PlannedMember } from '../../../src/daemon/sets/plan.ts';
import type { Found, MemberState } from '../../../src/daemon/sets/set.ts';
import { parseSpec } from '../../../src/daemon/sets/spec.ts';
import { AMD64, sha256 } from '../images/fixture.ts';

const NOW = Date.UTC(2026, 0, 1);
const VERSIONS = ['old', 'new', 'other'] as const;
const found = (version: string): Found => ({ target: sha256(version), manifest: sha256(`${version} manifest`) });

const FRESH: MemberState = {
  found: undefined,
  pinned: undefined,
  remote: undefined,
  checkedAt: undefined,
  nextAt: undefined,
  failures: 0,
  error: undefined,
};

function member(image: object, state: Partial<MemberState> = {}): PlannedMember {
  const [wanted] = parseSpec({ images: [image] }, AMD64).images;
  assert.ok(wanted);
  return { wanted, state: { ...FRESH, ...state }, isUnderWay: false };
}

const once = { reference: 'redis:7' };
const always = { reference: 'redis:7', pullPolicy: 'Always', interval: '1h' };

describe('the plan of an image set', () => {
  it('pulls what is missing, all of it in one step', () => {
    const members = [member(once), member(always)];
    assert.deepEqual(plan(members, NOW), { steps: [{ step: 'pull', members }], wakeAt: undefined });
  });

  it('pins what is here, and asks no registry for it unless it is to be followed', () => {
    const here = member(once, { found: found('old') });
    assert.deepEqual(plan([here], NOW), { steps: [{ step: 'pin', member: here }], wakeAt: undefined });
    const followed = member(always, { found: found('old'), pinned: found('old') });
    assert.deepEqual(plan([followed], NOW).steps, [{ step: 'check', member: followed }]);
  });

  it('never asks again for what a digest names', () => {
    const reference = `redis@${sha256('old')}`;
    const here = member({ ...always, reference }, { found: found('old'), pinned: found('old'), remote: sha256('new') });
    assert.deepEqual(plan([here], NOW), { steps: [], wakeAt: undefined });
  });

  it('checks again when it is due, and not before', () => {
    const state = { found: found('old'), pinned: found('old'), remote: sha256('old'), nextAt: NOW + 5 };
    const followed = member(always, state);
    assert.deepEqual(plan([followed], NOW), { steps: [], wakeAt: NOW + 5 });
    assert.deepEqual(plan([followed], NOW + 5).steps, [{ step: 'check', member: followed }]);
  });

  it('pulls what its tag has left, though the next check is not due', () => {
    const state = { found: found('old'), pinned: found('old'), remote: sha256('new'), nextAt: NOW + 5 };
    const followed = member(always, state);
    assert.deepEqual(plan([followed], NOW).steps, [{ step: 'pull', members: [followed] }]);
    // An image that is only to be here is not followed, whatever its registry said once.
    assert.deepEqual(plan([member(once, state)], NOW), { steps: [], wakeAt: undefined });
  });

  it('waits after a failure, and leaves alone what is under way', () => {
    const failed = member(once, { failures: 1, nextAt: NOW + 5 });
    assert.deepEqual(plan([failed], NOW), { steps: [], wakeAt: NOW + 5 });
    assert.deepEqual(plan([{ ...member(once), isUnderWay: true }], NOW), { steps: [], wakeAt: undefined });
  });

  it('converges from whatever is here to whatever is asked for, and no step removes an image', () => {
    const version = fc.option(fc.constantFrom(...VERSIONS), { nil: undefined });
    const states = fc.record({
      reference: fc.constantFrom('redis:7', `redis@${sha256('new')}`),
      policy: fc.constantFrom('IfNotPresent', 'Always'),
      here: version,
      pinned: version,
      remote: version,
      failures: fc.integer({ min: 0, max: 20 }),
      wait: fc.option(fc.integer({ min: 0, max: 600_000 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(states, { maxLength: 6 }), fc.constantFrom(...VERSIONS), (images, published) => {
        let members = images.map(({ reference, policy, here, pinned, remote, failures, wait }) =>
          member(
            { reference, pullPolicy: policy },
            {
              found: here && found(here),
              pinned: pinned && found(pinned),
              remote: remote && sha256(remote),
              failures,
              nextAt: wait === undefined ? undefined : NOW + wait,
            },
          ),
        );
        let now = NOW;
        let stored = members.filter(({ state }) => state.found !== undefined).length;
        // Each image needs a pin, a check, a pull and the pin of what came at most, and to be waited for.
        for (let rounds = 0; rounds < 5 * (members.length + 1); rounds += 1) {
          const { steps, wakeAt } = plan(members, now);
          for (const step of steps) assert.ok(['pin', 'check', 'pull'].includes(step.step));
          const stepOf = (each: PlannedMember) =>
            steps.filter((step) => (step.step === 'pull' ? step.members.includes(each) : step.member === each));
          members = members.map((each) =>
            stepOf(each).reduce((after, { step }) => ({ ...after, state: taken(step, after, published, now) }), each),
          );
          const left = members.filter(({ state }) => state.found !== undefined).length;
          assert.ok(left >= stored);
          stored = left;
          if (steps.length === 0) now = wakeAt ?? now;
        }
        for (const { wanted, state } of members) {
          assert.ok(state.found);
          assert.deepEqual(state.pinned, state.found);
          if (wanted.cadence !== undefined) assert.equal(state.found.target, sha256(published));
        }
      }),
    );
  });
});

/** What a step comes to in a world where everything succeeds, and the tag names what was published. */
function taken(step: string, { wanted, state }: PlannedMember, published: string, now: number): MemberState {
  const nextAt = wanted.cadence === undefined ? undefined : now + 3_600_000;
  if (step === 'pin') return { ...state, pinned: state.found };
  const remote = sha256(published);
  const asked = { ...state, remote, checkedAt: now, nextAt, failures: 0, error: undefined };
  return step === 'check' ? asked : { ...asked, found: found(published) };
}

describe('the conditions of an image set', () => {
  const at = (state: Partial<MemberState>, image: object = once) => member(image, state);
  const settled = { found: found('old'), pinned: found('old') };
  const conditions = (
    members: readonly PlannedMember[],
    before = conditionsOf({ problem: undefined, members: [] }, [], '0'),
  ) => conditionsOf({ problem: undefined, members }, before, '1');
  const truths = (members: readonly PlannedMember[]) =>
    conditions(members).flatMap(({ type, status }) => (status === 'True' ? [type] : []));

  it('say what is here, what goes on and what failed', () => {
    const error = { reason: 'NotFound', message: 'no such image' };
    assert.deepEqual(truths([at(settled)]), ['Ready']);
    assert.deepEqual(truths([at(settled), at({})]), ['Progressing']);
    assert.deepEqual(truths([at({ failures: 1, error })]), ['Degraded']);
    assert.deepEqual(truths([at({ ...settled, failures: 1, error })]), ['Ready', 'Degraded']);
    assert.deepEqual(truths([at({ ...settled, remote: sha256('new') }, always)]), ['Ready', 'Progressing']);
    const [ready, , degraded] = conditions([at({ failures: 2, error }), at({ failures: 1, error })]);
    assert.equal(ready?.message, '2 of 2 images missing: redis:7, redis:7');
    assert.deepEqual([degraded?.reason, degraded?.message], ['NotFound', 'redis:7: no such image (and 1 more)']);
    assert.equal(stateOf(at(settled)), 'present');
  });

  it('keep their time while their status stays, and are told of when they begin to hold', () => {
    const before = conditions([at({})], []);
    const failing = (reason: string) => at({ failures: 1, error: { reason, message: '' } });
    const names = (after: ReturnType<typeof conditions>) => transitions(before, after).map(({ type }) => type);
    assert.deepEqual(names(before), []);
    assert.deepEqual(names(conditions([at(settled)], before)), ['Ready']);
    const degraded = conditions([failing('NotFound')], before);
    assert.deepEqual(names(degraded), ['Degraded']);
    assert.deepEqual(
      transitions(degraded, conditionsOf({ problem: undefined, members: [failing('NotFound')] }, degraded, '2')),
      [],
    );
    const other = conditionsOf({ problem: undefined, members: [failing('RateLimited')] }, degraded, '2');
    assert.deepEqual(
      transitions(degraded, other).map(({ reason }) => reason),
      ['RateLimited'],
    );
    assert.equal(other.find(({ type }) => type === 'Degraded')?.lastTransitionTime, '1');
  });

  it('tell again that a set is ready once it is in order', () => {
    const updating = conditions([at({ ...settled, remote: sha256('new') }, always)]);
    assert.ok(holds(updating, 'Ready'));
    assert.deepEqual(
      transitions(updating, conditions([at(settled)], updating)).map(({ type }) => type),
      ['Ready'],
    );
    const ready = conditions([at(settled)]);
    assert.deepEqual(transitions(ready, conditions([at(settled)], ready)), []);
  });

  it('say of a file that never could be used that nothing is known', () => {
    const [ready, , degraded] = conditionsOf({ problem: '/etc/x.json: field y: unknown', members: [] }, [], '0');
    assert.deepEqual([ready?.status, ready?.reason], ['False', 'InvalidFile']);
    assert.deepEqual([degraded?.status, degraded?.message], ['True', '/etc/x.json: field y: unknown']);
  });
});
