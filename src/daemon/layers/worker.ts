import { readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { basename } from 'node:path';
import { parentPort } from 'node:worker_threads';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { Builder } from './builder.ts';
import { STAGE_BYTES } from './image-file.ts';
import { Inflater, type Output } from './inflate.ts';
import { loadIsal } from './isal.ts';
import type { Job, JobOutcome } from './job.ts';
import type { UnpackedLayer } from './layer.ts';
import { Receiver } from './receiver.ts';
import { Ring, RingClosed } from './ring.ts';
import { Writeback } from './writeback.ts';

/*
 * A thread that unpacks one layer blob after another. It works synchronously and sleeps while a ring is empty, so that
 * nothing passes through an event loop; its buffers are allocated once.
 */

/** How much further back this thread stands than the main thread when the processors are busy, as in nice(1). */
const NICENESS = 5;

/** Bytes that are decompressed at a time: small enough to be still in the processor's cache when they are hashed. */
const TAR_BYTES = 256 * 1024;

const port = parentPort;
if (port === null) throw new Error('layers/worker is started as a worker thread');

yieldToMainThread();
const isal = loadIsal();
const writeback = new Writeback();
const tar = Buffer.allocUnsafeSlow(TAR_BYTES);
const stage = Buffer.allocUnsafeSlow(STAGE_BYTES);

port.on('message', (job: Job) => port.postMessage(outcomeOf(job)));

function outcomeOf(job: Job): JobOutcome {
  try {
    return { layer: unpack(job) };
  } catch (error) {
    if (error instanceof RingClosed) return { stopped: true };
    return error instanceof LayerdError
      ? { failure: { kind: error.kind, message: error.message } }
      : { failure: { kind: 'internal', message: `unpacking ${job.request.expected.digest}: ${messageOf(error)}` } };
  }
}

function unpack({ request, source, consumed }: Job): UnpackedLayer {
  const builder = new Builder(request.imagePath, stage);
  try {
    const output: Output = { reserve: () => tar, commit: (length) => builder.write(tar.subarray(0, length)) };
    const inflater = new Inflater(output, isal);
    const receiver = new Receiver(request, new Ring(source), inflater, new BigUint64Array(consumed), writeback);
    const digest = receiver.run();
    return { ...builder.finish(), digest, blobSize: request.expected.size };
  } catch (error) {
    builder.discard();
    throw error;
  }
}

/** Requests are answered while layers keep every processor busy, since the kernel prefers the main thread to this one. */
function yieldToMainThread(): void {
  try {
    // Linux takes the ID of a thread where others have a process.
    setPriority(Number(basename(readlinkSync('/proc/thread-self'))), NICENESS);
  } catch {
    // Where a sandbox forbids it, layers are unpacked all the same.
  }
}
