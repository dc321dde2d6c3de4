import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { isDigest, type Digest } from '../protocol/digest.ts';
import { LayerdError, messageOf } from '../protocol/errors.ts';
import type { Platform } from '../protocol/oci.ts';
import { canonicalString, parseReference, withDefaultTag } from '../protocol/reference.ts';

/** A manifest that a list shall have. */
export interface DraftManifest {
  /** What it was named when it was added, in full: `docker.io/library/redis:7`. */
  readonly ref: string;
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly platform?: Platform;
}

/** A list that is made here and not pushed yet. */
export interface Draft {
  /** Its name in full. */
  readonly list: string;
  readonly manifests: readonly DraftManifest[];
}

/** The lists that this user is making: a file for each, in the state directory. */
export class Drafts {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Where they are by the XDG base directory specification, which ignores paths that are not absolute. */
  static in(env: NodeJS.ProcessEnv): Drafts {
    const state = env['XDG_STATE_HOME'] ?? '';
    const home = env['HOME'] ?? '';
    return new Drafts(
      join(isAbsolute(state) ? state : join(home === '' ? homedir() : home, '.local/state'), 'layerctl/manifests'),
    );
  }

  /** The draft of that name; undefined where there is none. Throws `corrupt` for a file that is none. */
  async get(list: string): Promise<Draft | undefined> {
    const path = this.#path(list);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new LayerdError('unavailable', `cannot read ${path}: ${messageOf(cause)}`, { cause });
    }
    const draft = parse(text);
    if (draft?.list !== list) {
      throw new LayerdError(
        'corrupt',
        `${path} is damaged: forget it by 'layerctl manifest rm ${list}' and create it again`,
      );
    }
    return draft;
  }

  /** As {@link get}; throws `not-found` where there is none. */
  async need(list: string): Promise<Draft> {
    const draft = await this.get(list);
    if (draft === undefined) throw noDraft(list);
    return draft;
  }

  /** Writes a draft, in place of the one there was, at once or not at all. */
  async save(draft: Draft): Promise<void> {
    const path = this.#path(draft.list);
    const temporary = `${path}.${randomUUID()}`;
    try {
      await mkdir(this.#directory, { recursive: true });
      await writeFile(temporary, `${JSON.stringify(draft, undefined, 2)}\n`, { flush: true });
      await rename(temporary, path);
    } catch (cause) {
      await rm(temporary, { force: true });
      throw new LayerdError('unavailable', `cannot write ${path}: ${messageOf(cause)}`, { cause });
    }
  }

  /** Removes a draft, a damaged one too. Throws `not-found` where there is none. */
  async remove(list: string): Promise<void> {
    try {
      await rm(this.#path(list));
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') throw noDraft(list);
      throw new LayerdError('unavailable', `cannot remove ${this.#path(list)}: ${messageOf(cause)}`, { cause });
    }
  }

  /** A name may be longer than that of a file, and has slashes. */
  #path(list: string): string {
    return join(this.#directory, `${createHash('sha256').update(list).digest('hex')}.json`);
  }
}

/** The full name of what a user calls a list or manifest. */
export function fullName(name: string): string {
  return canonicalString(withDefaultTag(parseReference(name)));
}

const noDraft = (list: string): LayerdError => new LayerdError('not-found', `No such manifest: ${list}`);

function parse(text: string): Draft | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { list, manifests } = (value ?? {}) as Partial<Draft>;
  const isManifest = ({ ref, mediaType, digest, size }: Partial<DraftManifest>): boolean =>
    typeof ref === 'string' && typeof mediaType === 'string' && isDigest(digest) && typeof size === 'number';
  if (typeof list !== 'string' || !Array.isArray(manifests) || !manifests.every(isManifest)) return undefined;
  return { list, manifests };
}
