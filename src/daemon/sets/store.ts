import type { Digest } from '../../protocol/digest.ts';
import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import type { ImageSetCondition, ImageSetSpec } from '../../protocol/image-set.ts';
import type { Platform } from '../../protocol/oci.ts';
import { canonicalName, withDefaultTag, type Reference } from '../../protocol/reference.ts';
import type { NewEvent } from '../events/event.ts';
import type { ImagePins } from '../images/pins.ts';
import type { ImageStore } from '../images/store.ts';
import type { Database } from '../metadata/database.ts';
import { conditionsOf, holds, transitions } from './conditions.ts';
import { storedManifest } from './presence.ts';
import type { Failure, Found, ImageSet, Member, MemberState, WantedImage } from './set.ts';
import { parseSpec, type ParsedSpec } from './spec.ts';

/** What a set is put from: a file, or else the API. */
export interface Origin {
  readonly file?: string | undefined;
}

/** What came of putting a set. */
export type PutOutcome = 'created' | 'replaced' | 'unchanged';

/** What an attempt at an image of a set came to. Times are Unix milliseconds. */
export type Outcome =
  | { readonly checked: Digest; readonly nextAt: number | undefined }
  | { readonly failed: Failure; readonly nextAt: number };

interface SetRow {
  readonly name: string;
  readonly spec: string;
  readonly file: string | null;
  readonly problem: string | null;
  readonly generation: number;
  readonly observed_generation: number;
  readonly conditions: string;
  readonly created_at: number;
  readonly updated_at: number;
}

interface MemberRow {
  readonly reference: string;
  readonly platform: string;
  readonly target: Digest | null;
  readonly manifest: Digest | null;
  readonly remote: Digest | null;
  readonly checked_at: number | null;
  readonly next_at: number | null;
  readonly failures: number;
  readonly error: string | null;
  /** What the reference names in the store. */
  readonly here: Digest | null;
  /** Whether that has the manifest that the image is pinned to. */
  readonly intact: 0 | 1;
}

/** Of a file that never was right. */
const NOTHING: ImageSetSpec = { images: [] };

/** The sets and their images, on the metadata. Every change of one is a transaction, with the events that tell of it. */
export class SetStore implements ImagePins {
  readonly #db: Database;
  readonly #images: ImageStore;
  readonly #events: { append(event: NewEvent): unknown };
  readonly #host: Platform;
  readonly #now: () => number;
  readonly #parsed = new Map<string, { readonly json: string; readonly images: readonly WantedImage[] }>();
  readonly #watchers = new Set<(name: string) => void>();

  constructor(parts: {
    images: ImageStore;
    events: { append(event: NewEvent): unknown };
    host: Platform;
    /** Unix milliseconds. */
    now?: () => number;
  }) {
    this.#db = parts.images.db;
    this.#images = parts.images;
    this.#events = parts.events;
    this.#host = parts.host;
    this.#now = parts.now ?? Date.now;
  }

  /** In the order of their names. */
  names(): string[] {
    return this.#db.all<{ name: string }>('SELECT name FROM image_set ORDER BY name').map(({ name }) => name);
  }

  get(name: string): ImageSet | undefined {
    const row = this.#db.get<SetRow>('SELECT * FROM image_set WHERE name = ?', name);
    if (row === undefined) return undefined;
    const { images, problem } = this.#imagesOf(row);
    return {
      name,
      spec: JSON.parse(row.spec) as ImageSetSpec,
      file: row.file ?? undefined,
      problem: problem ?? row.problem ?? undefined,
      generation: row.generation,
      observedGeneration: row.observed_generation,
      conditions: JSON.parse(row.conditions) as ImageSetCondition[],
      createdAt: row.created_at,
      updatedAt: row.updated_at,
      members: this.#members(name, images),
    };
  }

