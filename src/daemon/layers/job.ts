import type { ErrorKind } from '../../protocol/errors.ts';
import type { UnpackedLayer } from './layer.ts';
import type { ReceiveRequest } from './receiver.ts';
import type { SharedRing } from './ring.ts';

/** What the main thread sends a worker: one layer blob to unpack. */
export interface Job {
  readonly request: ReceiveRequest;
  /** The blob's bytes, after those that are in its file already. */
  readonly source: SharedRing;
  /** One 64-bit number, kept at how many bytes of the blob have passed. */
  readonly consumed: SharedArrayBuffer;
}

/** What a worker answers, once per job, when it holds no file of it any more. */
export type JobOutcome =
  | { readonly layer: UnpackedLayer }
  | { readonly failure: { readonly kind: ErrorKind; readonly message: string } }
  /** The ring was closed. */
  | { readonly stopped: true };
