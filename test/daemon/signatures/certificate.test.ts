import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isIssued, parseCertificates } from '../../../src/daemon/signatures/certificate.ts';
import { needs } from '../../support/process.ts';
import { AUTHORITY, certify, signer } from '../../support/signatures.ts';

const DAY = 24 * 3600 * 1000;

describe('isIssued', { skip: needs('openssl') }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'layerd-certificates-'));
  after(() => rmSync(dir, { recursive: true }));
  const made = new Map<string, string>();

  async function make(
    name: string,
    by: string | undefined,
    extensions: readonly string[],
    key = signer(),
  ): Promise<void> {
    made.set(name, await certify(dir, name, { key, extensions, ...(by === undefined ? {} : { by }) }));
  }

  before(async () => {
    await make('root', undefined, AUTHORITY);
    await make('other', undefined, AUTHORITY);
    await make('short', 'root', ['basicConstraints=critical,CA:true,pathlen:0', 'keyUsage=critical,keyCertSign']);
    await make('sub', 'short', AUTHORITY);
    await make('long', 'root', AUTHORITY);
    await make('below', 'long', AUTHORITY);
    await make('constrained', 'root', [...AUTHORITY, 'nameConstraints=critical,permitted;email:example.com']);
    await make('no-signing', 'root', ['basicConstraints=critical,CA:true', 'keyUsage=critical,digitalSignature']);
    for (const by of ['root', 'short', 'sub', 'below', 'constrained', 'no-signing']) {
      await make(`by-${by}`, by, ['basicConstraints=CA:false']);
    }
    await make('by-leaf', 'by-root', ['basicConstraints=CA:false']);
  });

  const of = (...names: readonly string[]) => names.flatMap((name) => parseCertificates(made.get(name) ?? ''));

  function issued(
    name: string,
    intermediates: readonly string[],
    roots: readonly string[],
    date = new Date(),
  ): boolean {
    const [certificate] = of(name);
    assert.ok(certificate !== undefined);
    return isIssued(certificate, of(...intermediates), of(...roots), date);
  }

  it('follows a path from the certificate to a root', () => {
    for (const [name, intermediates, roots] of [
      ['by-root', [], ['root']],
      ['by-root', [], ['other', 'root']],
      ['by-short', ['short'], ['root']],
      ['by-short', ['other', 'long', 'short'], ['root']],
      ['by-below', ['below', 'long'], ['root']],
      ['by-below', ['root', 'long', 'below'], ['root']],
      // Every certificate of the rule is one to trust.
      ['by-short', [], ['short']],
    ] as const) {
      assert.equal(issued(name, intermediates, roots), true, `${name} by ${intermediates.join(', ')}`);
    }
  });

  it('refuses a path that is broken, too long, or over what may not sign', () => {
    for (const [name, intermediates, roots] of [
      ['by-root', [], []],
      ['by-root', [], ['other']],
      ['by-root', ['root'], ['other']],
      ['by-short', [], ['root']],
      ['by-below', ['below'], ['root']],
      ['by-sub', ['sub', 'short'], ['root']],
      ['by-leaf', ['by-root'], ['root']],
      ['by-no-signing', ['no-signing'], ['root']],
      ['by-constrained', ['constrained'], ['root']],
    ] as const) {
      assert.equal(issued(name, intermediates, roots), false, `${name} by ${intermediates.join(', ')}`);
    }
  });

  it('refuses what was not good yet, or no longer', () => {
    for (const days of [-1, 2]) {
      assert.equal(issued('by-short', ['short'], ['root'], new Date(Date.now() + days * DAY)), false);
    }
  });

  it('refuses a text without certificates, or with more than anybody needs', () => {
    assert.throws(() => parseCertificates('-----BEGIN PUBLIC KEY-----'), /there is no certificate in PEM/);
    assert.throws(() => parseCertificates((made.get('root') ?? '').repeat(17)), /more than 16 certificates/);
  });
});
