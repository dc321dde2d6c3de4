import type { Digest } from '../../protocol/digest.ts';
import type { ImageInspect } from '../../protocol/engine.ts';
import type { ContainerDefaults, Platform } from '../../protocol/oci.ts';
import { imageIdentity } from './identity.ts';
import { imageSize } from './sizes.ts';
import { manifestSummaries } from './manifest-summary.ts';
import { repoDigests, repoTags } from './name.ts';
import { readConfig, type ImageStore } from './store.ts';
import { trimFraction } from '../../protocol/time.ts';

/** How layers are kept, as `docker info` and `docker inspect` name it. */
export const STORAGE_DRIVER = 'erofs';

/** The fields of a config that a container gets; what old builders wrote beside them is of no use to anybody. */
const CONTAINER_DEFAULTS: readonly (keyof ContainerDefaults)[] = [
  'User',
  'ExposedPorts',
  'Env',
  'Entrypoint',
  'Cmd',
  'Volumes',
  'WorkingDir',
  'Labels',
  'StopSignal',
  'ArgsEscaped',
  'OnBuild',
  'Healthcheck',
  'Shell',
];

/** The fields of the config of a container beside those. */
const CONTAINER_CONFIG: readonly string[] = [
  ...CONTAINER_DEFAULTS,
  'Hostname',
  'Domainname',
  'AttachStdin',
  'AttachStdout',
  'AttachStderr',
  'Tty',
  'OpenStdin',
  'StdinOnce',
  'Image',
  'NetworkDisabled',
  'MacAddress',
  'StopTimeout',
];

/** An image in full. With a platform, that platform's manifest of it. */
export async function inspectImage(
  store: ImageStore,
  name: string,
  options: { platform?: Platform | undefined; manifests?: boolean } = {},
): Promise<ImageInspect> {
  const found = store.resolve(name, options.platform);
  const names = store.names(found.listedId);
  const taggedAt = Math.max(...names.map((each) => each.taggedAt ?? 0));
  const diffIds = store.db.all<{ diff_id: Digest }>(
    'SELECT diff_id FROM manifest_layer WHERE manifest = ? AND diff_id IS NOT NULL ORDER BY position',
    found.manifest,
  );
  const config = await readConfig(store, found);
  const layers = config.rootfs?.diff_ids ?? [];
  const identity = imageIdentity(names);
  return {
    Id: found.id,
    Descriptor: { mediaType: found.mediaType, digest: found.target, size: found.bytes },
    ...(options.manifests === true ? { Manifests: await manifestSummaries(store, found) } : {}),
    ...(identity === undefined ? {} : { Identity: identity }),
    RepoTags: repoTags(names),
    RepoDigests: repoDigests(names),
    Comment: config.history?.at(-1)?.comment ?? '',
    ...(typeof config.created === 'string' ? { Created: trimFraction(config.created) } : {}),
    Author: config.author ?? '',
    Config: config.config === undefined || config.config === null ? null : containerDefaults(config.config),
    Architecture: config.architecture ?? '',
    ...(config.variant === undefined ? {} : { Variant: config.variant }),
    Os: config.os ?? '',
    ...(config['os.version'] === undefined ? {} : { OsVersion: config['os.version'] }),
    Size: imageSize(store.db, found.listedId),
    GraphDriver: {
      Name: STORAGE_DRIVER,
      Data: driverData(
        store,
        diffIds.map((row) => row.diff_id),
      ),
    },
    RootFS: { Type: config.rootfs?.type ?? 'layers', ...(layers.length === 0 ? {} : { Layers: layers }) },
    Metadata: taggedAt > 0 ? { LastTagTime: trimFraction(new Date(taggedAt).toISOString()) } : {},
    Parent: store.parent(found.id) ?? '',
    DockerVersion: config.docker_version ?? '',
    ...(typeof config.container === 'string' ? { Container: config.container } : {}),
    ...(isRecord(config.container_config) ? { ContainerConfig: containerConfig(config.container_config) } : {}),
  };
}

/** What of it is known; the rest, which strangers may have written there, is not passed on. */
function containerConfig(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    CONTAINER_CONFIG.filter((key) => Object.hasOwn(config, key)).map((key) => [key, config[key]]),
  );
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Without the fields that say nothing, which the OCI spec leaves out too. */
function containerDefaults(config: ContainerDefaults): ContainerDefaults {
  return Object.fromEntries(
    CONTAINER_DEFAULTS.map((key) => [key, config[key]] as const).filter(([, value]) => !isEmpty(value)),
  );
}

function isEmpty(value: ContainerDefaults[keyof ContainerDefaults]): boolean {
  if (value === undefined || value === null || value === '' || value === false) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** The files of the layers' EROFS images, topmost first, as overlayfs takes its lower directories. */
function driverData(store: ImageStore, diffIds: readonly Digest[]): Record<string, string> | null {
  const paths = diffIds.toReversed().flatMap((diffId) => store.layerPath(diffId) ?? []);
  return paths.length === 0 ? null : { Layers: paths.join(':') };
}
