import type { Digest } from '../../protocol/digest.ts';
import type { Finding, VerifyReport } from '../../protocol/engine.ts';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { ContentStore } from '../content/store.ts';
import type { NewEvent } from '../events/event.ts';
import type { LayerStore } from '../layers/store.ts';
import { repoTags } from './name.ts';
import { BAR_INTERVAL, drawBar, type ProgressSink } from './progress.ts';
import type { Repairer, RepairOptions } from './repair.ts';
import type { Flaw, Soundness, Subject } from './soundness.ts';
import type { ImageStore } from './store.ts';

/** What a client asks to be verified. */
export interface VerifyRequest extends RepairOptions {
  /** An image by any of its names; without it, the whole store. */
  readonly image: string | undefined;
  /** Brings back what is missing or damaged, and removes what is orphaned. */
  readonly repair: boolean;
}

/** What verifications are done with. */
export interface VerifierParts {
  readonly store: ImageStore;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly soundness: Pick<Soundness, 'check'>;
  readonly repairer: Repairer;
  readonly events: { append(event: NewEvent): unknown };
  /** Resolves once the store is in order after a start: what is being restored is not missing. */
  readonly settled: () => Promise<unknown>;
}

/** Something to be verified, of which the size is unknown where it is missing. */
type Candidate = Pick<Subject, 'kind' | 'digest'> & { readonly size: number | null };

/**
 * Of those that are to be in an image, those that are stored and those that are not. `?1` is the image ID, or null for all.
 * Manifests come first: they say what a repair of the others needs.
 */
const BLOBS = `
  SELECT digest, size FROM (SELECT digest, size FROM blob WHERE ?1 IS NULL OR digest IN
    (SELECT digest FROM image_blob JOIN image USING (target) WHERE image_id = ?1)
  UNION
  SELECT digest, NULL AS size FROM image_blob JOIN image USING (target)
    WHERE (?1 IS NULL OR image_id = ?1) AND digest NOT IN (SELECT digest FROM blob))
  ORDER BY digest NOT IN (SELECT target FROM image UNION SELECT digest FROM manifest), digest`;
const LAYERS = `
  WITH wanted AS (
    SELECT DISTINCT diff_id FROM manifest_layer JOIN image_manifest USING (manifest) JOIN image USING (target)
      WHERE diff_id IS NOT NULL AND (?1 IS NULL OR image_id = ?1)
  )
  SELECT diff_id AS digest, image_size AS size FROM layer WHERE ?1 IS NULL OR diff_id IN (SELECT diff_id FROM wanted)
  UNION
  SELECT diff_id, NULL FROM wanted WHERE diff_id NOT IN (SELECT diff_id FROM layer)
  ORDER BY digest`;

/** Proves that the store holds what it says, names what it does not, and brings that back where it is told to. */
export class Verifier {
  readonly #parts: VerifierParts;
  #isRunning = false;

  constructor(parts: VerifierParts) {
    this.#parts = parts;
  }

  /**
   * Verifies an image or the whole store, one verification at a time. `progress` is told how far it is, and each finding as
   * it is made. Throws `not-found` for an image that is not there, and `conflict` while another one is running.
   */
  async verify(request: VerifyRequest, progress: ProgressSink): Promise<VerifyReport> {
    const { store, events } = this.#parts;
    const id = request.image === undefined ? undefined : store.resolve(request.image).listedId;
    if (this.#isRunning) {
      throw new LayerdError('conflict', 'a verification is already running: wait until it has ended');
    }
    this.#isRunning = true;
    try {
      await this.#parts.settled();
      const report = await this.#verify(id, request, progress);
      const attributes = {
        ...(id === undefined ? {} : { image: id }),
        blobs: `${report.blobs}`,
        layers: `${report.layers}`,
        findings: `${report.findings.length}`,
        repaired: `${report.findings.filter(({ repaired }) => repaired).length}`,
      };
      events.append({ type: 'daemon', action: 'verify', actor: '', attributes });
      return report;
    } finally {
      this.#isRunning = false;
    }
  }

