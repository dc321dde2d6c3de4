import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Database } from '../metadata/database.ts';

/** The repositories, separated by commas, in which an image is known by its digest: what a rebuild of the metadata needs. */
export const REPOSITORIES_ANNOTATION = 'dev.layerd.image.repositories';

/** Changes are gathered for this long before the index is written, in milliseconds: a burst of pulls writes it once. */
const WRITE_DELAY = 1000;

interface LayoutRow {
  readonly media_type: string;
  readonly target: string;
  readonly bytes: number;
  readonly name: string | null;
  readonly repositories: string | null;
}

/**
 * Keeps `oci-layout` and `index.json` under the data root, so that the store is a valid OCI image layout (OCI image
 * layout spec) that other tools can read while the daemon is down. It follows the metadata, which is what counts: after
 * a crash it is written anew from there.
 */
export class LayoutIndex {
  readonly #db: Database;
  readonly #root: string;
  readonly #onError: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: { db: Database; root: string; onError: (error: unknown) => void }) {
    this.#db = options.db;
    this.#root = options.root;
    this.#onError = options.onError;
  }

  /** Says that images or tags have changed. */
  changed(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#writing = this.#writing.then(() => this.#write()).catch(this.#onError);
    }, WRITE_DELAY).unref();
  }

  /** Writes what is still outstanding. */
  async close(): Promise<void> {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#writing = this.#writing.then(() => this.#write()).catch(this.#onError);
    }
    await this.#writing;
  }

  async #write(): Promise<void> {
    const rows = this.#db.all<LayoutRow>(
      `SELECT media_type, image.target, bytes, tag.repository || ':' || tag.tag AS name,
         (SELECT group_concat(repository, ',' ORDER BY repository) FROM repo_digest
          WHERE repo_digest.target = image.target) AS repositories
       FROM image LEFT JOIN tag ON tag.target = image.target ORDER BY image.target, name`,
    );
    const manifests = rows.map(({ media_type: mediaType, target: digest, bytes: size, name, repositories }) => {
      const annotations = {
        ...(name === null ? {} : { 'org.opencontainers.image.ref.name': name }),
        ...(repositories === null ? {} : { [REPOSITORIES_ANNOTATION]: repositories }),
      };
      return { mediaType, digest, size, ...(Object.keys(annotations).length === 0 ? {} : { annotations }) };
    });
    await this.#replace('oci-layout', { imageLayoutVersion: '1.0.0' });
    await this.#replace('index.json', {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests,
    });
  }

  async #replace(name: string, document: unknown): Promise<void> {
    const path = join(this.#root, name);
    await writeFile(`${path}.new`, JSON.stringify(document));
    await rename(`${path}.new`, path);
  }
}
