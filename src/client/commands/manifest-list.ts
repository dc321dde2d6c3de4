import { isIndexType, MediaType } from '../../protocol/media-types.ts';
import { isKind, LayerdError } from '../../protocol/errors.ts';
import type { Platform } from '../../protocol/oci.ts';
import { canonicalName, parseReference } from '../../protocol/reference.ts';
import { Drafts, fullName, type Draft, type DraftManifest } from '../drafts.ts';
import { isKnownPlatform } from '../platform.ts';
import { Exit, type Context, type Run } from './command.ts';
import { credentialsFor } from './pull.ts';

interface CreateOptions {
  readonly amend?: boolean;
}

/** `layerctl manifest create`. */
export const createList: Run<CreateOptions> = async (context, [name = '', ...names], { amend }) => {
  const drafts = Drafts.in(context.env);
  const list = fullName(name);
  const present = await drafts.get(list);
  if (present !== undefined && amend !== true) {
    throw new LayerdError('conflict', 'refusing to amend an existing manifest list with no --amend flag');
  }
  const manifests = new Map(present?.manifests.map((manifest) => [manifest.ref, manifest]));
  for (const each of names) {
    const ref = fullName(each);
    // One that is there already keeps what it was annotated with.
    if (!manifests.has(ref)) manifests.set(ref, await look(context, ref, list));
  }
  await drafts.save({ list, manifests: [...manifests.values()] });
  await context.out.line(`Created manifest list ${list}`);
  return Exit.ok;
};

/** What a registry says of a manifest that a list shall have. */
async function look(context: Context, ref: string, list: string): Promise<DraftManifest> {
  const [registry, target] = [parseReference(ref).registry, parseReference(list).registry];
  if (registry !== target) {
    throw new LayerdError(
      'invalid',
      `cannot use source images from a different registry than the target image: ${registry} != ${target}; 'layerctl copy' brings ${ref} there`,
    );
  }
  const { client, signal } = context;
  const { Descriptor, Platforms } = await client.distribution(ref, {
    auth: await credentialsFor(context, ref),
    signal,
  });
  const { mediaType, digest, size } = Descriptor;
  if (isIndexType(mediaType)) throw new LayerdError('conflict', `${ref} is a manifest list`);
  const [platform] = Platforms;
  return { ref, mediaType, digest, size, ...(platform === undefined ? {} : { platform }) };
}

interface AnnotateOptions {
  readonly arch?: string;
  readonly os?: string;
  readonly osFeatures?: readonly string[];
  readonly osVersion?: string;
  readonly variant?: string;
}

/** `layerctl manifest annotate`. */
export const annotateManifest: Run<AnnotateOptions> = async ({ env }, [name = '', image = ''], options) => {
  const drafts = Drafts.in(env);
  const list = fullName(name);
  const ref = fullName(image);
  const draft = await drafts.get(list);
  const found = draft?.manifests.find((manifest) => manifest.ref === ref);
  if (draft === undefined || found === undefined) {
    throw new LayerdError('not-found', `manifest for image ${image} does not exist in ${name}`);
  }
  const platform = annotated(found.platform, options);
  if (!isKnownPlatform(platform)) {
    const { os, architecture } = platform;
    throw new LayerdError(
      'invalid',
      `manifest entry for image has unsupported os/arch combination: ${os}/${architecture}`,
    );
  }
  const manifests = draft.manifests.map((manifest) => (manifest.ref === ref ? { ...manifest, platform } : manifest));
  await drafts.save({ ...draft, manifests });
  return Exit.ok;
};

function annotated(platform: Platform | undefined, options: AnnotateOptions): Platform {
  const { arch = '', os = '', osVersion = '', variant = '', osFeatures = [] } = options;
  const given = osFeatures.flatMap((features) => features.split(',')).filter((feature) => feature !== '');
  const features = [...new Set([...(platform?.['os.features'] ?? []), ...given])];
  return {
    ...platform,
    os: os === '' ? (platform?.os ?? '') : os,
    architecture: arch === '' ? (platform?.architecture ?? '') : arch,
    ...(variant === '' ? {} : { variant }),
    ...(osVersion === '' ? {} : { 'os.version': osVersion }),
    ...(features.length === 0 ? {} : { 'os.features': features }),
  };
}

interface PushOptions {
  readonly purge?: boolean;
}

/** `layerctl manifest push`. */
export const pushList: Run<PushOptions> = async (context, [name = ''], { purge }) => {
  const { client, out, env, signal } = context;
  const drafts = Drafts.in(env);
  const draft = await drafts.need(fullName(name));
  const document = documentOf(draft);
  const target = canonicalName(parseReference(draft.list));
  const from = draft.manifests
    .map(({ ref, digest }) => ({ repository: canonicalName(parseReference(ref)), digest }))
    .filter(({ repository }) => repository !== target)
    .map(({ repository, digest }) => `${repository}@${digest}`);
  const auth = await credentialsFor(context, draft.list);
  const { digest, brought } = await client.putManifest(draft.list, document, { from, auth, signal });
  await out.lines(brought.map((child) => `Pushed ref ${target}@${child} with digest: ${child}`));
  await out.line(digest);
  if (purge === true) await drafts.remove(draft.list);
  return Exit.ok;
};

/** `layerctl manifest rm`. */
export const removeLists: Run<object> = async ({ env, err }, names) => {
  const drafts = Drafts.in(env);
  const failures: string[] = [];
  for (const name of names) {
    try {
      await drafts.remove(fullName(name));
    } catch (error) {
      if (!isKind(error, 'not-found')) throw error;
      failures.push(error.message);
    }
  }
  await err.lines(failures.map((message) => `layerctl: ${message}`));
  return failures.length === 0 ? Exit.ok : Exit.failure;
};

/**
 * The index that a draft is to become, to the byte as docker makes it: its order is that of the files in which docker keeps
 * the manifests, and its kind that of the first of them.
 */
export function documentOf({ manifests }: Draft): { readonly mediaType: string; readonly bytes: Buffer } {
  const fileName = ({ ref }: DraftManifest): string => ref.replaceAll(':', '-').replaceAll('/', '_');
  const ordered = manifests.toSorted((one, other) => (fileName(one) < fileName(other) ? -1 : 1));
  const mediaType = ordered[0]?.mediaType === MediaType.ociManifest ? MediaType.ociIndex : MediaType.dockerIndex;
  const index = {
    schemaVersion: 2,
    mediaType,
    manifests: ordered.map((manifest) => ({
      mediaType: manifest.mediaType,
      size: manifest.size,
      digest: manifest.digest,
      platform: platformOf(manifest),
    })),
  };
  return { mediaType, bytes: Buffer.from(JSON.stringify(index, undefined, 3)) };
}

function platformOf({ ref, platform }: DraftManifest): Record<string, unknown> {
  const {
    os = '',
    architecture = '',
    variant = '',
    'os.version': version = '',
    'os.features': features = [],
  } = platform ?? {};
  if (os === '' || architecture === '') {
    throw new LayerdError(
      'conflict',
      `manifest ${ref} must have an OS and Architecture to be pushed to a registry: see 'layerctl manifest annotate'`,
    );
  }
  return {
    architecture,
    os,
    ...(version === '' ? {} : { 'os.version': version }),
    ...(features.length === 0 ? {} : { 'os.features': features }),
    ...(variant === '' ? {} : { variant }),
  };
}
