import type { Digest } from '../../protocol/digest.ts';
import type { ImageSetCondition, ImageSetSpec, PullPolicy } from '../../protocol/image-set.ts';
import type { Platform } from '../../protocol/oci.ts';
import type { Reference } from '../../protocol/reference.ts';

/**
 * A pinned image set: a list of references that shall be here, and stay. Its life:
 *
 * 1. It is *put* through the API, or *read* from a file. From that moment on it holds what the store has of its images.
 * 2. A reconciler compares what it asks for with what is here, computes the steps in between (`plan.ts`) and takes them:
 *    what is missing is pulled, what a tag has left is followed, what fails is tried again later. How the set is, its
 *    *conditions* tell; each change of them is an event.
 * 3. It is *deleted*, or its file is. That unpins its images and removes none of them.
 */
export interface ImageSet {
  readonly name: string;
  /** As it was given. */
  readonly spec: ImageSetSpec;
  /** The file that it comes from; undefined for one of the API. */
  readonly file: string | undefined;
  /** Why the file of that name cannot be used as it is now; what was asked for before stays in force. */
  readonly problem: string | undefined;
  /** Counts changes of the spec. */
  readonly generation: number;
  readonly observedGeneration: number;
  readonly conditions: readonly ImageSetCondition[];
  /** Unix milliseconds. */
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly members: readonly Member[];
}

/** An image of a set: what is asked for, and what has become of it. */
export interface Member {
  readonly wanted: WantedImage;
  readonly state: MemberState;
}

/** What is asked for of one image, with all defaults filled in. */
export interface WantedImage {
  /** With its tag, or with its digest. */
  readonly reference: Reference;
  /** As users write it; with the platform it tells an image of a set from the others. */
  readonly name: string;
  /** Undefined for what fits the host best. */
  readonly platform: Platform | undefined;
  /** As users write it; empty for the host's. */
  readonly platformName: string;
  readonly policy: PullPolicy;
  /** When a registry is asked again; undefined where nothing is to be followed. */
  readonly cadence: Cadence | undefined;
  readonly credentials: string | undefined;
}

/** When something comes again: milliseconds after the last time, or by a cron pattern; later by up to the jitter. */
export type Cadence = ({ readonly interval: number } | { readonly schedule: string }) & {
  /** Milliseconds; undefined for a tenth of the time until the next one. */
  readonly jitter: number | undefined;
};

/** What has become of an image of a set. Times are Unix milliseconds. */
export interface MemberState {
  /** What the store has under its reference, for its platform. */
  readonly found: Found | undefined;
  /** What it is pinned to. */
  readonly pinned: Found | undefined;
  /** What its registry last said that the reference names. */
  readonly remote: Digest | undefined;
  /** When the registry was last asked with success. */
  readonly checkedAt: number | undefined;
  /** Not to be tried, or checked, before. */
  readonly nextAt: number | undefined;
  /** Attempts in a row that failed. */
  readonly failures: number;
  /** Why the last one did. */
  readonly error: Failure | undefined;
}

/** An image in the store: the index or manifest, and the manifest for the platform. */
export interface Found {
  readonly target: Digest;
  readonly manifest: Digest;
}

/** Why something of a set failed: one word for programs, a sentence for people. */
export interface Failure {
  readonly reason: string;
  readonly message: string;
}

/** Names of sets, and of credentials: DNS labels, which are also safe as names of files. */
const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Whether it can be the name of a set, or of credentials. */
export const isName = (text: string): boolean => NAME.test(text);

/** What a name has to look like, for messages. */
export const NAME_RULE = '1 to 63 small letters, digits and hyphens, neither first nor last a hyphen';
