import { table } from '../scripts/demo/text.ts';
import type { Figure } from './figure.ts';
import type { Machine } from './machine.ts';

/** The figures as a table: each peer's beside how many times as fast layerd was, and what was to be reached. */
export function report(machine: Machine, figures: readonly Figure[]): string {
  const { cpu, cores, memoryGiB, kernel, node, engines } = machine;
  const rows = figures.map((figure) => {
    const { scenario, subject, engine, unit, value, runs } = figure;
    const sorted = [...runs].sort((a, b) => a - b);
    const spread = runs.length > 1 ? `${show(sorted[0] ?? 0, unit)} – ${show(sorted.at(-1) ?? 0, unit)}` : '';
    const ratio = ratioTo(figure, figures);
    const goal = goalOf(figure);
    const met = goal === '' ? '' : isMet(figure, ratio) ? 'yes' : 'NO';
    const times = ratio === undefined ? '' : `${ratio.toFixed(1)}×`;
    return [scenario, subject, engine, `${show(value, unit)} ${unit}`, spread, times, goal, met];
  });
  const head = ['SCENARIO', 'SUBJECT', 'ENGINE', 'FIGURE', 'FROM – TO', 'LAYERD IS', 'GOAL', 'MET'];
  const versions = Object.entries(engines).map(([name, version]) => `  ${name}: ${version}`);
  return [
    `${machine.date}, ${machine.commit}, ${cores} × ${cpu}, ${memoryGiB} GiB, Linux ${kernel}, Node ${node}`,
    ...versions,
    '',
    table([head, ...rows]),
  ].join('\n');
}

/** How many times as fast layerd was at the same thing. */
function ratioTo(figure: Figure, figures: readonly Figure[]): number | undefined {
  if (figure.engine === 'layerd') return undefined;
  const own = figures.find(
    ({ engine, scenario, subject }) =>
      engine === 'layerd' && scenario === figure.scenario && subject === figure.subject,
  );
  return own === undefined ? undefined : figure.value / own.value;
}

/** What was to be reached; empty where nothing was. */
function goalOf({ unit, atMost, atLeast, factor }: Figure): string {
  if (factor !== undefined) return `≥ ${factor}×`;
  if (atLeast !== undefined) return `≥ ${show(atLeast, unit)} ${unit}`;
  return atMost === undefined ? '' : `≤ ${show(atMost, unit)} ${unit}`;
}

function isMet({ value, atMost, atLeast, factor }: Figure, ratio: number | undefined): boolean {
  if (factor !== undefined) return ratio !== undefined && ratio >= factor;
  if (atLeast !== undefined) return value >= atLeast;
  return atMost === undefined || value <= atMost;
}

function show(value: number, unit: Figure['unit']): string {
  const digits = { s: value < 1 ? 3 : 2, ms: value < 10 ? 2 : 0, µs: 1, MB: 0, KiB: 0, blobs: 0, 'frames/s': 0 };
  return value.toFixed(digits[unit]);
}
