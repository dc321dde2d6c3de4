import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { Inflater } from '../../../src/daemon/layers/inflate.ts';
import { loadIsal, type IsalLibrary } from '../../../src/daemon/layers/isal.ts';

/** Decompresses pieces of the given length into an output that has so much room at a time. */
function inflate(blob: Buffer, isal: IsalLibrary | undefined, piece: number, room: number): Buffer {
  const space = Buffer.alloc(room);
  const parts: Buffer[] = [];
  const inflater = new Inflater(
    { reserve: () => space, commit: (length) => parts.push(Buffer.from(space.subarray(0, length))) },
    isal,
  );
  for (let at = 0; at < blob.length; at += piece) inflater.write(blob.subarray(at, at + piece));
  inflater.end();
  return Buffer.concat(parts);
}

const isal = loadIsal();
const LIBRARIES: readonly (readonly [name: string, library: IsalLibrary | undefined, skip: string | false])[] = [
  ['zlib', undefined, false],
  ['ISA-L', isal, isal === undefined ? 'libisal2 or koffi is not installed' : false],
];

for (const [name, library, skip] of LIBRARIES) {
  describe(`an inflater with ${name}`, { skip }, () => {
    const content = fc.oneof(
      fc.uint8Array({ maxLength: 5000 }),
      fc
        .tuple(fc.string({ minLength: 1 }), fc.nat(20_000))
        .map(([text, times]) => Buffer.from(text.repeat(times % 5000))),
    );
    const cut = fc.integer({ min: 1, max: 3000 });

    it('gives back what was compressed, however input and output are cut', () => {
      fc.assert(
        fc.property(
          fc.array(content, { minLength: 1, maxLength: 4 }),
          cut,
          cut,
          fc.boolean(),
          (parts, piece, room, isZstd) => {
            const compress = isZstd ? zstdCompressSync : gzipSync;
            const blob = Buffer.concat(parts.map((part) => compress(part)));
            assert.ok(inflate(blob, library, piece, room).equals(Buffer.concat(parts)));
          },
        ),
        { numRuns: 150 },
      );
    });

    it('refuses gzip that ends early, goes on too long, or has a changed byte in its content', () => {
      fc.assert(
        fc.property(fc.uint8Array({ minLength: 1, maxLength: 2000 }), cut, fc.nat(), (bytes, piece, where) => {
          const blob = gzipSync(bytes);
          const damaged = Buffer.from(blob);
          const at = 10 + (where % (blob.length - 10));
          damaged[at] = (damaged[at] ?? 0) ^ 0x55;
          const wrong = [
            blob.subarray(0, 4 + (where % (blob.length - 4))),
            Buffer.concat([blob, Buffer.from('xyz')]),
            damaged,
          ];
          for (const each of wrong) assert.throws(() => inflate(each, library, piece, 1000), { kind: 'corrupt' });
        }),
        { numRuns: 150 },
      );
    });
  });
}
