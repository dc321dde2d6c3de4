import { parentPort } from 'node:worker_threads';
import { isKind, LayerdError, messageOf } from '../../protocol/errors.ts';
import { yieldToOthers } from '../niceness.ts';
import { Builder } from './builder.ts';
import { STAGE_BYTES } from './image-file.ts';
import { Inflater, type Output } from './inflate.ts';
import { loadIsal } from './isal.ts';
import type { BuildJob, Job, JobOutcome, ReceiveJob } from './job.ts';
import { asPublished, type Layer } from './layer.ts';
import { Receiver } from './receiver.ts';
import { Ring, RingClosed } from './ring.ts';
import { Writeback } from './writeback.ts';

/*
 * A thread that works on one layer after another: on the whole of it, or on one of two halves, of which the first receives
 * and decompresses the blob and the second hashes the tar and builds the image. It works synchronously and sleeps while a
 * ring is empty or full, so that nothing passes through an event loop; its buffers are allocated once.
 */

/** How much further back this thread stands than the main thread when the processors are busy, as in nice(1). */
const NICENESS = 5;

/** Bytes that are decompressed at a time: small enough to be still in the processor's cache when they are hashed. */
const TAR_BYTES = 256 * 1024;
/** Bytes of tar that a thread which builds is woken for. */
const WORTH_BYTES = 2 * TAR_BYTES;

const port = parentPort;
if (port === null) throw new Error('layers/worker is started as a worker thread');

// Requests are answered while layers keep every processor busy.
yieldToOthers(NICENESS);
const writeback = new Writeback();
/** What a thread that receives needs; one that only builds is spared the time to load it. */
const receiving = lazily(() => ({ isal: loadIsal(), tar: Buffer.allocUnsafeSlow(TAR_BYTES) }));
const stage = Buffer.allocUnsafeSlow(STAGE_BYTES);

port.on('message', (job: Job) => port.postMessage(outcomeOf(job)));

function outcomeOf(job: Job): JobOutcome {
  try {
    return job.task === 'build' ? { layer: build(job) } : receive(job);
  } catch (error) {
    if (error instanceof RingClosed) return { stopped: true };
    if (error instanceof LayerdError) return { failure: { kind: error.kind, message: error.message } };
    const what = job.task === 'build' ? job.imagePath : (job.request.expected.digest ?? job.request.blobPath);
    return { failure: { kind: 'internal', message: `unpacking ${what}: ${messageOf(error)}` } };
  }
}

function receive({ request, source, consumed, tar: shared }: ReceiveJob): JobOutcome {
  const { isal, tar } = receiving();
  const pass = (output: Output): Receiver =>
    new Receiver(request, new Ring(source), new Inflater(output, isal), new BigUint64Array(consumed), writeback);
  if (shared !== undefined) {
    const ring = new Ring(shared);
    const digest = pass({ reserve: () => ring.reserve(TAR_BYTES), commit: (length) => ring.commit(length) }).run();
    ring.end();
    return { digest };
  }
  return building(request.imagePath, (builder) => {
    const digest = pass({ reserve: () => tar, commit: (length) => builder.write(tar.subarray(0, length)) }).run();
    try {
      return { digest, layer: builder.finish() };
    } catch (error) {
      throw isKind(error, 'corrupt') ? asPublished(digest, error.message) : error;
    }
  });
}

function build({ imagePath, tar: shared }: BuildJob): Layer {
  const ring = new Ring(shared);
  try {
    return building(imagePath, (builder) => {
      for (const piece of pieces(ring)) builder.write(piece);
      return builder.finish();
    });
  } catch (error) {
    // Whoever receives goes on to the end all the same: only the blob's digest tells what to make of a tar like this.
    if (isKind(error, 'corrupt')) pieces(ring).forEach(() => undefined);
    throw error;
  }
}

/** What is in the ring until its end; each piece is released when the next one is asked for. */
function* pieces(ring: Ring): Generator<Uint8Array> {
  for (let bytes = ring.next(WORTH_BYTES); bytes !== undefined; bytes = ring.next(WORTH_BYTES)) {
    const piece = bytes.subarray(0, TAR_BYTES);
    try {
      yield piece;
    } finally {
      ring.release(piece.length);
    }
  }
}

/** Has an image built; what fails leaves none. */
function building<T>(imagePath: string, work: (builder: Builder) => T): T {
  const builder = new Builder(imagePath, stage);
  try {
    return work(builder);
  } catch (error) {
    builder.discard();
    throw error;
  }
}

/** What is made when it is first asked for. */
function lazily<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
