import type { Digest } from '../../protocol/digest.ts';
import { LayerdError } from '../../protocol/errors.ts';
import type { Descriptor, Manifest } from '../../protocol/oci.ts';
import type { Lease } from '../content/leases.ts';
import type { ContentStore } from '../content/store.ts';
import { isIndex, MAX_INDEX_DEPTH, parseManifest } from '../registry/manifest.ts';
import type { PushedManifest } from '../registry/registry.ts';
import type { ManifestBlob } from './deliver.ts';

/** A target with all below it, as far as it is stored. */
export interface Pushable {
  /** Every manifest and index whose content is here, each after what it lists; the target last. */
  readonly documents: readonly PushedManifest[];
  /** Configs and layers of the manifests, each once. */
  readonly blobs: readonly ManifestBlob[];
  /** Manifests that are listed and not here, or not with all their blobs. */
  readonly missing: readonly Descriptor[];
}

/** Walks through what is stored of a target. The lease is given each digest before it is looked for. */
export async function pushable(content: ContentStore, lease: Lease, target: Descriptor): Promise<Pushable> {
  const documents = new Map<Digest, PushedManifest>();
  const blobs = new Map<Digest, ManifestBlob>();
  const missing = new Map<Digest, Descriptor>();

  const visit = async (descriptor: Descriptor, depth: number): Promise<void> => {
    const { digest, mediaType } = descriptor;
    if (documents.has(digest) || missing.has(digest)) return;
    lease.add([digest]);
    if (!content.has(digest)) {
      missing.set(digest, descriptor);
      return;
    }
    const bytes = await content.read(digest);
    const document = parseManifest(bytes, mediaType);
    if (isIndex(document)) {
      // What was pulled is not deeper; an index that holds itself cannot be, its digest would have to be known before.
      if (depth > MAX_INDEX_DEPTH) throw new LayerdError('invalid', `index ${digest} nests too deep to be pushed`);
      for (const child of document.manifests) await visit(child, depth + 1);
    } else {
      const own = manifestBlobs(document);
      lease.add(own.map((blob) => blob.digest));
      if (own.some((blob) => !content.has(blob.digest))) {
        missing.set(digest, descriptor);
        return;
      }
      for (const blob of own) if (!blobs.has(blob.digest)) blobs.set(blob.digest, blob);
    }
    documents.set(digest, { mediaType: document.mediaType, digest, bytes });
  };

  await visit(target, 1);
  return { documents: [...documents.values()], blobs: [...blobs.values()], missing: [...missing.values()] };
}

/** The config and the layers of a manifest. */
export function manifestBlobs({ config, layers }: Manifest): ManifestBlob[] {
  return [{ ...config, kind: 'config' }, ...layers.map((layer) => ({ ...layer, kind: 'layer' as const }))];
}
