import { LayerdError } from '../../protocol/errors.ts';
import type { Digest } from '../../protocol/digest.ts';
import type { Descriptor } from '../../protocol/oci.ts';
import { canonicalName, familiarString, type Reference } from '../../protocol/reference.ts';
import type { NewEvent } from '../events/event.ts';
import { blobsOf } from './composition.ts';
import type { StoredManifest } from './image.ts';
import { imageIdOf, type ImageStore } from './store.ts';

/** An image that came from elsewhere than a registry, all of whose blobs and layers are stored. */
export interface ArrivedImage {
  readonly target: Descriptor;
  /** Indexes: the target, where it is one, and those in it. */
  readonly indexes: readonly Digest[];
  readonly manifests: readonly StoredManifest[];
  readonly names: readonly Reference[];
  /** The image ID of an image that comes with it, on top of which it was made. */
  readonly parent?: Digest | undefined;
}

/** What became of it. */
export interface Arrival {
  /** The image ID. */
  readonly id: Digest;
  /** Its names, each with the ID of the other image that had it before. */
  readonly names: readonly { readonly name: string; readonly from: Digest | undefined }[];
}

/**
 * Makes an image visible under its names, with the events of it. Part of the caller's transaction. `action`: what the
 * event calls its coming.
 */
export function putArrived(
  { store, events }: { readonly store: ImageStore; readonly events: { append(event: NewEvent): unknown } },
  { target, indexes, manifests, names }: ArrivedImage,
  action: 'load' | 'import',
): Arrival {
  const first = manifests.find(({ kind }) => kind !== 'attestation') ?? manifests[0];
  if (first === undefined) throw new LayerdError('internal', 'an image without a manifest');
  const written = {
    target,
    manifests,
    blobs: [...indexes, ...manifests.flatMap(blobsOf)],
    byDigest: false,
    imageId: imageIdOf(first),
    manifest: first.digest,
  };
  store.put({ ...written, repository: '' });
  const id = store.resolve(target.digest).listedId;
  const event = (name: string, happened: string): void => {
    events.append({ type: 'image', action: happened, actor: id, attributes: { ...first.labels, name } });
  };
  const arrived = names.map((reference) => {
    const name = familiarString(reference);
    const { previous, changed } = store.put({
      ...written,
      repository: canonicalName(reference),
      tag: reference.tag,
    });
    const had = previous === undefined ? id : store.resolve(previous).listedId;
    const from = had === id ? undefined : had;
    if (from !== undefined) events.append({ type: 'image', action: 'untag', actor: from, attributes: { name: from } });
    if (changed) event(name, 'tag');
    return { name, from };
  });
  event(arrived[0]?.name ?? id, action);
  return { id, names: arrived };
}
