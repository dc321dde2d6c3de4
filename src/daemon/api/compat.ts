import type { DistributionInspect, ImageInspect } from '../../protocol/engine.ts';
import type { Event } from '../events/event.ts';
import type { HistoryStep } from '../images/history.ts';
import type { ListedSummary } from '../images/list.ts';
import type { EngineInfo } from './system-info.ts';
import type { ApiVersion } from './versions.ts';

/**
 * The bodies of older versions. The rest of the daemon knows the newest form of a body alone; here is, for each, the list
 * of what versions changed, newest first. A body for an older client goes back through all changes made since.
 */
type Body = Record<string, unknown>;

/** What the version `since` changed, undone for clients from before it. */
interface Change {
  readonly since: ApiVersion;
  undo(body: Body): Body;
}

const goBack = (body: Body, version: ApiVersion, changes: readonly Change[]): Body =>
  changes.filter(({ since }) => version < since).reduce((older, change) => change.undo(older), body);

const without = (body: Body, ...names: string[]): Body =>
  Object.fromEntries(Object.entries(body).filter(([name]) => !names.includes(name)));

/** Without the fields named that are empty. */
const withoutEmpty = (body: Body, names: readonly string[]): Body =>
  Object.fromEntries(Object.entries(body).filter(([name, value]) => !names.includes(name) || !isEmpty(value)));

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === '' ||
  value === false ||
  (typeof value === 'object' && Object.keys(value).length === 0);

/** The body with the defaults that it lacks after its own fields, since people read it from the top. */
const filled = (body: Body, defaults: Body): Body => ({ ...body, ...defaults, ...body });

/** The fields of a body with those of a part of it put under them as defaults. */
const withDefaults = (body: Body, part: string, defaults: Body): Body => ({
  ...body,
  [part]: filled((body[part] ?? {}) as Body, defaults),
});

/** How Go writes a time that is not set, and its Unix seconds. */
const ZERO_TIME = '0001-01-01T00:00:00Z';
const ZERO_SECONDS = -62_135_596_800;

/** `Created`, in Unix seconds, of what does not say when it was made: 0, and before 1.44 Go's time that is not set. */
const createdSeconds = (created: number | undefined, version: ApiVersion): number =>
  created ?? (version < 44 ? ZERO_SECONDS : 0);

/** Before this version a list said of no image how many containers it has. */
const UNCOUNTED: Change = { since: 51, undo: (body) => ({ ...body, Containers: -1 }) };

const SUMMARY: readonly Change[] = [
  { since: 48, undo: (body) => without(body, 'Descriptor') },
  { since: 44, undo: (body) => ({ ...body, VirtualSize: body['Size'] }) },
  {
    since: 43,
    undo: (body) =>
      isEmpty(body['RepoTags']) && isEmpty(body['RepoDigests'])
        ? { ...body, RepoTags: ['<none>:<none>'], RepoDigests: ['<none>@<none>'] }
        : body,
  },
];

/** An image in a list (`ImageSummary`). */
export const imageSummary = (body: ListedSummary, version: ApiVersion): Body =>
  goBack({ ...body, Created: createdSeconds(body.Created, version) }, version, [UNCOUNTED, ...SUMMARY]);

/** The same among what takes space, where containers have always been counted: there are none. */
export const usedImage = (body: ListedSummary, version: ApiVersion): Body =>
  goBack({ ...body, Created: createdSeconds(body.Created, version), Containers: 0 }, version, SUMMARY);

/** Fields of an image's config that were present, empty, in versions that had not begun to leave them out. */
const CONFIG_BEFORE_52: Body = {
  Cmd: null,
  Entrypoint: null,
  Env: null,
  Labels: null,
  OnBuild: null,
  User: '',
  Volumes: null,
  WorkingDir: '',
};
/** Fields of a container's config that were shown for an image, always empty. */
const CONFIG_BEFORE_50: Body = {
  AttachStderr: false,
  AttachStdin: false,
  AttachStdout: false,
  Domainname: '',
  Hostname: '',
  Image: '',
  OpenStdin: false,
  StdinOnce: false,
  Tty: false,
};
const INSPECT_TEXTS: Body = { Parent: '', Comment: '', DockerVersion: '', Author: '' };

const INSPECT: readonly Change[] = [
  { since: 53, undo: (body) => without(body, 'Identity') },
  { since: 52, undo: (body) => withDefaults(filled(body, INSPECT_TEXTS), 'Config', CONFIG_BEFORE_52) },
  { since: 50, undo: (body) => withDefaults(body, 'Config', CONFIG_BEFORE_50) },
  { since: 48, undo: (body) => without(body, 'Descriptor') },
  { since: 44, undo: (body) => ({ ...filled(body, { Created: ZERO_TIME }), VirtualSize: body['Size'] }) },
];

