/** An engine that is measured: its store is its own and empty at first. */
export interface Peer extends AsyncDisposable {
  readonly name: string;
  /** Version, and the storage driver where there is a choice. */
  readonly version: string;
  /** Removes every image and blob; not timed. */
  empty(): Promise<void>;
  /** Pulls until the image can be run. Resolves with the seconds it took. */
  pull(ref: string): Promise<number>;
  /** Removes an image. Resolves with the seconds until it said it was done. */
  remove(ref: string): Promise<number>;
}

/** A peer that cannot be measured here, and why. */
export class MissingPeer extends Error {}
