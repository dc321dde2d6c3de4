import { isDigest, type Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { ImageConfig } from '../../protocol/oci.ts';

/**
 * Reads an image config (OCI image config spec). Its bytes come from strangers: what later code relies on is checked
 * here; the rest is passed on as it is.
 */
export function parseImageConfig(bytes: Uint8Array, digest: Digest): ImageConfig {
  const refuse = (why: string): never => {
    throw new LayerdError('corrupt', `image config ${digest} is not usable: ${why}`);
  };
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return refuse('it is not JSON');
  }
  if (!isRecord(document)) return refuse('it is not an object');
  // Go writes what is not there as null where it does not leave it out.
  const config = Object.fromEntries(Object.entries(document).filter(([, value]) => value !== null));
  const { rootfs, os, architecture, history, config: defaults, created } = config;
  if (typeof os !== 'string' || typeof architecture !== 'string') return refuse('os and architecture must be strings');
  for (const field of ['variant', 'os.version']) {
    if (config[field] !== undefined && typeof config[field] !== 'string') return refuse(`${field} must be a string`);
  }
  const features = config['os.features'];
  if (features !== undefined && !(Array.isArray(features) && features.every((each) => typeof each === 'string'))) {
    return refuse('os.features must be a list of strings');
  }
  if (!isRecord(rootfs) || rootfs['type'] !== 'layers') return refuse('rootfs.type must be "layers"');
  // A config without layers may leave the list out or null, as Go's encoding does.
  const diffIds = rootfs['diff_ids'] ?? [];
  if (!Array.isArray(diffIds) || !diffIds.every(isDigest)) return refuse('rootfs.diff_ids must be SHA-256 digests');
  if (history !== undefined && !(Array.isArray(history) && history.every(isRecord))) {
    return refuse('history must be a list of objects');
  }
  if (defaults !== undefined && !isRecord(defaults)) return refuse('config must be an object');
  const labels = defaults?.['Labels'];
  if (
    labels !== undefined &&
    labels !== null &&
    !(isRecord(labels) && Object.values(labels).every((v) => typeof v === 'string'))
  ) {
    return refuse('config.Labels must map strings to strings');
  }
  if (created !== undefined && typeof created !== 'string') return refuse('created must be a string');
  return { ...(config as unknown as ImageConfig), rootfs: { type: 'layers', diff_ids: diffIds } };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