/** An image in full (`ImageInspect`). */
export function imageInspect(body: ImageInspect, version: ApiVersion): Body {
  const { GraphDriver: driver, Container: container = '', ContainerConfig: containerConfig = {}, ...rest } = body;
  const newest: Body = {
    ...withoutEmpty(rest, [...Object.keys(INSPECT_TEXTS), 'Created', 'Variant', 'OsVersion']),
    Config: body.Config ?? {},
  };
  const changes: readonly Change[] = [
    {
      // Since 1.52 an image store without a classic graph driver shows none.
      since: 52,
      undo: (older) =>
        driver === undefined ? older : { ...older, GraphDriver: { ...driver, Data: driver.Data ?? {} } },
    },
    {
      since: 45,
      undo: (older) => ({
        ...older,
        Container: container,
        ContainerConfig: filled(containerConfig, { ...CONFIG_BEFORE_52, ...CONFIG_BEFORE_50 }),
      }),
    },
  ];
  return goBack(newest, version, [...changes, ...INSPECT]);
}

/** One step of an image's history (`HistoryResponseItem`). */
export const historyItem = (body: HistoryStep, version: ApiVersion): Body => ({
  ...body,
  Created: createdSeconds(body.Created, version),
  Tags: body.Tags ?? [],
});

/** What a registry says of a reference: the same in all versions. */
export const distributionInspect = (body: DistributionInspect): Body => ({ ...body });

const INFO: readonly Change[] = [
  { since: 50, undo: (body) => ({ ...body, BridgeNfIptables: false, BridgeNfIp6tables: false }) },
  {
    since: 49,
    undo: (body) =>
      ['ContainerdCommit', 'RuncCommit', 'InitCommit'].reduce(
        (older, part) => withDefaults(older, part, { Expected: (older[part] as { ID: string }).ID }),
        body,
      ),
  },
  {
    since: 47,
    undo: (body) =>
      withDefaults(body, 'RegistryConfig', {
        AllowNondistributableArtifactsCIDRs: null,
        AllowNondistributableArtifactsHostnames: null,
      }),
  },
  {
    since: 42,
    undo: (body) => {
      // Limits of kernel memory are cgroup v1's, as is this.
      const isSupported = body['OomKillDisable'];
      return { ...body, KernelMemory: isSupported, KernelMemoryTCP: isSupported };
    },
  },
  {
    since: 25,
    undo: (body) => ({
      ...body,
      ExecutionDriver: '<not supported>',
      // `name=seccomp,profile=default` was only `seccomp`.
      SecurityOptions: (body['SecurityOptions'] as string[]).map(
        (option) => /^name=([^,]*)/.exec(option)?.[1] ?? option,
      ),
    }),
  },
];

/** The daemon's description (`SystemInfo`). */
export const systemInfo = (body: EngineInfo, version: ApiVersion): Body => goBack({ ...body }, version, INFO);

/** Types of objects whose events carried the fields of before 1.22 until 1.52. */
const FLAT_EVENTS: readonly string[] = ['container', 'image'];

const EVENT: readonly Change[] = [
  {
    since: 52,
    undo: (body) => {
      const { Type, Action, Actor } = body as { Type: string; Action: string; Actor: { ID: string; Attributes: Body } };
      if (!FLAT_EVENTS.includes(Type)) return body;
      const from = Type === 'container' ? { from: Actor.Attributes['image'] } : {};
      return { status: Action, id: Actor.ID, ...from, ...body };
    },
  },
];

/** Types of events that no version of the Engine API has. */
const OWN_TYPES: ReadonlySet<Event['type']> = new Set(['layer', 'blob', 'imageset']);

/** Whether a version knows an event at all. */
export const knowsEvent = (event: Event, version: ApiVersion): boolean =>
  !OWN_TYPES.has(event.type) && (version >= 46 || !(event.type === 'image' && event.action === 'create'));

/** An event (`EventMessage`) as JSON text. Its nanoseconds, too large for a JavaScript number, are written digit by digit. */
export function eventText(event: Event, version: ApiVersion): string {
  const body = goBack(
    {
      Type: event.type,
      Action: event.action,
      Actor: { ID: event.actor, Attributes: event.attributes },
      scope: 'local',
      time: Number(event.time / 1_000_000_000n),
    },
    version,
    EVENT,
  );
  return `${JSON.stringify(body).slice(0, -1)},"timeNano":${event.time}}`;
}
