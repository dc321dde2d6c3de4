// Shows what layerd does, in under a minute: `npm run demo`, or with images of Docker Hub, `npm run demo -- redis:7`.
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { LayerdClient, type EventMessage } from '../src/client/index.ts';
import { messageOf } from '../src/protocol/errors.ts';
import { startDaemon, type Daemon } from '../test/support/daemon.ts';
import { push, type TestImage } from '../test/support/images.ts';
import { startProxy, type Proxy } from '../test/support/proxy.ts';
import { startRegistry } from '../test/support/registry.ts';
import { Board } from './demo/board.ts';
import { sampleImages } from './demo/samples.ts';
import { indented, megabytes, table } from './demo/text.ts';
import { ensure } from './packages.ts';

/** What a connection to the sample registry gets, in bytes a second, so that there is something to see. */
const LINK_SPEED = 2_500_000;
/** How long Docker Hub may take to answer before the demo goes on without it. */
const HUB_TIMEOUT_MS = 4000;
/** How long the last event may take to arrive. */
const EVENT_TIMEOUT_MS = 2000;

const bold = (text: string): string => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text);
let step = 0;
const chapter = (title: string): void => console.log(`\n${bold(`${++step}. ${title}`)}`);
const say = (text: string): void => console.log(indented(text));

const { positionals } = parseArgs({ allowPositionals: true });
const stopped = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopped.abort(new Error(signal)));

try {
  await demo(positionals, stopped.signal);
} catch (error) {
  if (stopped.signal.aborted) console.log('\nStopped; everything the demo made is removed.');
  else console.error(`\ndemo: ${messageOf(error)}`);
  process.exitCode = stopped.signal.aborted ? 130 : 1;
}

