import type { Digest } from '../../protocol/digest.ts';
import type { ErrorKind } from '../../protocol/errors.ts';
import type { Layer } from './layer.ts';
import type { ReceiveRequest } from './receiver.ts';
import type { SharedRing } from './ring.ts';

/** What the main thread sends a worker. */
export type Job = ReceiveJob | BuildJob;

/** Receive a layer blob, decompress it, and build its EROFS image, or leave that to another worker. */
export interface ReceiveJob {
  readonly task: 'receive';
  readonly request: ReceiveRequest;
  /** The blob's bytes, after those that are in its file already. */
  readonly source: SharedRing;
  /** One 64-bit number, kept at how many bytes of the blob have passed. */
  readonly consumed: SharedArrayBuffer;
  /** Where the uncompressed tar goes for another worker to build from. */
  readonly tar: SharedRing | undefined;
}

/** Build the EROFS image of a tar that another worker decompresses. */
export interface BuildJob {
  readonly task: 'build';
  readonly imagePath: string;
  readonly tar: SharedRing;
}

/** What a worker answers, once per job, when it holds no file of it any more. */
export type JobOutcome =
  | {
      /** The blob's, where it was received. */
      readonly digest?: Digest;
      /** What was built. */
      readonly layer?: Layer;
    }
  | { readonly failure: { readonly kind: ErrorKind; readonly message: string } }
  /** A ring was closed. */
  | { readonly stopped: true };
