import type { ImageSetCondition } from '../../protocol/image-set.ts';
import { needsPull, stateOf } from './plan.ts';
import type { Failure, Member } from './set.ts';

/** Names that a message lists at most. */
const MAX_NAMES = 5;

/** Why a set is degraded whose file cannot be used. */
const INVALID_FILE = 'InvalidFile';

/** What conditions follow from. */
export interface Subject {
  readonly problem: string | undefined;
  readonly members: readonly Member[];
}

type Verdict = Pick<ImageSetCondition, 'type' | 'status' | 'reason' | 'message'>;

/**
 * How a set is:
 *
 * - *Ready*: every image is here, if not the newest one;
 * - *Progressing*: something is pulled, or about to be;
 * - *Degraded*: something failed, and is tried again: also while all images are here, and cannot be followed.
 * @param before The conditions as they were, whose times stay where the status does.
 * @param now RFC 3339.
 */
export function conditionsOf(subject: Subject, before: readonly ImageSetCondition[], now: string): ImageSetCondition[] {
  return [ready(subject), progressing(subject), degraded(subject)].map((verdict) => {
    const last = before.find(({ type }) => type === verdict.type);
    const lastTransitionTime = last?.status === verdict.status ? last.lastTransitionTime : now;
    return { ...verdict, lastTransitionTime };
  });
}

/** Whether a condition is true. */
export const holds = (conditions: readonly ImageSetCondition[], type: ImageSetCondition['type']): boolean =>
  conditions.some((condition) => condition.type === type && condition.status === 'True');

/**
 * The conditions that are worth an event: what has begun to hold, or does so for another reason. That a set is ready is told
 * again when it is in order after something was pulled or had failed.
 */
export function transitions(
  before: readonly ImageSetCondition[],
  after: readonly ImageSetCondition[],
): ImageSetCondition[] {
  const isInOrder = (conditions: readonly ImageSetCondition[]): boolean =>
    holds(conditions, 'Ready') && !holds(conditions, 'Progressing') && !holds(conditions, 'Degraded');
  return after.filter((condition) => {
    if (condition.status === 'False') return false;
    const { type, reason } = condition;
    const last = before.find((each) => each.type === type);
    if (last?.status !== 'True') return true;
    return type === 'Ready' ? isInOrder(after) && !isInOrder(before) : type === 'Degraded' && last.reason !== reason;
  });
}

function ready({ members, problem }: Subject): Verdict {
  if (problem !== undefined && members.length === 0) {
    return { type: 'Ready', status: 'False', reason: INVALID_FILE, message: 'it is not known what the set asks for' };
  }
  const missing = members.filter((member) => stateOf(member) === 'missing');
  const all = `${members.length} ${members.length === 1 ? 'image' : 'images'}`;
  if (missing.length === 0) {
    return {
      type: 'Ready',
      status: 'True',
      reason: 'AllPresent',
      message: members.length === 0 ? 'there is nothing to pull' : `all of ${all} are here`,
    };
  }
  const message = `${missing.length} of ${all} missing: ${named(missing)}`;
  return { type: 'Ready', status: 'False', reason: 'ImagesMissing', message };
}

function progressing({ members }: Subject): Verdict {
  const pulled = members.filter((member) => needsPull(member) && member.state.failures === 0);
  if (pulled.length === 0) {
    return { type: 'Progressing', status: 'False', reason: 'Idle', message: 'nothing is being pulled' };
  }
  return { type: 'Progressing', status: 'True', reason: 'Pulling', message: `pulling ${named(pulled)}` };
}

function degraded({ members, problem }: Subject): Verdict {
  const failures: Failure[] = [
    ...(problem === undefined ? [] : [{ reason: INVALID_FILE, message: problem }]),
    ...members.flatMap(({ wanted, state: { error } }) =>
      error === undefined ? [] : [{ ...error, message: `${wanted.name}: ${error.message}` }],
    ),
  ];
  const [first] = failures;
  if (first === undefined) {
    return { type: 'Degraded', status: 'False', reason: 'AsExpected', message: 'nothing failed' };
  }
  const others = failures.length === 1 ? '' : ` (and ${failures.length - 1} more)`;
  return { type: 'Degraded', status: 'True', reason: first.reason, message: first.message + others };
}

function named(members: readonly Member[]): string {
  const names = members.slice(0, MAX_NAMES).map(({ wanted }) => wanted.name);
  return names.join(', ') + (members.length > MAX_NAMES ? ` and ${members.length - MAX_NAMES} more` : '');
}
