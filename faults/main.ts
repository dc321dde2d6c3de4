// Injects faults into layerd and holds it to its promises; docs/reliability.md says which.
import { parseArgs } from 'node:util';
import { messageOf } from '../src/protocol/errors.ts';
import { table } from '../scripts/demo/text.ts';
import { needs } from '../test/support/process.ts';
import { campaign, type Failure, type Report } from './campaign.ts';
import { KINDS } from './kinds.ts';

const names = KINDS.map(({ name }) => name);
const USAGE = `Usage: npm run faults -- [OPTIONS]

  --rounds N       how many rounds (default: 200)
  --seed TEXT      what they are drawn from; the same seed gives the same rounds (default: 1)
  --only LIST      kinds of faults: ${names.join(', ')} (default: all that this machine can)
  --round N        that one round of the campaign, to repeat it
  --format FORMAT  table or json (default: table)

Exits with 1 when a promise was broken. Run npm run build before.`;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    round: { type: 'string' },
    format: { type: 'string', default: 'table' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
const stopped = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.abort(new Error(signal)));

try {
  if (values.help) console.log(USAGE);
  else await main();
} catch (error) {
  console.error(`faults: ${messageOf(error)}`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  if (!['table', 'json'].includes(values.format)) throw new Error(`--format ${values.format}: must be table or json`);
  const chosen = values.only?.split(',').map((name) => name.trim());
  const unknown = chosen?.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new Error(`there is no kind of fault ${unknown}; there are ${names.join(', ')}`);
  const kinds = KINDS.filter(({ name, needs: required }) => {
    if (chosen?.includes(name) === false) return false;
    const missing = needs(...required);
    if (missing === false) return true;
    if (chosen !== undefined) throw new Error(`${name} ${missing}`);
    console.error(`${name} is left out: it ${missing}`);
    return false;
  });
  const one = values.round === undefined ? undefined : whole('--round', values.round, 0);
  const [from, to] = one === undefined ? [0, whole('--rounds', values.rounds, 1)] : [one, one + 1];
  const repeat = `npm run faults -- --seed ${values.seed} --only ${kinds.map(({ name }) => name).join(',')}`;
  const began = performance.now();
  let broken = 0;
  const onRound = (round: number, failure: Failure | undefined): void => {
    if (failure !== undefined) {
      broken += 1;
      console.error(
        `\nround ${round}, ${failure.kind} ${JSON.stringify(failure.plan)}\n${failure.reason}\n${failure.log}`,
      );
      console.error(`repeat it: ${repeat} --round ${round}`);
    }
    if ((round + 1) % 50 === 0) {
      const seconds = ((performance.now() - began) / 1000).toFixed(0);
      console.error(`${round + 1 - from} of ${to - from} rounds, ${broken} failed, ${seconds} s`);
    }
  };
  const report = await campaign({ seed: values.seed, kinds, from, to, signal: stopped.signal, onRound });
  console.log(values.format === 'json' ? JSON.stringify(report, undefined, 2) : shown(report));
  if (report.failures.length > 0) process.exitCode = 1;
}

function shown({ seed, kinds, failures, peak }: Report): string {
  const rows = Object.entries(kinds).map(([kind, { rounds, faults, twice }]) => [
    kind,
    `${rounds}`,
    `${failures.filter((failure) => failure.kind === kind).length}`,
    `${faults}`,
    `${twice}`,
  ]);
  const totals = Object.values(kinds);
  const sum = (of: 'rounds' | 'faults' | 'twice'): string => `${totals.reduce((all, each) => all + each[of], 0)}`;
  return [
    table([
      ['KIND', 'SURVIVED', 'FAILED', 'FAULTS', 'BYTES TWICE'],
      ...rows,
      ['all', sum('rounds'), `${failures.length}`, sum('faults'), sum('twice')],
    ]),
    '',
    `seed ${seed}; peak memory of a daemon ${(peak / 1e6).toFixed(0)} MB`,
  ].join('\n');
}

function whole(flag: string, text: string, least: number): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < least) {
    throw new Error(`${flag} ${text}: must be a whole number from ${least} up`);
  }
  return number;
}
