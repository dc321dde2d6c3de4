/** An event in the Engine API's form (`EventMessage`), with layerd's sequence number where the client understands it. */
export interface EventMessage {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  scope: 'local' | 'swarm';
  /** Unix seconds. */
  time: number;
  /** Unix nanoseconds; beyond 2^53, so it is written to the wire from a bigint. */
  timeNano: bigint;
}