async function demo(asked: readonly string[], signal: AbortSignal): Promise<void> {
  const begun = performance.now();
  await using cleanup = new AsyncDisposableStack();
  const fromHub = asked.length > 0 && (await hubAnswers(asked, signal));

  chapter('A daemon on a scratch data root');
  let source: { proxy: Proxy; samples: { name: string; image: TestImage }[] } | undefined;
  if (!fromHub) {
    ensure('docker-registry');
    const registry = cleanup.use(await startRegistry());
    const proxy = cleanup.use(await startProxy(registry));
    const samples = await sampleImages();
    for (const { name, image } of samples) {
      const [repository = '', tag = ''] = name.split(':');
      await push(registry.host, repository, tag, image);
    }
    signal.throwIfAborted();
    proxy.inject({ path: /\/blobs\//, bytesPerSecond: LINK_SPEED });
    source = { proxy, samples };
    say(`registry   ${proxy.host}: Debian's docker-registry behind a proxy that counts requests`);
    say(`           and gives each connection ${megabytes(LINK_SPEED)}/s, so that there is something to see`);
  }
  const daemon = cleanup.use(await startDaemon());
  cleanup.defer(async () => {
    await daemon.kill('SIGTERM');
  });
  signal.throwIfAborted();
  say(`daemon     layerd, process ${daemon.process.child.pid ?? '?'}, data root ${daemon.dataRoot}`);
  say(`           try it from another terminal: DOCKER_HOST=unix://${daemon.socket} docker images`);
  const client = cleanup.use(new LayerdClient({ host: `unix://${daemon.socket}` }));

  const events: EventMessage[] = [];
  const listening = new AbortController();
  const listener = collect(client, events, listening.signal);
  cleanup.defer(async () => {
    listening.abort();
    await listener;
  });

  const names = source === undefined ? asked : source.samples.map(({ name }) => `${source.proxy.host}/${name}`);
  chapter(
    source === undefined
      ? `Pulling ${names.join(' and ')}`
      : 'Two pulls at once, of images that share two of their three layers',
  );
  for (const name of names) say(`$ layerctl pull ${name} &`);
  const started = performance.now();
  {
    using board = new Board(process.stdout, names);
    await Promise.all(
      names.map(async (name) => {
        for await (const message of client.pull(name, { signal })) board.show(name, message);
      }),
    );
  }
  say(
    `${names.length === 1 ? '' : 'all '}in ${((performance.now() - started) / 1000).toFixed(1)} s: fetched, verified, and ready to mount`,
  );

  if (source !== undefined) {
    chapter('What crossed the network: every blob once, whoever asked for it');
    say(fetched(source.proxy, source.samples));
  }

  await showStore(daemon, client, names, signal);

  chapter('Events, as they arrived');
  // Events are told once what they tell of is committed, which may be a moment after the answer to who caused it.
  const deadline = performance.now() + EVENT_TIMEOUT_MS;
  while (!events.some(({ Action }) => Action === 'delete') && performance.now() < deadline) await sleep(10);
  for (const { Type, Action, Actor, time } of events) {
    const clock = new Date(time * 1000).toISOString().slice(11, 19);
    say(`${clock}  ${Type} ${Action.padEnd(6)}  ${Actor.ID}`);
  }
  const seconds = ((performance.now() - begun) / 1000).toFixed(0);
  console.log(
    `\nThat was ${seconds} s. Everything the demo made is removed now. Run the daemon itself with: npm start`,
  );
}

/** The chapters on what is stored: the list, one image in detail, and a removal. */
async function showStore(
  daemon: Daemon,
  client: LayerdClient,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const last = names.at(-1) ?? '';
  for (const [title, ...args] of [
    ['The images', 'images'],
    ['The layers of one, with their three identities and who shares them', 'inspect', '--layers', last],
  ] as [string, ...string[]][]) {
    signal.throwIfAborted();
    chapter(title);
    say(`$ layerctl ${args.join(' ')}`);
    const { code, stdout, stderr } = await daemon.layerctl(...args);
    if (code !== 0) throw new Error(`layerctl ${args.join(' ')} failed: ${stderr}`);
    say(stdout);
  }
  chapter('Removing one takes away what only it needs');
  say(`$ layerctl rmi ${last}`);
  for (const { Untagged, Deleted } of await client.remove(last, { signal })) {
    say(Untagged === undefined ? `Deleted: ${Deleted ?? ''}` : `Untagged: ${Untagged}`);
  }
}

/** How often each layer was asked for, and how many bytes of it were sent. */
function fetched(proxy: Proxy, samples: readonly { name: string; image: TestImage }[]): string {
  const users = new Map<string, string[]>();
  for (const { name, image } of samples) {
    for (const { digest } of image.layers) users.set(digest, [...(users.get(digest) ?? []), name]);
  }
  const rows = [...users].map(([digest, names]) => {
    const requests = proxy.blobRequests(digest);
    const bytes = requests.reduce((sum, request) => sum + request.bytes, 0);
    return [digest.slice(7, 19), String(requests.length), megabytes(bytes), names.join(', ')];
  });
  return table([['LAYER', 'REQUESTS', 'BYTES SENT', 'NEEDED BY'], ...rows]);
}

/** Keeps what the daemon tells until it is told to stop. */
async function collect(client: LayerdClient, events: EventMessage[], signal: AbortSignal): Promise<void> {
  try {
    for await (const event of client.events({ signal })) events.push(event);
  } catch (error) {
    if (!signal.aborted) events.push(lost(error));
  }
}

/** A stream that ended by itself is shown in its place among the events. */
function lost(error: unknown): EventMessage {
  const Actor = { ID: messageOf(error), Attributes: {} };
  return { Type: 'demo', Action: 'lost the events', Actor, scope: 'local', time: Date.now() / 1000, timeNano: 0n };
}

async function hubAnswers(asked: readonly string[], signal: AbortSignal): Promise<boolean> {
  // A name with a registry in it does not need Docker Hub.
  if (asked.every((name) => /^(localhost|[^/]*[.:][^/]*)\//.test(name))) return true;
  try {
    await fetch('https://registry-1.docker.io/v2/', {
      signal: AbortSignal.any([signal, AbortSignal.timeout(HUB_TIMEOUT_MS)]),
    });
    return true;
  } catch {
    signal.throwIfAborted();
    console.log(`Docker Hub does not answer, so sample images stand in for ${asked.join(', ')}.`);
    return false;
  }
}