  async #verify(id: Digest | undefined, request: VerifyRequest, progress: ProgressSink): Promise<VerifyReport> {
    const blobs = this.#candidates('blob', BLOBS, id);
    const layers = this.#candidates('layer', LAYERS, id);
    const total = [...blobs, ...layers].reduce((sum, { size }) => sum + (size ?? 0), 0);
    const bar = new VerifyBar(total, progress);
    const findings: Finding[] = [];
    const found = (finding: Finding): void => {
      findings.push(finding);
      progress({ status: sentenceOf(finding) });
    };
    // Blobs first, since layers are made again out of them.
    for (const candidate of [...blobs, ...layers]) {
      const flaw = await this.#check(candidate, request.signal, bar);
      if (flaw !== undefined) found(await this.#finding(candidate, flaw, request));
    }
    if (id === undefined) this.#orphans(request.repair).forEach(found);
    bar.end();
    return { blobs: blobs.length, layers: layers.length, bytes: bar.read, findings };
  }

  #candidates(kind: Subject['kind'], sql: string, id: Digest | undefined): Candidate[] {
    return this.#parts.store.db
      .all<{ digest: Digest; size: number | null }>(sql, id ?? null)
      .map((row) => ({ ...row, kind }));
  }

  async #check({ kind, digest, size }: Candidate, signal: AbortSignal, bar: VerifyBar): Promise<Flaw | undefined> {
    const { content, layers, soundness } = this.#parts;
    signal.throwIfAborted();
    const stored = kind === 'blob' ? content : layers;
    // What a repair before this one has brought along is there now.
    if (size === null && !stored.has(digest)) return { problem: 'missing', reason: 'it is not stored' };
    return soundness.check({ kind, digest }, { signal, pace: (bytes) => bar.add(bytes) });
  }

  async #finding(candidate: Candidate, { problem, reason }: Flaw, request: VerifyRequest): Promise<Finding> {
    const { kind, digest } = candidate;
    const { store, repairer } = this.#parts;
    const finding = { kind, id: digest, problem, reason, images: this.#imagesWith(candidate), repaired: false };
    store.changed();
    if (!request.repair) return finding;
    try {
      await repairer.repair(candidate, request);
    } catch (error) {
      request.signal.throwIfAborted();
      return { ...finding, error: messageOf(error) };
    }
    store.changed();
    return { ...finding, repaired: true };
  }

  #orphans(remove: boolean): Finding[] {
    const { content, layers } = this.#parts;
    const orphan = (kind: Subject['kind'], id: string): Finding => {
      return { kind, id, problem: 'orphaned', reason: 'nothing knows of its file', images: [], repaired: remove };
    };
    const [blobs, images] = [content.strays(), layers.strays()];
    if (remove) {
      for (const digest of blobs) content.discardStray(digest);
      for (const name of images) layers.discardStray(name);
    }
    return [...blobs.map((digest) => orphan('blob', digest)), ...images.map((name) => orphan('layer', name))];
  }

  #imagesWith({ kind, digest }: Pick<Subject, 'kind' | 'digest'>): string[] {
    const { store } = this.#parts;
    const sql =
      kind === 'blob'
        ? 'SELECT DISTINCT image_id FROM image_blob JOIN image USING (target) WHERE digest = ?'
        : `SELECT DISTINCT image_id FROM manifest_layer JOIN image_manifest USING (manifest) JOIN image USING (target)
           WHERE diff_id = ?`;
    const ids = store.db.all<{ image_id: Digest }>(sql, digest).map((row) => row.image_id);
    return ids
      .flatMap((id) => {
        const tags = repoTags(store.names(id));
        return tags.length === 0 ? [id] : tags;
      })
      .toSorted();
  }
}

/** A finding in words, for who watches. */
export function sentenceOf({ kind, id, problem, reason, images, repaired, error }: Finding): string {
  const concerned = images.length === 0 ? '' : `, of ${images.join(', ')}`;
  const end = repaired
    ? problem === 'orphaned'
      ? '; it has been removed'
      : '; it has been repaired'
    : error === undefined
      ? ''
      : `; it could not be repaired: ${error}`;
  return `${kind} ${id}${concerned}, is ${problem}: ${reason}${end}`;
}

/** The one bar of a verification. */
class VerifyBar {
  readonly #total: number;
  readonly #sink: ProgressSink;
  #last = 0;
  read = 0;

  constructor(total: number, sink: ProgressSink) {
    this.#total = total;
    this.#sink = sink;
  }

  add(bytes: number): void {
    this.read += bytes;
    const now = Date.now();
    if (now - this.#last < BAR_INTERVAL) return;
    this.#last = now;
    this.#show('Verifying');
  }

  end(): void {
    this.#show('Verified');
  }

  #show(status: string): void {
    const detail = { current: Math.min(this.read, this.#total), total: this.#total };
    this.#sink({ status, progressDetail: detail, progress: drawBar(detail.current, detail.total), id: 'store' });
  }
}
