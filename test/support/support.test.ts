import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { artifact, attestation, bulk, image, index, layer, noise, push } from './images.ts';
import { must, needs, Running, scratch } from './process.ts';
import { startProxy } from './proxy.ts';
import { ACCOUNT, startRegistry } from './registry.ts';

const SKIP = needs('docker-registry', 'skopeo');

async function body(url: string, headers: Record<string, string> = {}): Promise<Buffer> {
  return Buffer.from(await (await fetch(url, { headers })).arrayBuffer());
}

describe('the test support', { skip: SKIP }, () => {
  it('makes images that skopeo accepts, in every format and compression', async () => {
    await using registry = await startRegistry();
    await using dir = await scratch('skopeo');
    for (const format of ['docker', 'oci'] as const) {
      for (const compression of ['gzip', 'zstd', 'none'] as const) {
        // Docker's own media types have a zstd layer that skopeo does not know.
        if (format === 'docker' && compression === 'zstd') continue;
        const base = await layer([{ name: 'etc/' }, { name: 'etc/name', content: format }], { compression });
        const made = image({ layers: [base], format });
        const listed = [made, ...(format === 'oci' ? [attestation(made)] : [])];
        await push(registry.host, 'library/sample', compression, index(listed, { format }));
        const source = `docker://${registry.host}/library/sample:${compression}`;
        const target = `dir:${dir.path}/${format}-${compression}`;
        await must('skopeo', ['copy', '--src-tls-verify=false', source, target]);
        const inspected = await must('skopeo', ['inspect', '--tls-verify=false', source]);
        assert.match(inspected, new RegExp(base.digest));
      }
    }
    await push(registry.host, 'things', 'config-only', artifact('application/vnd.example'));
  });

  it('asks for the account it was told to ask for', async () => {
    for (const auth of [{ htpasswd: true }, { tokenAuth: { anonymousPull: false } }, { tokenAuth: true, tls: true }]) {
      await using registry = await startRegistry(auth);
      const credentials = `${ACCOUNT.username}:${ACCOUNT.password}`;
      const common = ['copy', '--dest-tls-verify=false', '--dest-creds'];
      await using dir = await scratch('auth');
      await must('sh', [
        '-c',
        'mkdir -p "$1/a" && echo x > "$1/a/x" && tar -C "$1/a" -cf "$1/a.tar" .',
        'sh',
        dir.path,
      ]);
      await must('skopeo', [...common, credentials, `tarball:${dir.path}/a.tar`, `docker://${registry.host}/a:1`]);
      const wrong = new Running('skopeo', [
        ...common,
        `${ACCOUNT.username}:wrong`,
        `tarball:${dir.path}/a.tar`,
        `docker://${registry.host}/a:2`,
      ]);
      assert.notEqual((await wrong.exited).code, 0);
    }
  });

  it('counts requests and strikes with each fault', async () => {
    await using registry = await startRegistry();
    await using proxy = await startProxy(registry);
    const big = await bulk('big', 300_000);
    await push(registry.host, 'a', '1', image({ layers: [big] }));
    const url = `${proxy.url}/v2/a/blobs/${big.digest}`;
    assert.deepEqual(await body(url), big.bytes);
    assert.equal(proxy.blobRequests(big.digest).length, 1);
    assert.equal(proxy.seen[0]?.bytes, big.bytes.length);

    proxy.inject({ path: /blobs/, cutAfter: 1000, times: 1 });
    await assert.rejects(body(url));
    assert.equal(proxy.seen.at(-1)?.bytes, 1000);
    const ranged = await fetch(url, { headers: { range: 'bytes=1000-' } });
    assert.equal(ranged.status, 206);
    assert.deepEqual(Buffer.from(await ranged.arrayBuffer()), big.bytes.subarray(1000));

    const free = proxy.inject({ path: /blobs/, ignoreRange: true });
    assert.equal((await fetch(url, { headers: { range: 'bytes=1000-' } })).status, 200);
    free();

    proxy.reset();
    proxy.inject({ path: /blobs/, corruptAt: 70_000, times: 1 });
    const corrupt = await body(url);
    assert.deepEqual(
      [...corrupt.keys()].filter((at) => corrupt[at] !== big.bytes[at]),
      [70_000],
    );

    proxy.inject({ path: /blobs/, answer: { status: 429, headers: { 'Retry-After': '1' } }, times: 1 });
    assert.equal((await fetch(url)).status, 429);

    let release = (): void => undefined;
    proxy.inject({
      path: /blobs/,
      stallAfter: 5000,
      until: new Promise<void>((resolve) => (release = resolve)),
      times: 1,
    });
    const stalled = body(url);
    await proxy.until('the stall', (seen) => seen.at(-1)?.bytes === 5000);
    release();
    assert.deepEqual(await stalled, big.bytes);
    assert.deepEqual(await body(url), big.bytes);
  });

  it('damages blobs where the registry keeps them', async () => {
    await using registry = await startRegistry();
    const some = await layer([{ name: 'x', content: noise('x', 100) }]);
    await push(registry.host, 'a', '1', image({ layers: [some] }));
    assert.equal((await must('sha256sum', [registry.blobPath(some.digest)])).slice(0, 64), some.digest.slice(7));
  });
});
