/**
 * One line of the progress stream of a pull, push or load (Engine API, `CreateImageInfo`): newline-delimited JSON.
 * A line with `id` and `progressDetail` replaces the line of the same id on a terminal.
 */
export interface ProgressMessage {
  /** Text to be printed as it is. */
  stream?: string;
  status?: string;
  id?: string;
  progressDetail?: { current?: number; total?: number };
  /** The drawn bar, for clients that do not draw their own. */
  progress?: string;
  error?: string;
  errorDetail?: { code?: number; message: string };
  aux?: unknown;
}
