import type { Digest } from './digest.ts';

/** Bytes of the spec of a set at most: 1 MiB. */
export const MAX_SPEC_BYTES = 1024 * 1024;

/** When a registry is asked for an image of a set: only while it is missing, or again and again. */
export type PullPolicy = 'IfNotPresent' | 'Always';

/** How the images of a set are kept; of the set as a whole, for those that do not say themselves. */
export interface ImageSetDefaults {
  /** Such as linux/arm64; the host's where it is left out. */
  platform?: string;
  pullPolicy?: PullPolicy;
  /** Of Always: how long after one check the next one is, a duration such as 1h. */
  interval?: string;
  /** Of Always, in place of an interval: when it is checked, as cron has it. */
  schedule?: string;
  /** Of Always: each check is later by up to that much, at random, a duration. */
  jitter?: string;
  /** Name of a file in the daemon's `credentials-dir`. */
  credentials?: string;
}

/** An image of a set. */
export interface ImageSetImage extends ImageSetDefaults {
  reference: string;
}

/** What an image set asks for: the body of `PUT /layerd/sets/{name}`, and what a file of one holds. */
export interface ImageSetSpec extends ImageSetDefaults {
  images: (string | ImageSetImage)[];
}

/** One aspect of how a set is, in Kubernetes' shape. */
export interface ImageSetCondition {
  type: 'Ready' | 'Progressing' | 'Degraded';
  status: 'True' | 'False';
  /** One word for programs. */
  reason: string;
  /** A sentence for people. */
  message: string;
  /** Since when the status is what it is (RFC 3339). */
  lastTransitionTime: string;
}

/** How an image of a set is. */
export interface ImageSetMember {
  /** As users write it, with its tag. */
  reference: string;
  /** Where the set asks for one. */
  platform?: string;
  pullPolicy: PullPolicy;
  /** `outdated`: it is here, and its registry has another one by now. */
  state: 'present' | 'outdated' | 'missing';
  /** Digest of the index or manifest that it is pinned to. */
  digest?: Digest;
  imageId?: Digest;
  /** When its registry was last asked with success. */
  lastChecked?: string;
  /** When its registry is asked again. */
  nextCheck?: string;
  /** Attempts in a row that failed. */
  failures: number;
  error?: { reason: string; message: string };
}

/** An image set, `GET /layerd/sets/{name}`. */
export interface ImageSetReport {
  name: string;
  /** Counts changes of the spec. */
  generation: number;
  /** The generation that the conditions are of. */
  observedGeneration: number;
  /** The file that it comes from; a set without one was made through the API. */
  file?: string;
  createdAt: string;
  updatedAt: string;
  spec: ImageSetSpec;
  conditions: ImageSetCondition[];
  images: ImageSetMember[];
}

/** A line of `GET /layerd/sets?watch=1`: a set as it is now, or that there is none of that name any more. */
export type ImageSetUpdate = ImageSetReport | { name: string; deleted: true };
