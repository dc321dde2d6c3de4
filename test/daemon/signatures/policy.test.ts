import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { SignaturePolicy } from '../../../src/daemon/signatures/policy.ts';
import { parseReference } from '../../../src/protocol/reference.ts';
import { needs } from '../../support/process.ts';
import { signer } from '../../support/signatures.ts';

const dir = mkdtempSync(join(tmpdir(), 'layerd-policy-'));
after(() => rmSync(dir, { recursive: true }));
const file = join(dir, 'policy.json');

const ACCEPT = [{ type: 'insecureAcceptAnything' }];
const REJECT = [{ type: 'reject' }];

function load(policy: unknown): Promise<SignaturePolicy> {
  writeFileSync(file, typeof policy === 'string' ? policy : JSON.stringify(policy));
  return SignaturePolicy.load(file);
}

async function refuses(policy: unknown, message: RegExp): Promise<void> {
  await assert.rejects(load(policy), (error: Error & { kind?: string }) => {
    assert.match(error.message, message);
    assert.ok(error.message.includes(file), error.message);
    assert.equal(error.kind, 'invalid');
    return true;
  });
}

describe('SignaturePolicy', () => {
  it('finds the most specific scope', async () => {
    const scopes = [
      'registry.example.com:5000/team/app:1',
      'registry.example.com:5000/team/app',
      'registry.example.com:5000/team',
      'registry.example.com:5000',
      '*.example.com',
      '*.com',
      '',
    ];
    const named = ({ scope }: { scope: string }): string =>
      scope === 'all of docker' ? '' : (JSON.parse(scope) as string);
    for (const [index, expected] of scopes.entries()) {
      const docker = Object.fromEntries(scopes.slice(index).map((scope) => [scope, ACCEPT]));
      const policy = await load({ default: REJECT, transports: { docker } });
      assert.equal(named(policy.ruleOf(parseReference('registry.example.com:5000/team/app:1'))), expected);
    }
    const policy = await load({ default: REJECT, transports: { docker: { 'docker.io/library/redis': ACCEPT } } });
    assert.equal(policy.ruleOf(parseReference('redis:7')).isOpen, true);
    assert.equal(policy.ruleOf(parseReference('redis-evil:7')).scope, 'everything else (default)');
  });

  it('takes every scope that an image can be in', async () => {
    const digest = 'a'.repeat(64);
    const scopes = [
      'docker.io',
      'docker.io/library',
      'docker.io/library/redis:7',
      `docker.io/library/redis@sha256:${digest}`,
    ];
    const others = ['localhost', 'localhost:5000/a', '[::1]:5000', '127.0.0.1:5000/a/b', '*.com', '*.example.com', ''];
    const docker = Object.fromEntries([...scopes, ...others].map((scope) => [scope, ACCEPT]));
    const policy = await load({ default: REJECT, transports: { docker } });
    for (const name of ['redis:7', 'localhost/x', 'a.example.com/x']) {
      assert.equal(policy.ruleOf(parseReference(name)).isOpen, true, name);
    }
  });

  it('takes a digest for the whole of a reference that has a tag beside it', async () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    const docker = { 'example.com/app:1': ACCEPT, [`example.com/app@${digest}`]: ACCEPT };
    const policy = await load({ default: REJECT, transports: { docker } });
    assert.equal(policy.ruleOf(parseReference(`example.com/app:1@${digest}`)).isOpen, true);
    assert.equal(policy.ruleOf(parseReference(`example.com/app:1@sha256:${'b'.repeat(64)}`)).isOpen, false);
  });

  it('has a rule for each kind of archive, whatever its path', async () => {
    const transports = { 'docker-archive': { '': ACCEPT, '/srv': REJECT }, docker: { '': ACCEPT } };
    const policy = await load({ default: REJECT, transports });
    assert.equal(policy.ruleOfArchive('docker-archive').isOpen, true);
    assert.equal(policy.ruleOfArchive('oci-archive').isOpen, false);
    assert.equal(policy.summary, `${file} (default: reject; 3 scopes)`);
  });

  it('refuses what it does not understand, by its name and place', async () => {
    const docker = (requirement: object): object => ({
      default: REJECT,
      transports: { docker: { 'example.com': [requirement] } },
    });
    const key = { type: 'sigstoreSigned', keyData: Buffer.from(signer().pem).toString('base64') };
    const place = 'transports\\.docker\\["example\\.com"\\]\\[0\\]';
    for (const [policy, message] of [
      ['', /JSON/],
      ['{"default": [], "default": []}', /the key "default" is given twice/],
      ['[]', /the file must be an object/],
      [{}, /the file has no "default"/],
      [{ default: {} }, /default must be a list/],
      [{ default: [] }, /default has no requirement: write insecureAcceptAnything/],
      [{ default: ['reject'] }, /default\[0\] must be an object/],
      [
        { default: REJECT, transport: {} },
        /the file has the unknown key "transport"; known here: "default", "transports"/,
      ],
      [{ default: REJECT, transports: { docker: REJECT } }, /transports\.docker must be an object/],
      [{ default: REJECT, transports: { dockre: {} } }, /transports has "dockre"; expected one of docker, /],
      ...[
        'redis',
        'library/redis',
        'https://example.com',
        '*example.com',
        'exa*.com',
        '*.',
        'example.com/',
        '*.a.com/b',
      ].map(
        (scope) =>
          [
            { default: REJECT, transports: { docker: { [scope]: ACCEPT } } },
            /which no image is in; expected HOST/,
          ] as const,
      ),
      [{ default: [{}] }, /default\[0\] has no "type"/],
      [docker({ type: 'signedBase' }), new RegExp(`${place}\\.type is "signedBase"; expected insecureAcceptAnything`)],
      [docker({ type: 'reject', keyPath: '/k' }), new RegExp(`${place} has the unknown key "keyPath"`)],
      [docker({ type: 'signedBy' }), new RegExp(`${place} has no "keyType"`)],
      [docker({ type: 'signedBy', keyType: 'X509' }), /keyType is "X509"; expected GPGKeys/],
      [docker({ type: 'signedBy', keyType: 'GPGKeys' }), /has no "keyPath", "keyPaths" or "keyData"/],
      [docker({ type: 'sigstoreSigned' }), /has no "keyPath", "keyPaths", "keyData", "keyDatas" or "fulcio"/],
      [docker({ ...key, keyPath: '/k' }), /has both "keyPath" and "keyData": keep one/],
      [docker({ ...key, fulcio: {} }), /has both "keyData" and "fulcio"/],
      [docker({ ...key, pki: {} }), /pki is not supported/],
      [docker({ type: 'sigstoreSigned', keyPath: '/nowhere/k' }), /keyPath: ENOENT.*\/nowhere\/k/],
      [docker({ type: 'sigstoreSigned', keyPaths: [] }), /keyPaths is empty/],
      [docker({ type: 'sigstoreSigned', keyData: 'not base64!' }), /keyData is not base64/],
      [docker({ type: 'sigstoreSigned', keyData: 'AAAA' }), /keyData is no public key in PEM/],
      [docker({ ...key, signedIdentity: { type: 'any' } }), /signedIdentity\.type is "any"; expected matchExact/],
      [
        docker({ ...key, signedIdentity: { type: 'matchExact', prefix: 'x' } }),
        /signedIdentity has the unknown key "prefix"/,
      ],
      [
        docker({ ...key, signedIdentity: { type: 'exactReference', dockerReference: 'example.com/a' } }),
        /dockerReference must have a tag or a digest/,
      ],
      [
        docker({ ...key, signedIdentity: { type: 'exactRepository', dockerRepository: 'example.com/a:1' } }),
        /dockerRepository must have no tag/,
      ],
      [
        docker({ ...key, signedIdentity: { type: 'remapIdentity', prefix: 'library', signedPrefix: 'a.example' } }),
        /prefix is "library"; expected HOST/,
      ],
      [
        docker({ type: 'sigstoreSigned', fulcio: { caPath: '/c', oidcIssuer: 'x', subjectEmail: 'y' } }),
        /has "fulcio", which needs one of rekorPublicKeyPath/,
      ],
      [
        docker({ type: 'sigstoreSigned', fulcio: { oidcIssuer: 'x' }, rekorPublicKeyData: key.keyData }),
        /fulcio has no "caPath" or "caData"/,
      ],
      [
        docker({
          type: 'sigstoreSigned',
          fulcio: { caData: 'AAAA', oidcIssuer: 'x' },
          rekorPublicKeyData: key.keyData,
        }),
        /fulcio\.caData: there is no certificate in PEM/,
      ],
    ] as const) {
      await refuses(policy, message);
    }
    await assert.rejects(SignaturePolicy.load(join(dir, 'missing.json')), /missing\.json: ENOENT/);
  });

  it('refuses OpenPGP keys that are none', { skip: needs('gpgv') }, async () => {
    const signedBy = { type: 'signedBy', keyType: 'GPGKeys' };
    await refuses({ default: [{ ...signedBy, keyPath: '/nowhere/k.gpg' }] }, /keyPath: ENOENT/);
    await refuses({ default: [{ ...signedBy, keyData: 'AAAA' }] }, /keyData has no OpenPGP public key/);
  });

  it('knows an identity by what a signature may call an image', async () => {
    const { readIdentity } = await import('../../../src/daemon/signatures/identity.ts');
    const { Fields } = await import('../../../src/daemon/signatures/fields.ts');
    const digest = `@sha256:${'a'.repeat(64)}`;
    const accepts = (identity: object | undefined, signed: string | undefined, asked: string): boolean =>
      readIdentity(identity === undefined ? undefined : new Fields(identity, 'signedIdentity')).accepts(
        signed === undefined ? undefined : parseReference(signed),
        parseReference(asked),
      );
    const remap = { type: 'remapIdentity', prefix: 'mirror.example.com/hub', signedPrefix: 'docker.io/library' };
    for (const [identity, signed, asked, expected] of [
      [undefined, 'a.example/app:1', 'a.example/app:1', true],
      [undefined, 'a.example/app:2', 'a.example/app:1', false],
      [undefined, 'a.example/app:2', `a.example/app${digest}`, true],
      [undefined, 'a.example/app:2', `a.example/app:1${digest}`, true],
      [undefined, 'a.example/app', 'a.example/app:1', false],
      [undefined, undefined, 'a.example/app:1', false],
      [{ type: 'matchExact' }, 'a.example/app:1', 'a.example/app:1', true],
      [{ type: 'matchExact' }, 'a.example/app:1', `a.example/app${digest}`, false],
      [{ type: 'matchExact' }, `a.example/app${digest}`, `a.example/app${digest}`, true],
      [{ type: 'matchRepository' }, 'a.example/app', 'a.example/app:1', true],
      [{ type: 'matchRepository' }, 'a.example/apps:1', 'a.example/app:1', false],
      [{ type: 'matchRepository' }, undefined, 'a.example/app:1', false],
      [{ type: 'matchDigest' }, undefined, 'a.example/app:1', true],
      [{ type: 'exactReference', dockerReference: 'redis:7' }, 'docker.io/library/redis:7', 'a.example/app:1', true],
      [{ type: 'exactReference', dockerReference: 'redis:7' }, 'redis:6', 'a.example/app:1', false],
      [{ type: 'exactRepository', dockerRepository: 'redis' }, 'redis:6', 'a.example/app:1', true],
      [{ type: 'exactRepository', dockerRepository: 'redis' }, 'other', 'a.example/app:1', false],
      [remap, 'redis:7', 'mirror.example.com/hub/redis:7', true],
      [remap, 'redis:6', 'mirror.example.com/hub/redis:7', false],
      [remap, 'mirror.example.com/hub/redis:7', 'mirror.example.com/hub/redis:7', false],
      [remap, 'mirror.example.com/hubs/redis:7', 'mirror.example.com/hubs/redis:7', true],
    ] as const) {
      assert.equal(accepts(identity, signed, asked), expected, `${JSON.stringify(identity)} ${signed} ${asked}`);
    }
  });
});
