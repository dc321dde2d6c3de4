import { LayerdError } from '../../../protocol/errors.ts';
import type { Disk } from '../../metadata/disk.ts';

/**
 * When images are collected, in the terms of Kubernetes's kubelet. From the *high threshold* on they are, until the use of
 * the disk is down to the *low threshold*; none that was used within the *minimum age*. One that was not used for longer
 * than the *maximum age* goes whatever the use is. Without both nothing is collected.
 */
export interface GcPolicy {
  /** Percent of the disk. */
  readonly highThreshold: number | undefined;
  /** Percent of the disk; where it is not said, a little below the high threshold. */
  readonly lowThreshold: number | undefined;
  /** Milliseconds. */
  readonly minimumAge: number;
  /** Milliseconds. */
  readonly maximumAge: number | undefined;
  /** Whether images go too that no registry is known to have, so that nobody could bring them back. */
  readonly localImages: boolean;
}

/** What of a policy counts for one collection; `free`: the bytes of the disk that are to be available, whatever the thresholds say. */
export interface GcTerms extends GcPolicy {
  readonly free: number | undefined;
}

/** What of the terms somebody says. */
export type GcWish = { readonly [Name in keyof GcTerms]?: GcTerms[Name] | undefined };

/** How far the low threshold is below the high one where it is not said: the distance of kubelet's own. */
const DISTANCE = 5;

/** Percent of the disk that is in use, rounded up. */
export function usePercent({ capacity, available }: Disk): number {
  return 100 - Math.floor((Math.min(available, capacity) * 100) / Math.max(capacity, 1));
}

/** Whether the use of the disk is at the high threshold or above it. */
export function isPressed({ highThreshold }: GcPolicy, disk: Disk): boolean {
  return highThreshold !== undefined && usePercent(disk) >= highThreshold;
}

/** The low threshold that counts. */
export function lowThresholdOf({ highThreshold = 100, lowThreshold }: GcPolicy): number {
  return lowThreshold ?? Math.max(0, highThreshold - DISTANCE);
}

/** The bytes that are to be freed; 0 where the disk is as is wanted. */
export function bytesToFree(terms: GcTerms, disk: Disk): number {
  const { capacity, available } = disk;
  if (terms.free !== undefined) return Math.max(0, terms.free - available);
  if (!isPressed(terms, disk)) return 0;
  return Math.max(0, Math.ceil((capacity * (100 - lowThresholdOf(terms))) / 100) - available);
}

/**
 * The terms of a collection that somebody asks for: what they say, and of what they leave out, what is configured. To
 * name a low threshold alone is to ask for a collection down to it.
 * @throws LayerdError of kind invalid where they contradict one another, or say nothing.
 */
export function termsOf(policy: GcPolicy, asked: GcWish): GcTerms {
  const { highThreshold = asked.lowThreshold ?? policy.highThreshold } = asked;
  // One that is above what was asked for was meant for another high threshold.
  const configuredLow = (policy.lowThreshold ?? 0) > (highThreshold ?? 100) ? undefined : policy.lowThreshold;
  const terms = {
    highThreshold,
    lowThreshold: asked.lowThreshold ?? configuredLow,
    minimumAge: asked.minimumAge ?? policy.minimumAge,
    maximumAge: asked.maximumAge ?? policy.maximumAge,
    localImages: asked.localImages ?? policy.localImages,
    free: asked.free,
  };
  if (terms.free !== undefined && (asked.highThreshold ?? asked.lowThreshold) !== undefined) {
    throw new LayerdError(
      'invalid',
      'conflicting options: free and thresholds both say how far to go; give one of them',
    );
  }
  if (highThreshold !== undefined && lowThresholdOf(terms) > highThreshold) {
    throw new LayerdError(
      'invalid',
      `the low threshold ${lowThresholdOf(terms)} is above the high threshold ${highThreshold}: images are collected from the high one on, down to the low one`,
    );
  }
  if (terms.maximumAge !== undefined && terms.maximumAge <= terms.minimumAge) {
    throw new LayerdError(
      'invalid',
      'the maximum age is not above the minimum age: images of an age between them are collected',
    );
  }
  if ((terms.free ?? terms.highThreshold ?? terms.maximumAge) === undefined) {
    throw new LayerdError(
      'invalid',
      'nothing says how far to go: no thresholds are configured (image-gc-high-threshold), so give high and low, free, or maximumAge',
    );
  }
  return terms;
}
