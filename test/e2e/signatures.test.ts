import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startDaemon, type Daemon } from '../support/daemon.ts';
import {
  image,
  index,
  layer,
  LINUX_AMD64,
  LINUX_ARM64,
  push,
  referrersIndex,
  type TestImage,
} from '../support/images.ts';
import { must, needs, run, scratch } from '../support/process.ts';
import { listen } from '../support/listen.ts';
import { startProxy, type Proxy } from '../support/proxy.ts';
import { startRegistry, type Registry } from '../support/registry.ts';
import {
  bundleManifest,
  bundleOf,
  BUNDLE_TYPE,
  claim,
  cosign,
  cosignManifest,
  ed25519Signer,
  Gpg,
  makeAuthority,
  OIDC_ISSUER,
  promise,
  signer,
  statement,
  type Authority,
  type CosignOptions,
  type CosignSignature,
} from '../support/signatures.ts';
import { failed, storeFiles, succeeded } from '../support/stack.ts';

const EMAIL = 'release@example.com';
const ALICE = 'alice@example.com';
const MALLORY = 'mallory@example.com';
const MATCH_REPOSITORY = { type: 'matchRepository' };

interface Verdict {
  readonly status: number;
  readonly body: string;
}

describe('the signature policy', { skip: needs('docker-registry', 'gpg', 'gpgv', 'openssl') }, () => {
  const resources = new AsyncDisposableStack();
  let dir: string;
  let registry: Registry;
  let proxy: Proxy;
  let daemon: Daemon;
  let gpg: Gpg;
  let authority: Authority;
  let policyFile: string;
  const key = signer();
  const edwards = ed25519Signer();
  const stranger = signer();
  const rekor = signer();
  const name = (repository: string): string => `${proxy.host}/${repository}`;

  before(async () => {
    dir = resources.use(await scratch('signatures')).path;
    registry = resources.use(await startRegistry());
    proxy = resources.use(await startProxy(registry));
    await mkdir(join(dir, 'gpg'), { mode: 0o700 });
    gpg = await Gpg.create(join(dir, 'gpg'), ALICE, MALLORY);
    resources.defer(() => gpg.stop());
    authority = await makeAuthority(dir, 'fulcio');
    const file = async (path: string, content: string | Buffer): Promise<string> => {
      await writeFile(join(dir, path), content);
      return join(dir, path);
    };
    const alice = await file('alice.asc', await gpg.export(ALICE, true));
    const signedBy = { type: 'signedBy', keyType: 'GPGKeys', keyPath: alice };
    const keyPath = await file('cosign.pub', key.pem);
    const cosigned = { type: 'sigstoreSigned', keyPath, signedIdentity: MATCH_REPOSITORY };
    const rekorPublicKeyPath = await file('rekor.pub', rekor.pem);
    const caPath = await file('fulcio.pem', authority.root);
    const fulcio = { caPath, oidcIssuer: OIDC_ISSUER, subjectEmail: EMAIL };
    const scopes: Record<string, object[]> = {
      [name('open')]: [{ type: 'insecureAcceptAnything' }],
      [name('open/closed')]: [{ type: 'reject' }],
      [name('gpg')]: [signedBy],
      [name('gpg-data')]: [{ ...signedBy, keyPath: undefined, keyData: (await gpg.export(ALICE)).toString('base64') }],
      [name('mirror')]: [
        {
          ...signedBy,
          signedIdentity: { type: 'remapIdentity', prefix: name('mirror'), signedPrefix: 'vendor.example.com/x' },
        },
      ],
      [name('cosign')]: [cosigned],
      [name('exact')]: [{ ...cosigned, signedIdentity: undefined }],
      [name('edwards')]: [
        {
          ...cosigned,
          keyPath: undefined,
          keyDatas: [key, edwards].map(({ pem }) => Buffer.from(pem).toString('base64')),
        },
      ],
      [name('logged')]: [{ ...cosigned, rekorPublicKeyPath }],
      [name('fulcio')]: [{ type: 'sigstoreSigned', fulcio, rekorPublicKeyPath, signedIdentity: MATCH_REPOSITORY }],
      [name('bundle')]: [{ ...cosigned, signedIdentity: { type: 'matchDigest' } }],
      [name('bundle-fulcio')]: [
        {
          type: 'sigstoreSigned',
          // A bundle has the signer's certificate alone.
          fulcio: { ...fulcio, caPath: await file('both.pem', authority.root + authority.intermediate) },
          rekorPublicKeyPath,
          signedIdentity: { type: 'matchDigest' },
        },
      ],
      [name('both')]: [signedBy, cosigned],
    };
    policyFile = await file(
      'policy.json',
      JSON.stringify({ default: [{ type: 'reject' }], transports: { docker: scopes } }),
    );
    // Debian builds skopeo without sigstore.
    const known = { [name('gpg')]: [signedBy] };
    await file('skopeo.json', JSON.stringify({ default: [{ type: 'reject' }], transports: { docker: known } }));
    await mkdir(join(dir, 'lookaside'));
    await mkdir(join(dir, 'registries.d'));
    const settings = { lookaside: `file://${dir}/lookaside` };
    await file('registries.d/test.yaml', JSON.stringify({ docker: { [proxy.host]: settings } }));
    const web = await listen(
      createServer((request, response) => {
        readFile(join(dir, decodeURIComponent(request.url ?? ''))).then(
          (bytes) => response.end(bytes),
          (error: unknown) => response.writeHead((error as NodeJS.ErrnoException).code === 'ENOENT' ? 404 : 500).end(),
        );
      }),
    );
    resources.defer(() => web.close());
    const lookasides = [
      `${proxy.host}=file://${dir}/lookaside`,
      `${proxy.host}/gpg-data=http://${web.host}/lookaside/`,
      `${proxy.host}/gpg/down=http://127.0.0.1:1`,
    ];
    const config = { 'signature-policy': policyFile, 'signature-lookasides': lookasides };
    daemon = resources.use(await startDaemon({ config }));
  });
  after(() => resources.disposeAsync());

  async function pull(reference: string, query = ''): Promise<Verdict> {
    const path = `/images/create?fromImage=${encodeURIComponent(name(reference))}${query}`;
    return daemon.request(path, { method: 'POST' });
  }

  async function admits(reference: string, query = ''): Promise<void> {
    const { status, body } = await pull(reference, query);
    assert.equal(status, 200, body);
    assert.doesNotMatch(body, /error/);
  }

  /** That it is refused for this reason, before anything of it is stored. */
  async function refuses(reference: string, reason: RegExp, query = ''): Promise<void> {
    const held = await storeFiles(daemon.dataRoot);
    const { status, body } = await pull(reference, query);
    assert.equal(status, 403, body);
    assert.match((JSON.parse(body) as { message: string }).message, reason);
    assert.deepEqual(await storeFiles(daemon.dataRoot), held);
  }

  let count = 0;
  const fresh = async (platform = LINUX_AMD64): Promise<TestImage> =>
    image({ layers: [await layer([{ name: 'number', content: `${++count}` }])], platform });

  /** Pushes an image to the repository, under the tag 1. */
  const pushed = async (repository: string, one?: TestImage): Promise<TestImage> =>
    push(registry.host, repository, '1', one ?? (await fresh()));

  const signatureTag = ({ digest }: TestImage): string => `${digest.replace(':', '-')}.sig`;

  async function attach(repository: string, to: TestImage, ...signatures: CosignSignature[]): Promise<void> {
    await push(registry.host, repository, signatureTag(to), cosignManifest(signatures));
  }

  /** Pushes an image that is signed so. */
  async function signed(repository: string, options: Partial<CosignOptions> = {}): Promise<TestImage> {
    const one = await pushed(repository);
    await attach(repository, one, cosign({ payload: claim(one.digest, name(repository)), by: key, ...options }));
    return one;
  }

  async function putSimple(repository: string, { digest }: TestImage, message: Buffer, number = 1): Promise<void> {
    const folder = join(dir, 'lookaside', `${repository}@${digest.replace(':', '=')}`);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `signature-${number}`), message);
  }

  const simpleClaim = (digest: string, reference: string): Buffer =>
    Buffer.from(
      claim(digest, reference, 'atomic container signature').toString().replace('null', '{"creator":"test"}'),
    );

  /** What skopeo says of it under the same policy. */
  async function skopeoAdmits(reference: string): Promise<boolean> {
    const flags = [
      '--policy',
      join(dir, 'skopeo.json'),
      '--registries.d',
      join(dir, 'registries.d'),
      'copy',
      '--src-tls-verify=false',
    ];
    const to = `dir:${join(dir, `skopeo-${++count}`)}`;
    const { code, stderr } = await run('skopeo', [...flags, `docker://${name(reference)}`, to]);
    if (code !== 0) assert.match(stderr, /rejected/i, stderr);
    return code === 0;
  }

  it('counts the most specific scope alone, and asks no registry for what is rejected', async () => {
    await pushed('open');
    await pushed('open/closed');
    await pushed('elsewhere');
    await admits('open:1');
    proxy.reset();
    await refuses('open/closed:1', /the rule for "127\.0\.0\.1:\d+\/open\/closed" rejects it: it allows no image/);
    await refuses('elsewhere:1', /policy\.json: the rule for everything else \(default\) rejects it/);
    assert.equal(proxy.seen.length, 0);
  });

  it('tells of a refusal to the client, in the log, as an event, and keeps what is stored', async () => {
    const one = await pushed('open');
    await admits('open:1');
    await push(registry.host, 'gpg', '1', one);
    await refuses(
      'gpg:1',
      /^pull of \S+gpg:1 refused by the signature policy .*policy\.json: the rule for ".*gpg" requires signedBy: it has no signature/,
    );
    const events = await daemon.request(
      `/events?since=0&until=${Math.ceil(Date.now() / 1000)}&filters={"event":["refuse"]}`,
    );
    const last = events.body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { Actor: { Attributes: object } })
      .at(-1);
    assert.deepEqual(
      { ...last?.Actor.Attributes },
      {
        name: name('gpg'),
        digest: one.digest,
        policy: policyFile,
        scope: JSON.stringify(name('gpg')),
        requirement: 'signedBy',
        reason: 'it has no signature of this kind',
      },
    );
    assert.match(daemon.log, /WARN.*pull of \S+gpg:1 refused by the signature policy/i);
    assert.equal((await daemon.request(`/images/${one.digest}/json`)).status, 200);
    assert.equal((await daemon.request(`/images/${encodeURIComponent(name('gpg:1'))}/json`)).status, 404);
  });

  it('shows the policy in force', async () => {
    const { DriverStatus } = (await daemon.request('/info')).json<{ DriverStatus: [string, string][] }>();
    assert.match(new Map(DriverStatus).get('Signature Policy') ?? '', /policy\.json \(default: reject; 13 scopes\)$/);
  });

  describe('signedBy', () => {
    it('takes what a key of the rule has signed, by its tag and by its digest, from files and from the web', async () => {
      for (const repository of ['gpg', 'gpg-data']) {
        const one = await pushed(repository);
        await putSimple(repository, one, await gpg.sign(simpleClaim(one.digest, name(`${repository}:1`)), ALICE));
        await admits(`${repository}:1`);
        await admits(`${repository}@${one.digest}`);
      }
    });

    it('admits nothing while its signatures cannot be had', async () => {
      await pushed('gpg/down');
      const { status, body } = await pull('gpg/down:1');
      assert.equal(status, 503, body);
      assert.match(body, /127\.0\.0\.1:1/);
      const one = await pushed('gpg-data');
      await mkdir(join(dir, 'lookaside', `gpg-data@${one.digest.replace(':', '=')}`, 'signature-1'), {
        recursive: true,
      });
      assert.match((await pull('gpg-data:1')).body, /answered with status 500/);
    });

    it('takes a good signature after bad ones', async () => {
      const one = await pushed('gpg');
      await putSimple('gpg', one, Buffer.from('nonsense'));
      await putSimple('gpg', one, await gpg.sign(simpleClaim(one.digest, name('gpg:1')), MALLORY), 2);
      await refuses(
        'gpg:1',
        /none of its 2 signatures is accepted: it is no OpenPGP signature of a text; it is by the key/,
      );
      await putSimple('gpg', one, await gpg.sign(simpleClaim(one.digest, name('gpg:1')), ALICE), 3);
      await admits('gpg:1');
    });

    it('refuses a signature of another image, for another name, by another key, by several, changed, or too large', async () => {
      const one = await pushed('gpg');
      const other = await fresh();
      const good = simpleClaim(one.digest, name('gpg:1'));
      const changed = await gpg.sign(good, ALICE);
      changed.writeUInt8(changed.readUInt8(changed.length - 20) ^ 1, changed.length - 20);
      for (const [message, reason] of [
        [await gpg.sign(simpleClaim(other.digest, name('gpg:1')), ALICE), new RegExp(`it is of ${other.digest}`)],
        [
          await gpg.sign(simpleClaim(one.digest, name('gpg:2')), ALICE),
          /it is for \S+gpg:2, which matchRepoDigestOrExact does not accept for \S+gpg:1/,
        ],
        [await gpg.sign(simpleClaim(one.digest, name('gpg')), ALICE), /which matchRepoDigestOrExact does not accept/],
        [await gpg.sign(good, MALLORY), /it is by the key [0-9A-F]{16}, which the rule does not have/],
        [await gpg.sign(good, MALLORY, ALICE), /it is by the key|more than one signature/],
        [await gpg.sign(claim(one.digest, name('gpg:1')), ALICE), /its type is "cosign container image signature"/],
        [await gpg.sign(Buffer.alloc(10_000_000, 32), ALICE), /it is no OpenPGP signature/],
        [changed, /is not what the key|no OpenPGP signature|cannot be checked/],
      ] as const) {
        await putSimple('gpg', one, message);
        await refuses('gpg:1', reason);
      }
      await putSimple('gpg', one, Buffer.alloc(300 * 1024));
      const { status, body } = await pull('gpg:1');
      assert.deepEqual([status, /larger than the limit/.test(body)], [400, true], body);
    });

    it('takes what a mirror serves for what its vendor has signed', async () => {
      const one = await pushed('mirror/app');
      await putSimple('mirror/app', one, await gpg.sign(simpleClaim(one.digest, 'vendor.example.com/x/app:1'), ALICE));
      await admits('mirror/app:1');
      const two = await pushed('mirror/app');
      await putSimple('mirror/app', two, await gpg.sign(simpleClaim(two.digest, name('mirror/app:1')), ALICE));
      await refuses('mirror/app:1', /which remapIdentity does not accept/);
    });

    it('says the same as skopeo of what skopeo signs', { skip: needs('skopeo') }, async () => {
      await pushed('open');
      const flags = [
        '--registries.d',
        join(dir, 'registries.d'),
        '--insecure-policy',
        'copy',
        '--src-tls-verify=false',
      ];
      for (const [user, tag] of [
        [ALICE, '2'],
        [MALLORY, '3'],
      ] as const) {
        const one = await fresh();
        await push(registry.host, 'open', '1', one);
        const copy = [...flags, '--dest-tls-verify=false', '--sign-by', user, `docker://${name('open:1')}`];
        await must('skopeo', [...copy, `docker://${name(`gpg:${tag}`)}`], { env: gpg.env });
        const expected = await skopeoAdmits(`gpg:${tag}`);
        assert.equal(expected, user === ALICE);
        assert.equal((await pull(`gpg:${tag}`)).status === 200, expected);
      }
    });
  });

  describe('sigstoreSigned', () => {
    it('takes what a key of the rule has signed, also with Ed25519', async () => {
      await signed('cosign');
      await admits('cosign:1');
      await signed('edwards', { by: edwards });
      await admits('edwards:1');
    });

    it('wants the tag in the signature unless the rule says otherwise', async () => {
      const one = await signed('exact');
      await refuses('exact:1', /it is for \S+exact, which matchRepoDigestOrExact does not accept/);
      await attach('exact', one, cosign({ payload: claim(one.digest, name('exact:1')), by: key }));
      await admits('exact:1');
    });

    it('refuses a signature of another image, for another name, by another key, changed, or without what it needs', async () => {
      const one = await pushed('cosign');
      const other = await fresh();
      const payload = claim(one.digest, name('cosign'));
      const good = cosign({ payload, by: key });
      for (const [signature, reason] of [
        [cosign({ payload: claim(other.digest, name('cosign')), by: key }), new RegExp(`it is of ${other.digest}`)],
        [cosign({ payload: claim(one.digest, name('other')), by: key }), /it is for \S+other, which matchRepository/],
        [cosign({ payload, by: stranger }), /it is not by a key of the rule/],
        [{ ...good, payload: Buffer.from(payload.toString().replace('null', '{}')) }, /not by a key of the rule/],
        [{ ...good, annotations: {} }, /no annotation dev\.cosignproject\.cosign\/signature/],
        [cosign({ payload: claim(one.digest, name('cosign'), 'other'), by: key }), /its type is "other"/],
        [{ ...good, payload: Buffer.alloc(300 * 1024, 32) }, /307200 bytes, the limit is/],
      ] as const) {
        await attach('cosign', one, signature);
        await refuses('cosign:1', reason);
      }
      await attach('cosign', one, cosign({ payload, by: stranger }), good);
      await admits('cosign:1');
    });

    it('looks at no more signatures than it may', async () => {
      const one = await pushed('cosign');
      const payload = claim(one.digest, name('cosign'));
      const noise = Array.from({ length: 64 }, () => cosign({ payload, by: stranger }));
      await attach('cosign', one, ...noise, cosign({ payload, by: key }));
      await refuses('cosign:1', /none of its 64 signatures is accepted/);
    });

    it('takes a tag of signatures that is something else for no signature', async () => {
      const one = await pushed('cosign');
      await push(registry.host, 'cosign', signatureTag(one), await fresh());
      await refuses('cosign:1', /the tag of its signatures has something else/);
      await push(registry.host, 'cosign', signatureTag(one), index([await fresh()]));
      await refuses('cosign:1', /it has no signature/);
      // Where the list of referrers is kept.
      await push(registry.host, 'cosign', one.digest.replace(':', '-'), await fresh());
      await refuses('cosign:1', /it has no signature/);
    });

    it('wants an entry in the log where the rule names one', async () => {
      const log = { rekor, keyOrCertificate: key.pem };
      await signed('logged', { log });
      await admits('logged:1');
      await signed('logged');
      await refuses('logged:1', /no annotation dev\.sigstore\.cosign\/bundle/);
      await signed('logged', { log: { ...log, rekor: stranger } });
      await refuses('logged:1', /inclusion promise could not be verified/);
      const one = await pushed('logged');
      const payload = claim(one.digest, name('logged'));
      const [mine, theirs] = [cosign({ payload, by: key }), cosign({ payload: claim(one.digest, 'x'), by: key, log })];
      await attach('logged', one, { ...mine, annotations: { ...theirs.annotations, ...mine.annotations } });
      await refuses('logged:1', /signature mismatch/);
    });

    it('takes what somebody whom Fulcio knows has signed while the certificate was good', async () => {
      const issued = await authority.issue(EMAIL);
      const { certificate } = issued;
      const proof = { by: issued, certificate, chain: authority.intermediate + authority.root };
      const log = { rekor, keyOrCertificate: certificate };
      await signed('fulcio', { ...proof, log });
      await admits('fulcio:1');
      const late = new Date(Date.now() + 3 * 24 * 3600 * 1000);
      await signed('fulcio', { ...proof, log: { ...log, time: late } });
      await refuses('fulcio:1', /its certificate was not good when it was made/);
      await signed('fulcio', { ...proof, chain: authority.root, log });
      await refuses('fulcio:1', /its certificate is not of the authority of the rule/);
      await signed('fulcio', proof);
      await refuses('fulcio:1', /no annotation dev\.sigstore\.cosign\/bundle/);
      await signed('fulcio', { by: issued, log });
      await refuses('fulcio:1', /no annotation dev\.sigstore\.cosign\/certificate/);
      await signed('fulcio', { ...proof, by: key, log });
      await refuses('fulcio:1', /signature verification failed/);
      const twin = (await authority.issue(EMAIL)).certificate;
      await signed('fulcio', { ...proof, log: { ...log, keyOrCertificate: twin } });
      await refuses('fulcio:1', /its entry in the log is for another certificate/);
    });

    it('refuses certificates of others, of other authorities, and with what is not understood', async () => {
      const foreign = await makeAuthority(dir, 'foreign');
      for (const [issued, reason, from] of [
        [await authority.issue(MALLORY), /it is by "mallory@example\.com", not by release@example\.com/],
        [await authority.issue(EMAIL, { issuer: 'https://evil.example.com' }), /by the word of "https:\/\/evil/],
        [await foreign.issue(EMAIL), /not of the authority of the rule/, foreign],
        [await authority.issue(EMAIL, { extension: '1.2.3.4=critical,DER:0500' }), /not of the authority of the rule/],
      ] as const) {
        const { intermediate, root } = from ?? authority;
        const { certificate } = issued;
        const log = { rekor, keyOrCertificate: certificate };
        await signed('fulcio', { by: issued, certificate, chain: intermediate + root, log });
        await refuses('fulcio:1', reason);
      }
      // Whoever has a certificate can sign others with its key.
      const mallory = await authority.issue(MALLORY);
      const { certificate, ...forged } = await authority.issue(EMAIL, { by: mallory });
      const log = { rekor, keyOrCertificate: certificate };
      const chain = mallory.certificate + authority.intermediate;
      await signed('fulcio', { by: forged, certificate, chain, log });
      await refuses('fulcio:1', /not of the authority of the rule/);
      await signed('fulcio', { by: forged, certificate, chain: chain.repeat(3), log });
      await refuses('fulcio:1', /it comes with 6 certificates of others/);
    });

    /** Pushes a bundle that refers to the image, where a registry without the API keeps its list. */
    async function refer(repository: string, to: TestImage, bundle: object): Promise<void> {
      const list = referrersIndex([[bundleManifest(bundle, to), BUNDLE_TYPE]]);
      await push(registry.host, repository, to.digest.replace(':', '-'), list);
    }

    it('takes a bundle that refers to the image', async () => {
      const one = await pushed('bundle');
      const material = { publicKey: { hint: '' }, tlogEntries: [] };
      await refer('bundle', one, bundleOf(key, statement(one.digest), material));
      await admits('bundle:1');
      const other = await fresh();
      const predicateType = 'https://slsa.dev/provenance/v1';
      for (const [bundle, reason] of [
        [bundleOf(stranger, statement(one.digest), material), /it is not by a key of the rule/],
        [bundleOf(key, statement(other.digest), material), new RegExp(`it is of ${other.digest}`)],
        [bundleOf(key, statement(one.digest, { predicateType }), material), /provenance\/v1", which is no signature/],
        [{ mediaType: BUNDLE_TYPE }, /its signature is not accepted: /],
        [
          {
            mediaType: BUNDLE_TYPE,
            verificationMaterial: material,
            messageSignature: { messageDigest: { algorithm: 'SHA2_256', digest: 'AAAA' }, signature: 'AAAA' },
          },
          /its bundle has no DSSE envelope/,
        ],
        [
          bundleOf(key, statement(one.digest), {
            ...material,
            publicKey: undefined,
            certificate: { rawBytes: 'AAAA' },
          }),
          /its signature is not accepted: /,
        ],
      ] as const) {
        const again = await pushed('bundle', one);
        await refer('bundle', again, bundle);
        await refuses('bundle:1', reason);
      }
    });

    it('holds the name in a bundle to the identity, where there is one', async () => {
      const one = await pushed('cosign');
      const material = { publicKey: { hint: '' }, tlogEntries: [] };
      await refer('cosign', one, bundleOf(key, statement(one.digest), material));
      await refuses('cosign:1', /it does not say for what image it is, so that matchRepository cannot hold/);
      await refer('cosign', one, bundleOf(key, statement(one.digest, { name: name('cosign') }), material));
      await admits('cosign:1');
    });

    it('takes a bundle with a certificate and a promise of the log', async () => {
      const one = await pushed('bundle-fulcio');
      const issued = await authority.issue(EMAIL);
      const text = statement(one.digest);
      const unlogged = bundleOf(issued, text, {}) as {
        dsseEnvelope: { payload: string; signatures: [{ sig: string }] };
      };
      const { payload, signatures } = unlogged.dsseEnvelope;
      const hash = createHash('sha256').update(Buffer.from(payload, 'base64')).digest('hex');
      const verifier = Buffer.from(issued.certificate).toString('base64');
      const entry = (rekorKey: typeof rekor): object => {
        const { SignedEntryTimestamp, Payload } = promise(rekorKey, {
          apiVersion: '0.0.1',
          kind: 'dsse',
          spec: {
            payloadHash: { algorithm: 'sha256', value: hash },
            signatures: [{ signature: signatures[0].sig, verifier }],
          },
        });
        return {
          logIndex: `${Payload.logIndex}`,
          logId: { keyId: Buffer.from(Payload.logID, 'hex').toString('base64') },
          kindVersion: { kind: 'dsse', version: '0.0.1' },
          integratedTime: `${Payload.integratedTime}`,
          inclusionPromise: { signedEntryTimestamp: SignedEntryTimestamp },
          inclusionProof: { logIndex: '0', treeSize: '1', rootHash: hash, hashes: [], checkpoint: { envelope: 'x' } },
          canonicalizedBody: Payload.body,
        };
      };
      const der = (pem: string): string => pem.replace(/-----.*-----|\s/g, '');
      const withEntry = (entries: object[]): object => ({
        ...unlogged,
        verificationMaterial: { certificate: { rawBytes: der(issued.certificate) }, tlogEntries: entries },
      });
      await refer('bundle-fulcio', one, withEntry([entry(rekor)]));
      await admits('bundle-fulcio:1');
      const again = await push(registry.host, 'bundle-fulcio', '1', one);
      for (const [entries, reason] of [
        [[entry(stranger)], /inclusion promise could not be verified/],
        [[{ ...entry(rekor), inclusionPromise: undefined }], /expected 1 timestamps, got 0/],
        [[], /expected 1 timestamps, got 0/],
      ] as const) {
        await refer('bundle-fulcio', again, withEntry([...entries]));
        await refuses('bundle-fulcio:1', reason);
      }
    });
  });

  describe('an index', () => {
    it('may be signed itself, or the manifest for the platform, and all of what is pulled', async () => {
      const [amd, arm] = [await fresh(), await fresh(LINUX_ARM64)];
      const list = index([amd, arm]);
      await push(registry.host, 'cosign', '1', list);
      await refuses('cosign:1', /index sha256:\w+: it has no signature.*; manifest sha256:\w+: it has no signature/);
      const by = (one: TestImage): CosignSignature => cosign({ payload: claim(one.digest, name('cosign')), by: key });
      await attach('cosign', amd, by(amd));
      await admits('cosign:1', '&platform=linux/amd64');
      await refuses('cosign:1', new RegExp(`manifest ${arm.digest}: it has no signature`), '&platform=linux/arm64');
      await refuses('cosign:1', new RegExp(`manifest ${arm.digest}: it has no signature`), '&all-platforms=1');
      await attach('cosign', list, by(list));
      await admits('cosign:1', '&all-platforms=1');
    });
  });

  it('pulls what it has checked, whatever the tag says by then', async () => {
    const one = await signed('cosign');
    const evil = await fresh();
    await push(registry.host, 'cosign', 'evil', evil);
    // Whoever asks for the manifest that the tag names gets another one.
    proxy.inject({ path: new RegExp(`/manifests/${one.digest}$`), forwardTo: `/v2/cosign/manifests/${evil.digest}` });
    const { body } = await pull('cosign:1');
    proxy.reset();
    assert.match(body, /served the manifest of \S+ with digest|has sha256:\w+ where it was asked for/);
    assert.ok(!(await storeFiles(daemon.dataRoot)).blobs.includes(evil.digest));
  });

  it('wants all requirements of a rule', async () => {
    const one = await signed('both');
    await refuses('both:1', /requires signedBy: it has no signature/);
    await putSimple('both', one, await gpg.sign(simpleClaim(one.digest, name('both:1')), ALICE));
    await admits('both:1');
    await attach('both', one, cosign({ payload: claim(one.digest, name('both')), by: stranger }));
    await refuses('both:1', /requires sigstoreSigned: its signature is not accepted/);
  });

  it('says why to the docker CLI and to layerctl', { skip: needs('docker') }, async () => {
    await pushed('elsewhere');
    const message = /refused by the signature policy/;
    assert.match(failed(await daemon.docker('pull', name('elsewhere:1'))), message);
    assert.match(failed(await daemon.layerctl('pull', name('elsewhere:1'))), message);
  });

  it('holds archives to the rules of their transports', { skip: needs('docker') }, async () => {
    await pushed('open');
    await admits('open:1');
    const archive = join(dir, 'open.tar');
    succeeded(await daemon.docker('save', '-o', archive, name('open:1')));
    assert.match(
      failed(await daemon.docker('load', '-i', archive)),
      /load \(oci-archive\) refused by the signature policy/,
    );
    assert.match(failed(await daemon.docker('import', archive)), /import \(tarball\) refused by the signature policy/);
  });

  it('takes on another policy at a reload, and keeps the present one where the next is wrong', async () => {
    await pushed('elsewhere');
    const config = { 'signature-policy': join(dir, 'next.json') };
    await writeFile(daemon.configFile, JSON.stringify(config));
    const reload = async (policy: unknown, expected: RegExp): Promise<void> => {
      await writeFile(config['signature-policy'], JSON.stringify(policy));
      const before = daemon.log.length;
      process.kill(daemon.process.child.pid ?? 0, 'SIGHUP');
      await daemon.process.until('the reload', ({ stdout, stderr }) => expected.test((stdout + stderr).slice(before)));
    };
    await reload({ default: [] }, /not reloaded.*default has no requirement/);
    await refuses('elsewhere:1', /rejects it/);
    await reload({ default: [{ type: 'insecureAcceptAnything' }] }, /configuration reloaded/);
    await admits('elsewhere:1');
  });
});
