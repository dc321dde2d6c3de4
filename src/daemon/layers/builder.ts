import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { Digest } from '../../protocol/digest.ts';
import { Changeset } from './changeset.ts';
import { ErofsWriter } from './erofs.ts';
import { ImageFile } from './image-file.ts';
import type { Layer } from './layer.ts';
import { TarReader } from './tar.ts';
import { Tree } from './tree.ts';

/** Builds the EROFS image of a layer from its uncompressed tar, and computes its diff ID. Synchronous. */
export class Builder {
  readonly #hash = createHash('sha256');
  readonly #tree = new Tree();
  readonly #file: ImageFile;
  readonly #reader: TarReader;
  #size = 0;

  constructor(imagePath: string, stage?: Buffer) {
    this.#file = new ImageFile(imagePath, stage);
    this.#reader = new TarReader(new Changeset(this.#tree, this.#file));
  }

  /** Takes the next bytes of the tar; they are only needed during the call. */
  write(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#size += bytes.length;
    this.#reader.write(bytes);
  }

  /** Completes the image. The UUID comes from the diff ID: the same tar gives the same image, byte for byte. */
  finish(): Layer {
    this.#reader.end();
    const hash = this.#hash.digest();
    const uuid = Buffer.from(hash.subarray(0, 16));
    // RFC 9562, version 8: bits of the application's choice.
    uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x80;
    uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80;
    const fileBytes = new ErofsWriter(this.#tree, this.#file).finish(uuid);
    const diffId: Digest = `sha256:${hash.toString('hex')}`;
    return { diffId, size: this.#size, imageSize: this.#file.position, fileBytes };
  }

  /** Removes the unfinished image. */
  discard(): void {
    this.#file.close();
    rmSync(this.#file.path, { force: true });
  }
}
