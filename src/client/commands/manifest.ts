import type { Descriptor, Index, Platform } from '../../protocol/oci.ts';
import { isIndexType, MediaType } from '../../protocol/media-types.ts';
import {
  canonicalName,
  canonicalString,
  parseReference,
  withDefaultTag,
  withDigest,
} from '../../protocol/reference.ts';
import type { ManifestDocument, RegistryAuth } from '../engine.ts';
import { EngineError } from '../errors.ts';
import { stringify } from '../json.ts';
import { Exit, type Context, type Run } from './command.ts';
import { credentialsFor } from './pull.ts';

interface Options {
  /** Accepted for scripts written for docker; the daemon decides. */
  readonly insecure?: boolean;
  readonly verbose?: boolean;
}

/** How many manifests of an index are asked for at a time. */
const PARALLEL_REQUESTS = 4;

/** `layerctl manifest inspect`. */
export const inspectManifest: Run<Options> = async (context, [name = ''], options) => {
  const { client, out, signal } = context;
  const auth = await credentialsFor(context, name);
  const document = await client.manifest(name, { auth, signal });
  const body = parseDocument(document);
  const result = options.verbose === true ? await describe(context, name, document, body, auth) : body;
  await out.line(stringify(result, '\t'));
  return Exit.ok;
};

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
  const entries: unknown[] = [];
  for (let start = 0; start < manifests.length; start += PARALLEL_REQUESTS) {
    const batch = manifests.slice(start, start + PARALLEL_REQUESTS).map(async (descriptor: Descriptor) => {
      const child = withDigest({ ...reference, tag: undefined }, descriptor.digest);
      const found = await client.manifest(canonicalString(child), { auth, signal });
      const ref = `${reference.tag === undefined ? canonicalName(reference) : full}@${descriptor.digest}`;
      return entry(ref, found, parseDocument(found), descriptor.platform);
    });
    entries.push(...(await Promise.all(batch)));
  }
  return entries;
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
