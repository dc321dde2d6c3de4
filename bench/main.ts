// Measures layerd beside its peers; bench/README.md says how.
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { messageOf } from '../src/protocol/errors.ts';
import { CORPUS, type Context } from './context.ts';
import { buildCorpus, warm } from './corpus.ts';
import type { Figure } from './figure.ts';
import { machine } from './machine.ts';
import { Containerd } from './peers/containerd.ts';
import { Dockerd } from './peers/dockerd.ts';
import { Layerd } from './peers/layerd.ts';
import { MissingPeer, type Peer } from './peers/peer.ts';
import { Podman } from './peers/podman.ts';
import { report } from './report.ts';
import { archive } from './scenarios/archive.ts';
import { events } from './scenarios/events.ts';
import { pull } from './scenarios/pull.ts';
import { push } from './scenarios/push.ts';
import { remove } from './scenarios/remove.ts';
import { tags } from './scenarios/tags.ts';
import { thousand } from './scenarios/thousand.ts';
import { together } from './scenarios/together.ts';

const SCENARIOS: Readonly<Record<string, (context: Context) => Promise<Figure[]>>> = {
  pull,
  together,
  push,
  remove,
  archive,
  tags,
  thousand,
  events,
};
const PEERS: Readonly<Record<string, () => Promise<Peer>>> = {
  containerd: () => Containerd.start(),
  dockerd: () => Dockerd.start(),
  podman: () => Podman.start(),
};
/** Scenarios without any of them. */
const ALONE: ReadonlySet<string> = new Set(['push', 'thousand', 'events']);
const USAGE = `Usage: npm run bench -- [OPTIONS]

  --only LIST       scenarios: ${Object.keys(SCENARIOS).join(', ')} (default: all)
  --images LIST     images to pull one by one (default: node:18,gcc:12,python:3.11)
  --peers LIST      peers to measure beside: ${Object.keys(PEERS).join(', ')} (default: all)
  --runs N          runs of each measurement, whose median counts (default: 5)
  --json FILE       write the figures, every run of them, to a file; - for standard output instead of the table
  --build-corpus    build the corpus and push it to the registry first

LAYERD_CORPUS_REGISTRY names the registry that has the corpus, as HOST:PORT.`;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: Object.keys(SCENARIOS).join(',') },
    images: { type: 'string', default: 'node:18,gcc:12,python:3.11' },
    peers: { type: 'string', default: Object.keys(PEERS).join(',') },
    runs: { type: 'string', default: '5' },
    json: { type: 'string' },
    'build-corpus': { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
const stopped = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.abort(new Error(signal)));

try {
  if (values.help) console.log(USAGE);
  else await bench();
} catch (error) {
  console.error(`bench: ${messageOf(error)}`);
  process.exitCode = 1;
}

async function bench(): Promise<void> {
  const scenarios = chosen('scenario', values.only, Object.keys(SCENARIOS));
  const images = chosen('image', values.images, CORPUS);
  const peerNames = values.peers === '' ? [] : chosen('peer', values.peers, Object.keys(PEERS));
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1) throw new Error(`--runs ${values.runs}: must be a whole number from 1 up`);
  const registry = process.env['LAYERD_CORPUS_REGISTRY'];
  if (registry === undefined) throw new Error(`LAYERD_CORPUS_REGISTRY is not set\n\n${USAGE}`);
  if (values['build-corpus']) await buildCorpus(registry);
  const log = (text: string): void => console.error(text);
  log(`reading the corpus once from ${registry}`);
  await warm(registry);

  await using cleanup = new AsyncDisposableStack();
  const layerd = cleanup.use(await Layerd.start());
  const engines: Record<string, string> = { layerd: layerd.version };
  const peers = new Map<string, Peer>();
  // Only scenarios that compare need the others.
  const compared = scenarios.some((name) => !ALONE.has(name)) ? peerNames : [];
  for (const name of compared) {
    try {
      const peer = cleanup.use(await PEERS[name]?.());
      if (peer === undefined) continue;
      peers.set(name, peer);
      engines[name] = peer.version;
    } catch (error) {
      if (!(error instanceof MissingPeer)) throw error;
      engines[name] = `not measured: ${error.message}`;
      log(`${name} is ${engines[name]}`);
    }
  }
  const context: Context = { layerd, peers, registry, runs, images, signal: stopped.signal, log };
  const figures: Figure[] = [];
  for (const name of scenarios) figures.push(...((await SCENARIOS[name]?.(context)) ?? []));

  const about = await machine(engines);
  const json = JSON.stringify({ ...about, figures }, undefined, 2);
  if (values.json !== undefined && values.json !== '-') await writeFile(values.json, `${json}\n`);
  console.log(values.json === '-' ? json : report(about, figures));
}

/** The items of a comma-separated list, each of which must be known. */
function chosen(what: string, list: string, known: readonly string[]): string[] {
  const items = list.split(',').map((item) => item.trim());
  const unknown = items.find((item) => !known.includes(item));
  if (unknown !== undefined) throw new Error(`there is no ${what} ${unknown}; there are ${known.join(', ')}`);
  return items;
}
