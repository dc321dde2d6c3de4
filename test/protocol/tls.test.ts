import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { tlsFailure } from '../../src/protocol/tls.ts';

/** As Node 26 words what OpenSSL says. */
const openssl = (reason: string): string =>
  `40337214247F0000:error:0A000418:SSL routines:ssl3_read_bytes:${reason}:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:918:SSL alert number 48\n`;

describe('a failure of TLS', () => {
  it('is the same whether it came while reading or while writing', () => {
    const code = 'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA';
    const reading = Object.assign(new Error(openssl('tlsv1 alert unknown ca')), { code });
    const writing = Object.assign(new Error(`write EPROTO ${openssl('tlsv1 alert unknown ca')}`), { code: 'EPROTO' });
    for (const error of [reading, writing]) {
      assert.deepEqual(tlsFailure(error), { code, reason: 'tlsv1 alert unknown ca' });
    }
  });

  it('is none where OpenSSL did not speak', () => {
    for (const message of ['read ECONNRESET', 'connect ECONNREFUSED 127.0.0.1:1', 'self-signed certificate', '']) {
      assert.equal(tlsFailure(new Error(message)), undefined);
    }
  });
});
