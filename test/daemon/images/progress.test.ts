import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LayerProgress } from '../../../src/daemon/images/progress.ts';
import type { TransferStatus } from '../../../src/daemon/transfers/transfer.ts';
import type { ProgressMessage } from '../../../src/protocol/progress.ts';

const digest = `sha256:${'ab'.repeat(32)}` as const;
const status = (change: Partial<TransferStatus>): TransferStatus => ({
  digest,
  state: 'downloading',
  received: 0,
  unpacked: 0,
  total: 1000,
  attempts: 1,
  ...change,
});

describe('the progress of a layer', () => {
  const record = () => {
    const messages: ProgressMessage[] = [];
    const progress = new LayerProgress(digest, (message) => messages.push(message));
    const lines = (): string[] =>
      messages.map(({ status, progressDetail }) =>
        progressDetail?.current === undefined ? (status ?? '') : `${status ?? ''} ${progressDetail.current}`,
      );
    return { progress, messages, lines };
  };

  it('is told in the lines that clients know, each once', () => {
    const { progress, lines, messages } = record();
    progress.begin();
    progress.update(status({ state: 'waiting' }));
    progress.update(status({ received: 1000 }));
    progress.update(status({ state: 'verifying' }));
    progress.update(status({ state: 'extracting', unpacked: 400 }));
    progress.update(status({ state: 'done' }));
    progress.complete();
    progress.end();
    assert.deepEqual(lines(), [
      'Pulling fs layer',
      'Waiting',
      'Downloading 1000',
      'Verifying Checksum',
      'Download complete',
      'Extracting 400',
      'Pull complete',
    ]);
    assert.ok(messages.every(({ id }) => id === 'abababababab'));
  });

  it('says why an attempt failed, each time, in what fits a line of a terminal', () => {
    const { progress, lines, messages } = record();
    for (const lastError of ['reg.io stalled: no byte came for 30 s', 'x'.repeat(100)]) {
      progress.update(status({ received: 7 }));
      progress.update(status({ received: 7, state: 'retrying', lastError }));
    }
    progress.update(status({ received: 7, lastError: 'of before' }));
    assert.deepEqual(lines(), [
      'Downloading 7',
      'Retrying: reg.io stalled: no byte came for 30 s',
      'Downloading 7',
      `Retrying: ${'x'.repeat(53)}…`,
      'Downloading 7',
    ]);
    for (const { id = '', status: text = '' } of messages) assert.ok(`${id}: ${text}`.length < 80);
  });

  it('moves the bar a few times a second, and shows the last move before a stall', async () => {
    const { progress, lines } = record();
    for (let received = 1; received <= 500; received += 1) progress.update(status({ received }));
    assert.deepEqual(lines(), ['Downloading 1']);
    await sleep(200);
    assert.deepEqual(lines(), ['Downloading 1', 'Downloading 500']);
    progress.end();
  });

  it('says nothing after its end', async () => {
    const { progress, lines } = record();
    progress.update(status({ received: 1 }));
    progress.update(status({ received: 2 }));
    progress.end();
    await sleep(200);
    assert.deepEqual(lines(), ['Downloading 1']);
  });
});
