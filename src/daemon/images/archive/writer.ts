import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { Writable } from 'node:stream';
import { pack, type Pack } from 'tar-stream';
import { BLOBS } from './archive.ts';

/** Bytes of a blob that are read at a time. */
const READ_BYTES = 256 * 1024;

/** Everything was made at one moment, by nobody: the same images give the same archive. */
const FIXED = { mtime: new Date(0), uid: 0, gid: 0 } as const;
const FILE_MODE = 0o644;
const FOLDER_MODE = 0o755;

/** A file to be written: a document that is at hand, or a blob's file. */
export type Written = { readonly path: string } & (
  { readonly bytes: Buffer } | { readonly file: string; readonly size: number }
);

/** The tar of the files, in their order. Holds one piece of one file at a time, and reads on as it is read. */
export async function* writeArchive(files: readonly Written[]): AsyncGenerator<Uint8Array> {
  const archive = pack();
  let failure: Error | undefined;
  const filling = fill(archive, files).catch((error: unknown) => {
    failure = error instanceof Error ? error : new Error(String(error));
    archive.destroy();
  });
  try {
    yield* archive as AsyncIterable<Uint8Array>;
    await filling;
    if (failure !== undefined) throw failure;
  } finally {
    archive.destroy();
    await filling;
  }
}

async function fill(archive: Pack, files: readonly Written[]): Promise<void> {
  for (const name of [BLOBS, `${BLOBS}sha256/`]) {
    archive.entry({ ...FIXED, name, type: 'directory', mode: FOLDER_MODE });
  }
  for (const file of files) {
    const header = { ...FIXED, name: file.path, mode: FILE_MODE };
    if ('bytes' in file) archive.entry({ ...header, size: file.bytes.byteLength }, file.bytes);
    else {
      const entry = archive.entry({ ...header, size: file.size });
      await pipeline(createReadStream(file.file, { highWaterMark: READ_BYTES }), entry as unknown as Writable);
    }
  }
  archive.finalize();
}
