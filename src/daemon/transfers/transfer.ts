import type { Digest } from '../../protocol/digest.ts';
import type { TransferReport } from '../../protocol/engine.ts';

/**
 * The movement of one blob into the store: one per digest for the whole daemon, whoever asks; or out of it, one per
 * digest and repository. Its life:
 *
 * - *waiting*: in the daemon's queue, behind `max-concurrent-downloads`, or `max-concurrent-uploads`, others;
 * - *downloading*: bytes arrive, are hashed and unpacked as they pass;
 * - *retrying*: an attempt failed, for the last error, and the next one is about to begin;
 * - *verifying*, *extracting*: all bytes are here; the rest of the work on them is done;
 * - or *uploading*: bytes leave;
 * - *paused*: somebody told it to rest; it has no place in the queue, and what has arrived stays, until it is resumed;
 * - *done*, *failed*, or *cancelled*: nobody wants it any more, or somebody ended it for all who did.
 *
 * Everyone who wants the blob *joins* the transfer and holds an interest in it, with sources (a repository and
 * credentials) of their own. It goes on while anybody is left. When the source it uses fails, it goes on with the next
 * interest's; it fails only when all of them have. When the last interest is released it stops, and what arrived stays.
 */
export type TransferState = TransferReport['state'];

/** The latest of a transfer; what is shown of it is coalesced from this, never queued. */
export interface TransferStatus {
  readonly digest: Digest;
  readonly state: TransferState;
  /** Bytes received of the blob, those of an earlier attempt included; of an upload, bytes sent. */
  readonly received: number;
  /** Bytes unpacked of the blob. */
  readonly unpacked: number;
  /** Bytes of the blob in all. */
  readonly total: number;
  readonly attempts: number;
  readonly lastError?: string;
  /** The host that the bytes come from, or go to, once that is known. */
  readonly host?: string;
}
