import type { Kind } from './kind.ts';
import { clock } from './kinds/clock.ts';
import { descriptors } from './kinds/descriptors.ts';
import { error, read } from './kinds/error.ts';
import { full } from './kinds/full.ts';
import { kill } from './kinds/kill.ts';
import { move } from './kinds/move.ts';
import { NETWORK } from './kinds/network.ts';
import { power } from './kinds/power.ts';
import { step } from './kinds/step.ts';
import { token } from './kinds/token.ts';

/** All kinds of faults, in the order in which they take turns. */
export const KINDS: readonly Kind[] = [
  ...NETWORK,
  token,
  move,
  kill,
  step,
  error,
  read,
  full,
  descriptors,
  clock,
  power,
];
