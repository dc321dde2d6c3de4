import type { Member } from './set.ts';

/** An image of a set, and whether somebody is at it. */
export interface PlannedMember extends Member {
  readonly isUnderWay: boolean;
}

/**
 * A step towards what a set asks for. No step removes an image: that is nobody's to do but a user's.
 *
 * - *pin*: what the store has is taken for what is held from removal;
 * - *check*: the registry is asked which manifest the reference names;
 * - *pull*: what is missing, or has been left by its tag, is fetched.
 */
export type Step<M extends Member = PlannedMember> =
  | { readonly step: 'pin'; readonly member: M }
  | { readonly step: 'check'; readonly member: M }
  | { readonly step: 'pull'; readonly members: readonly M[] };

/** What is to be done now, and when to look again. */
export interface Plan<M extends Member = PlannedMember> {
  readonly steps: readonly Step<M>[];
  /** Unix milliseconds; undefined where nothing comes by itself. */
  readonly wakeAt: number | undefined;
}

/**
 * Computes the steps between what is here and what a set asks for. Reads nothing but its arguments. What is to be pulled is
 * one step, since whether there is space is a question about the set.
 * @param now Unix milliseconds.
 */
export function plan<M extends PlannedMember>(members: readonly M[], now: number): Plan<M> {
  const steps: Step<M>[] = [];
  const pulled: M[] = [];
  let wakeAt: number | undefined;
  for (const member of members) {
    const { found, pinned, nextAt = 0 } = member.state;
    if (found !== undefined && (found.target !== pinned?.target || found.manifest !== pinned.manifest)) {
      steps.push({ step: 'pin', member });
    }
    if (member.isUnderWay) continue;
    const pulls = needsPull(member);
    if (!pulls && member.wanted.cadence === undefined) continue;
    // What has just been found missing, or outdated, is not put off until the next check; what failed is.
    const isPutOff = nextAt > now && !(pulls && member.state.failures === 0);
    if (isPutOff) wakeAt = Math.min(wakeAt ?? nextAt, nextAt);
    else if (pulls) pulled.push(member);
    else steps.push({ step: 'check', member });
  }
  if (pulled.length > 0) steps.push({ step: 'pull', members: pulled });
  return { steps, wakeAt };
}

/** Whether an image of a set is missing, or its tag has moved on. */
export const needsPull = (member: Member): boolean => stateOf(member) !== 'present';

/** How an image of a set is. */
export function stateOf({ wanted, state: { found, remote } }: Member): 'present' | 'outdated' | 'missing' {
  if (found === undefined) return 'missing';
  return wanted.cadence !== undefined && remote !== undefined && remote !== found.target ? 'outdated' : 'present';
}
