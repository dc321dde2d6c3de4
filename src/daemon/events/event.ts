/**
 * Something that happened to what the daemon owns, in the words of the Engine API. It is a row in the log before
 * anybody sees it: appended in the transaction of the change it tells of, numbered by a sequence that only grows, and
 * handed to subscribers once that transaction is committed. A subscriber is a cursor on the log, not a buffer.
 */
export interface Event {
  /** Position in the log. */
  readonly seq: number;
  /** Unix nanoseconds. */
  readonly time: bigint;
  readonly type: EventType;
  readonly action: string;
  /** What it happened to: for an image the reference or image ID, as dockerd reports it. */
  readonly actor: string;
  readonly attributes: Readonly<Record<string, string>>;
}

export type EventType = 'image' | 'imageset' | 'layer' | 'blob' | 'daemon' | 'container' | 'volume' | 'network';

/** An event that has not been appended yet. */
export type NewEvent = Pick<Event, 'type' | 'action' | 'actor'> & { attributes?: Record<string, string> };