  /**
   * Creates a set or replaces one. It holds what is here of its images from now on, and what it held of others no longer.
   * @throws LayerdError of kind conflict where a set of that name comes from elsewhere.
   */
  put(name: string, { spec, images }: ParsedSpec, { file }: Origin = {}): PutOutcome {
    return this.#db.transaction(() => {
      const before = this.#db.get<SetRow>('SELECT * FROM image_set WHERE name = ?', name);
      if (before !== undefined) refuseOther(before, file);
      const json = JSON.stringify(spec);
      const isSame = before?.spec === json && before.file === (file ?? null);
      // What is wrong with a file is for that file to end.
      if (isSame && (before.problem === null || file === undefined)) return 'unchanged';
      const isNew = before?.spec !== json;
      const now = this.#now();
      this.#db.run(
        `INSERT INTO image_set (name, spec, file, problem, generation, observed_generation, conditions, created_at, updated_at)
         VALUES (?1, ?2, ?3, NULL, 1, 0, '[]', ?4, ?4)
         ON CONFLICT (name) DO UPDATE SET spec = ?2, file = ?3, updated_at = ?4,
           problem = CASE WHEN ?3 IS NULL THEN problem END, generation = generation + ?5`,
        name,
        json,
        file ?? null,
        now,
        isNew ? 1 : 0,
      );
      if (isNew) this.#replaceMembers(name, images);
      this.#tell(name, before === undefined ? 'create' : 'update', file === undefined ? {} : { file });
      return before === undefined ? 'created' : 'replaced';
    });
  }

  /** Notes that the file of a set cannot be used, and why. What an earlier one asked for stays in force. */
  refuse(name: string, problem: string, file: string): void {
    this.#db.transaction(() => {
      const before = this.#db.get<SetRow>('SELECT * FROM image_set WHERE name = ?', name);
      if (before?.problem === problem) return;
      if (before === undefined) this.put(name, { spec: NOTHING, images: [] }, { file });
      this.#db.run('UPDATE image_set SET problem = ? WHERE name = ?', problem, name);
      this.settle(name);
    });
  }

  /** Notes that there is no file any more that could not be used. */
  accept(name: string): void {
    this.#db.transaction(() => {
      this.#db.run('UPDATE image_set SET problem = NULL WHERE name = ?', name);
      this.settle(name);
    });
  }

  /**
   * Deletes a set; its images stay, for whoever else holds them or removes them. Returns whether there was one.
   * @throws LayerdError of kind conflict where it comes from elsewhere.
   */
  delete(name: string, { file }: Origin = {}): boolean {
    return this.#db.transaction(() => {
      const before = this.#db.get<SetRow>('SELECT * FROM image_set WHERE name = ?', name);
      if (before === undefined) return false;
      refuseOther(before, file);
      this.#db.run('DELETE FROM image_set WHERE name = ?', name);
      this.#tell(name, 'delete');
      this.#parsed.delete(name);
      return true;
    });
  }

  /** Holds what the store has of an image of a set from now on. */
  pin(name: string, { wanted, state: { found } }: Member): void {
    if (found === undefined) return;
    this.#update(name, wanted, 'target = ?, manifest = ?', found.target, found.manifest);
    this.#changed(name);
  }

  /** Notes what came of an attempt at an image of a set that still wants it, and how the set is since then. */
  note(name: string, wanted: WantedImage, outcome: Outcome): void {
    this.#db.transaction(() => {
      if ('failed' in outcome) {
        const { failed, nextAt } = outcome;
        this.#update(name, wanted, 'failures = failures + 1, error = ?, next_at = ?', JSON.stringify(failed), nextAt);
      } else {
        const { checked, nextAt } = outcome;
        this.#update(
          name,
          wanted,
          'failures = 0, error = NULL, remote = ?, checked_at = ?, next_at = ?',
          checked,
          this.#now(),
          nextAt ?? null,
        );
      }
      this.#changed(name);
      this.settle(name);
    });
  }

  /**
   * Pins an image of a set to what its pull has brought, though no platform of it be the host's: that is what there is.
   * Returns whether it is here.
   * @param nextAt When its registry is asked again.
   */
  arrived(name: string, wanted: WantedImage, nextAt: number | undefined): boolean {
    return this.#db.transaction(() => {
      const here = this.#named(wanted.reference);
      if (here === undefined) return false;
      const { platform } = wanted;
      const manifest =
        storedManifest(this.#images, here.target, { platform, host: this.#host }) ??
        (platform === undefined ? here.manifest : undefined);
      if (manifest === undefined) return false;
      this.#update(name, wanted, 'target = ?, manifest = ?', here.target, manifest);
      this.note(name, wanted, { checked: here.target, nextAt });
      return true;
    });
  }

  /** Brings the conditions of a set up to date. */
  settle(name: string): void {
    this.#db.transaction(() => {
      const set = this.get(name);
      if (set === undefined) return;
      const conditions = conditionsOf(set, set.conditions, new Date(this.#now()).toISOString());
      const isSame = JSON.stringify(conditions) === JSON.stringify(set.conditions);
      if (isSame && set.observedGeneration === set.generation) return;
      this.#db.run(
        'UPDATE image_set SET conditions = ?, observed_generation = generation WHERE name = ?',
        JSON.stringify(conditions),
        name,
      );
      this.#changed(name);
      for (const { type, reason, message } of transitions(set.conditions, conditions)) {
        this.#tell(name, type.toLowerCase(), { reason, message });
      }
    });
  }

  /** How many sets there are, and of how many each condition is true. */
  counts(): ReadonlyMap<'all' | ImageSetCondition['type'], number> {
    const sets = this.#db
      .all<{ conditions: string }>('SELECT conditions FROM image_set')
      .map(({ conditions }) => JSON.parse(conditions) as ImageSetCondition[]);
    const types = ['Ready', 'Progressing', 'Degraded'] as const;
    return new Map<'all' | ImageSetCondition['type'], number>([
      ['all', sets.length],
      ...types.map((type) => [type, sets.filter((conditions) => holds(conditions, type)).length] as const),
    ]);
  }

  /** Is told the name of each set that was changed, until the result is called. */
  watch(changed: (name: string) => void): () => void {
    this.#watchers.add(changed);
    return () => void this.#watchers.delete(changed);
  }

  holders(listedId: Digest): string[] {
    return this.#holders(
      `SELECT set_name FROM image JOIN image_set_member m ON m.target = image.target WHERE image_id = ?1
       UNION SELECT set_name FROM image JOIN tag USING (target)
         JOIN image_set_member m ON m.repository = tag.repository AND m.tag = tag.tag WHERE image_id = ?1
       UNION SELECT set_name FROM image JOIN repo_digest d USING (target)
         JOIN image_set_member m ON m.repository = d.repository AND m.digest = d.target WHERE image_id = ?1
       ORDER BY set_name`,
      listedId,
    );
  }

  holdersOfName(reference: Reference): string[] {
    const { tag, digest } = withDefaultTag(reference);
    return this.#holders(
      'SELECT DISTINCT set_name FROM image_set_member WHERE repository = ? AND tag IS ? AND digest IS ? ORDER BY set_name',
      canonicalName(reference),
      digest === undefined ? (tag ?? null) : null,
      digest ?? null,
    );
  }

  holdersOfManifest(manifest: Digest): string[] {
    return this.#holders(
      'SELECT DISTINCT set_name FROM image_set_member WHERE manifest = ? ORDER BY set_name',
      manifest,
    );
  }

  /** The image ID that a pinned image is listed under; undefined where it is gone. */
  imageId({ target }: Found): Digest | undefined {
    return this.#db.get<{ id: Digest }>('SELECT image_id AS id FROM image WHERE target = ?', target)?.id;
  }

  #holders(sql: string, ...values: (string | null)[]): string[] {
    return this.#db.all<{ set_name: string }>(sql, ...values).map(({ set_name: name }) => `image set ${name}`);
  }

  /** What a set asks for; an earlier layerd may have taken a spec that this one does not. */
  #imagesOf({ name, spec: json }: SetRow): { images: readonly WantedImage[]; problem?: string } {
    const known = this.#parsed.get(name);
    if (known?.json === json) return known;
    try {
      const { images } = parseSpec(JSON.parse(json), this.#host);
      this.#parsed.set(name, { json, images });
      return { images };
    } catch (error) {
      if (!isKind(error, 'invalid')) throw error;
      return { images: [], problem: `the set cannot be read any more: ${messageOf(error)}; put it again` };
    }
  }

  /** The images of a set in its order, with what the store has of them. */
  #members(name: string, images: readonly WantedImage[]): Member[] {
    const rows = this.#db.all<MemberRow>(
      `SELECT m.reference, m.platform, m.target, m.manifest, m.remote, m.checked_at, m.next_at, m.failures, m.error,
         coalesce(tag.target, d.target) AS here, im.manifest IS NOT NULL AS intact
       FROM image_set_member m
       LEFT JOIN tag ON tag.repository = m.repository AND tag.tag = m.tag
       LEFT JOIN repo_digest d ON d.repository = m.repository AND d.target = m.digest
       LEFT JOIN image_manifest im ON im.target = coalesce(tag.target, d.target) AND im.manifest = m.manifest
       WHERE m.set_name = ?`,
      name,
    );
    const byKey = new Map(rows.map((row) => [`${row.reference} ${row.platform}`, row]));
    return images.flatMap((wanted) => {
      const row = byKey.get(`${wanted.name} ${wanted.platformName}`);
      return row === undefined ? [] : [{ wanted, state: this.#stateOf(row, wanted) }];
    });
  }

  #stateOf(row: MemberRow, { platform }: WantedImage): MemberState {
    const { target, manifest, here } = row;
    const pinned = target === null || manifest === null ? undefined : { target, manifest };
    const isAsPinned = here !== null && here === target && row.intact === 1;
    const stored =
      here === null || isAsPinned ? undefined : storedManifest(this.#images, here, { platform, host: this.#host });
    return {
      found: isAsPinned
        ? pinned
        : here === null || stored === undefined
          ? undefined
          : { target: here, manifest: stored },
      pinned,
      remote: row.remote ?? undefined,
      checkedAt: row.checked_at ?? undefined,
      nextAt: row.next_at ?? undefined,
      failures: row.failures,
      error: row.error === null ? undefined : (JSON.parse(row.error) as Failure),
    };
  }

  #named(reference: Reference): Found | undefined {
    const { tag, digest } = reference;
    return this.#db.get<Found>(
      `SELECT target, manifest FROM image WHERE target IN (
         SELECT target FROM tag WHERE repository = ?1 AND tag = ?2
         UNION ALL SELECT target FROM repo_digest WHERE repository = ?1 AND target = ?3)`,
      canonicalName(reference),
      tag ?? null,
      digest ?? null,
    );
  }

  /** Those that stay are tried again at once, as whoever changes a set expects. */
  #replaceMembers(name: string, images: readonly WantedImage[]): void {
    const wanted = new Set(images.map((image) => `${image.name} ${image.platformName}`));
    const rows = this.#db.all<{ reference: string; platform: string }>(
      'SELECT reference, platform FROM image_set_member WHERE set_name = ?',
      name,
    );
    for (const { reference, platform } of rows) {
      if (wanted.has(`${reference} ${platform}`)) continue;
      this.#db.run(
        'DELETE FROM image_set_member WHERE set_name = ? AND reference = ? AND platform = ?',
        name,
        reference,
        platform,
      );
    }
    for (const image of images) {
      const { tag, digest } = image.reference;
      this.#db.run(
        `INSERT INTO image_set_member (set_name, reference, platform, repository, tag, digest) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET next_at = NULL, failures = 0, error = NULL`,
        name,
        image.name,
        image.platformName,
        canonicalName(image.reference),
        tag ?? null,
        digest ?? null,
      );
    }
    for (const member of this.#members(name, images)) this.pin(name, member);
  }

  #update(name: string, wanted: WantedImage, columns: string, ...values: (string | number | null)[]): void {
    this.#db.run(
      `UPDATE image_set_member SET ${columns} WHERE set_name = ? AND reference = ? AND platform = ?`,
      ...values,
      name,
      wanted.name,
      wanted.platformName,
    );
  }

  #tell(name: string, action: string, attributes: Readonly<Record<string, string>> = {}): void {
    this.#events.append({ type: 'imageset', action, actor: name, attributes: { ...attributes, name } });
    this.#changed(name);
  }

  #changed(name: string): void {
    this.#db.afterCommit(() => {
      for (const changed of this.#watchers) changed(name);
    });
  }
}

/** Refuses to change from one side what is the other's: whichever was written last would win, and be undone again. */
function refuseOther({ name, file: owner }: SetRow, file: string | undefined): void {
  if (owner === null && file !== undefined) {
    throw new LayerdError(
      'conflict',
      `there is an image set ${name} that was made through the API: delete it, or call the file otherwise`,
    );
  }
  if (owner !== null && file === undefined) {
    throw new LayerdError('conflict', `the image set ${name} comes from the file ${owner}: change or remove that`);
  }
}
