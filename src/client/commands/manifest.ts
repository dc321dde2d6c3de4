import type { Descriptor, Index, Platform } from '../../protocol/oci.ts';
import { isIndexType, MediaType } from '../../protocol/media-types.ts';
import {
  canonicalName,
  canonicalString,
  parseReference,
  withDefaultTag,
  withDigest,
} from '../../protocol/reference.ts';
import { LayerdError } from '../../protocol/errors.ts';
import { Drafts, fullName, type Draft, type DraftManifest } from '../drafts.ts';
import type { ManifestDocument, RegistryAuth } from '../engine.ts';
import { EngineError } from '../errors.ts';
import { stringify } from '../json.ts';
import { Exit, type Context, type Run } from './command.ts';
import { documentOf } from './manifest-list.ts';
import { credentialsFor } from './pull.ts';

interface Options {
  /** Accepted for scripts written for docker; the daemon decides. */
  readonly insecure?: boolean;
  readonly verbose?: boolean;
}

/** How many manifests of an index are asked for at a time. */
const PARALLEL_REQUESTS = 4;

/** `layerctl manifest inspect`. */
export const inspectManifest: Run<Options> = async (context, [name = '', manifest], options) => {
  const { client, out, env, signal } = context;
  const drafts = Drafts.in(env);
  const list = fullName(name);
  const draft = manifest === undefined ? await drafts.get(list) : await drafts.need(list);
  if (draft !== undefined) {
    await out.line(stringify(await ofDraft(context, draft, manifest, options), '\t'));
    return Exit.ok;
  }
  const auth = await credentialsFor(context, name);
  const document = await client.manifest(name, { auth, signal });
  const body = parseDocument(document);
  const result = options.verbose === true ? await describe(context, name, document, body, auth) : body;
  await out.line(stringify(result, '\t'));
  return Exit.ok;
};

/** Of a list that is not pushed: what it is to become, its manifests with --verbose, or one manifest in it. */
async function ofDraft(
  context: Context,
  draft: Draft,
  manifest: string | undefined,
  { verbose }: Options,
): Promise<unknown> {
  const { client, signal } = context;
  if (manifest === undefined && verbose !== true) return JSON.parse(documentOf(draft).bytes.toString());
  const auth = await credentialsFor(context, draft.list);
  const describeOne = async ({ ref, digest, platform }: DraftManifest): Promise<unknown> => {
    const { registry, path } = parseReference(ref);
    const found = await client.manifest(`${canonicalName({ registry, path })}@${digest}`, { auth, signal });
    const body = parseDocument(found);
    return verbose === true ? entry(ref, found, body, platform) : body;
  };
  if (manifest === undefined) return inBatches(draft.manifests, describeOne);
  const ref = fullName(manifest);
  const found = draft.manifests.find((each) => each.ref === ref);
  if (found === undefined) throw new LayerdError('not-found', `No such manifest: ${ref} in ${draft.list}`);
  return describeOne(found);
}

/** The results of work on each in turn, a few at a time. */
async function inBatches<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<unknown[]> {
  const results: unknown[] = [];
  for (let start = 0; start < items.length; start += PARALLEL_REQUESTS) {
    results.push(...(await Promise.all(items.slice(start, start + PARALLEL_REQUESTS).map(work))));
  }
  return results;
}

/** With --verbose: one entry for a manifest, a list of them for an index. */
async function describe(
  context: Context,
  name: string,
  document: ManifestDocument,
  body: unknown,
  auth: RegistryAuth | undefined,
): Promise<unknown> {
  const { client, signal } = context;
  const reference = withDefaultTag(parseReference(name));
  const full = canonicalString(reference);
  if (!isIndexType(document.mediaType)) {
    // A manifest does not say its platform: its config does, which the registry is asked for.
    const { Platforms } = await client.distribution(name, { auth, signal });
    return entry(full, document, body, Platforms[0]);
  }
  const { manifests } = body as Index;
  return inBatches(manifests, async (descriptor: Descriptor) => {
    const child = withDigest({ ...reference, tag: undefined }, descriptor.digest);
    const found = await client.manifest(canonicalString(child), { auth, signal });
    const ref = `${reference.tag === undefined ? canonicalName(reference) : full}@${descriptor.digest}`;
    return entry(ref, found, parseDocument(found), descriptor.platform);
  });
}

/** A manifest as docker's verbose form has it. */
function entry(
  ref: string,
  { mediaType, digest, bytes }: ManifestDocument,
  body: unknown,
  platform: Platform | undefined,
): unknown {
  const isDocker = mediaType === MediaType.dockerManifest;
  return {
    Ref: ref,
    Descriptor: { mediaType, digest, size: bytes.length, ...(platform === undefined ? {} : { platform }) },
    Raw: bytes.toString('base64'),
    [isDocker ? 'SchemaV2Manifest' : 'OCIManifest']: body,
  };
}

function parseDocument({ digest, bytes }: ManifestDocument): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch (cause) {
    throw new EngineError('corrupt', `the manifest ${digest} is not JSON`, { cause });
  }
}
