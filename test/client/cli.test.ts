import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { describe, it } from 'node:test';
import { ConnectionError } from '../../src/client/errors.ts';
import { explain } from '../../src/client/explain.ts';
import { Interruption } from '../../src/client/interruption.ts';
import type { LayerReport } from '../../src/protocol/engine.ts';
import { MediaType } from '../../src/protocol/media-types.ts';
import { json, layerctl, scriptedEngine, stream, temporaryDirectory, type CliOptions, type Script } from './support.ts';

const digest = (digit: string): `sha256:${string}` => `sha256:${digit.repeat(64)}`;
const now = Date.parse('2026-01-15T12:00:00Z');
const created = now / 1000 - 3600 * 24 * 21;

const redis = {
  Id: digest('a'),
  ParentId: '',
  RepoTags: ['redis:7', 'localhost:5000/redis:7'],
  RepoDigests: [`redis@${digest('b')}`],
  Created: created,
  Size: 209_055_764,
  SharedSize: 116_667_787,
  Labels: {},
  Containers: -1,
};
const dangling = { ...redis, Id: digest('c'), RepoTags: [], RepoDigests: [], SharedSize: -1, Created: -62_135_596_800 };
const byDigest = { ...redis, Id: digest('d'), RepoTags: [], RepoDigests: [`app@${digest('e')}`], SharedSize: -1 };

describe('layerctl', () => {
  /** Runs it against an engine that answers with the script. */
  async function run(
    context: Parameters<typeof scriptedEngine>[0],
    script: Script,
    argv: readonly string[],
    options: CliOptions & { apiVersion?: string } = {},
  ) {
    const engine = await scriptedEngine(context, script, options.apiVersion);
    const result = await layerctl(argv, { ...options, env: { LAYERD_HOST: engine.host, TZ: 'UTC', ...options.env } });
    return { ...result, seen: engine.seen, host: engine.host };
  }

  const listing: Script = (_request, response) => json(response, [redis, dangling, byDigest]);

  it('hands on the trace that the environment names, and nothing that is none', async (context) => {
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    const sent = async (env: Record<string, string>): Promise<unknown[]> => {
      const { seen, status } = await run(context, listing, ['images'], { env });
      assert.equal(status, 0);
      const { headers } = seen.at(-1) ?? assert.fail();
      return [headers['traceparent'], headers['tracestate']];
    };
    assert.deepEqual(await sent({ TRACEPARENT: traceparent, TRACESTATE: 'a=1' }), [traceparent, 'a=1']);
    assert.deepEqual(await sent({ TRACEPARENT: traceparent, TRACESTATE: 'a\nb' }), [traceparent, undefined]);
    for (const none of ['', 'nonsense', `${traceparent}\nX-Other: 1`]) {
      assert.deepEqual(await sent({ TRACEPARENT: none, TRACESTATE: 'a=1' }), [undefined, undefined]);
    }
  });

  it('images lists a row for each name', async (context) => {
    const { out, status } = await run(context, listing, ['images']);
    assert.equal(status, 0);
    assert.deepEqual(out.split('\n'), [
      'REPOSITORY             TAG       IMAGE ID       CREATED       SIZE',
      'redis                  7         aaaaaaaaaaaa   3 weeks ago   209MB',
      'localhost:5000/redis   7         aaaaaaaaaaaa   3 weeks ago   209MB',
      '<none>                 <none>    cccccccccccc   N/A           209MB',
      'app                    <none>    dddddddddddd   3 weeks ago   209MB',
      '',
    ]);
  });

  it('images --digests has the digest of each repository', async (context) => {
    const { out, seen } = await run(context, listing, [
      'image',
      'ls',
      '--digests',
      '--format',
      '{{.Repository}} {{.Digest}}',
    ]);
    assert.deepEqual(out.split('\n').slice(0, 4), [
      `redis ${digest('b')}`,
      'localhost:5000/redis <none>',
      '<none> <none>',
      `app ${digest('e')}`,
    ]);
    assert.equal(seen[0]?.query.get('digests'), '1');
  });

  it('images passes filters on and asks for what the format shows', async (context) => {
    const { out, seen } = await run(context, listing, [
      'images',
      '-a',
      '-f',
      'label=a',
      '--filter=label=b=c',
      '--format',
      '{{.ID}} {{.UniqueSize}}',
      '--no-trunc',
      'redis:*',
    ]);
    assert.deepEqual(JSON.parse(seen[0]?.query.get('filters') ?? ''), { label: ['a', 'b=c'], reference: ['redis:*'] });
    assert.equal(seen[0]?.query.get('all'), '1');
    assert.equal(seen[0].query.get('shared-size'), '1');
    assert.equal(out.split('\n')[0], `${digest('a')} 92.39MB`);
    assert.equal(out.split('\n')[2], `${digest('c')} N/A`);
  });

  it('images -q shows IDs alone', async (context) => {
    const { out } = await run(context, listing, ['images', '-q']);
    assert.equal(out, 'aaaaaaaaaaaa\naaaaaaaaaaaa\ncccccccccccc\ndddddddddddd\n');
  });

  it('images --tree shows the platforms of each image', async (context) => {
    const manifest = (os: string, content: number, Kind = 'image') => ({
      ID: digest('f'),
      Descriptor: { mediaType: 'm', digest: digest('f'), size: 1 },
      Available: content > 0,
      Size: { Content: content, Total: content * 2 },
      Kind,
      ...(Kind === 'image'
        ? { ImageData: { Platform: { os, architecture: 'arm', variant: 'v7' }, Containers: [], Size: { Unpacked: 1 } } }
        : {}),
    });
    const image = {
      ...redis,
      Manifests: [manifest('linux', 5e6), manifest('windows', 0), manifest('', 1, 'attestation')],
    };
    const { out, seen } = await run(context, (_request, response) => json(response, [image]), ['images', '--tree']);
    assert.equal(seen[0]?.query.get('manifests'), '1');
    assert.deepEqual(out.split('\n'), [
      'IMAGE                    ID             DISK USAGE   CONTENT SIZE   USED',
      'redis:7',
      'localhost:5000/redis:7   aaaaaaaaaaaa        209MB            5MB',
      '├─ linux/arm/v7          ffffffffffff         10MB            5MB',
      '└─ windows/arm/v7        ffffffffffff           0B             0B',
      '',
    ]);
  });

  it('history shows steps for people, and exactly with --human=false', async (context) => {
    const steps: Script = (_request, response) =>
      json(response, [
        {
          Id: digest('a'),
          Created: created,
          CreatedBy: `RUN\t${'x'.repeat(60)}`,
          Tags: null,
          Size: 92_383_675,
          Comment: '',
        },
        { Id: '<missing>', Created: created, CreatedBy: 'ADD', Tags: null, Size: 0, Comment: 'base' },
      ]);
    const human = await run(context, steps, ['history', 'redis']);
    assert.deepEqual(human.out.split('\n'), [
      'IMAGE          CREATED       CREATED BY                                      SIZE      COMMENT',
      `aaaaaaaaaaaa   3 weeks ago   RUN ${'x'.repeat(40)}…   92.4MB    `,
      '<missing>      3 weeks ago   ADD                                             0B        base',
      '',
    ]);
    const exact = await run(context, steps, [
      'history',
      '-H=false',
      '--no-trunc',
      '--format',
      '{{.ID}} {{.Size}}',
      'redis',
    ]);
    assert.equal(exact.out, `${digest('a')} 92383675\n<missing> 0\n`);
    assert.equal((await run(context, steps, ['history', '-q', 'redis'])).out, 'aaaaaaaaaaaa\n<missing>\n');
  });

  it('inspect prints what it found and fails for what it did not', async (context) => {
    const script: Script = ({ path }, response) =>
      path === '/images/redis:7/json'
        ? json(response, { Id: digest('a'), Os: 'linux', Big: 1 })
        : json(response, { message: 'No such image: nope:latest' }, 404);
    const { out, err, status } = await run(context, script, ['inspect', 'nope', 'redis:7']);
    assert.equal(
      out,
      `[\n    {\n        "Id": "${digest('a')}",\n        "Os": "linux",\n        "Big": 1\n    }\n]\n`,
    );
    assert.equal(err, 'layerctl: No such image: nope:latest\n');
    assert.equal(status, 1);
    const formatted = await run(context, script, ['image', 'inspect', '-f', '{{.Os}}{{.Variant}}', 'redis:7', 'nope']);
    assert.deepEqual([formatted.out, formatted.status], ['linux\n', 1]);
  });

  it('inspect --layers shows the three identities, the sizes, and who shares', async (context) => {
    const layer = (digit: string, sharedWith: string[]): LayerReport => ({
      diffId: digest(digit),
      layerDigest: digest('1'),
      chainId: digest('2'),
      mediaType: MediaType.ociLayerZstd,
      blobSize: 1_000_000,
      size: 3_000_000,
      imageSize: 2_000_000,
      sharedWith,
    });
    const script: Script = (_request, response) =>
      json(response, [layer('a', ['debian:12', 'node:18']), layer('b', []), layer('b', [])]);
    const { out, seen } = await run(context, script, ['inspect', '--layers', 'redis:7']);
    assert.equal(seen[0]?.path, '/layerd/images/redis:7/layers');
    const lines = out.split('\n');
    assert.match(
      lines[0] ?? '',
      /^LAYER +DIFF ID +LAYER DIGEST +CHAIN ID +BLOB +UNPACKED +STORED +MEDIA TYPE +SHARED WITH$/,
    );
    assert.match(
      lines[1] ?? '',
      /^1 +a{12} +1{12} +2{12} +1MB +3MB +2MB +application\/vnd\.oci\.image\.layer\.v1\.tar\+zstd +debian:12, node:18$/,
    );
    assert.match(lines[2] ?? '', /^2 +b{12} .* -$/);
    assert.equal(lines[5], 'In all 2 layers, 6MB on the disk; not shared: 1 layer, 3MB on the disk.');
    const ids = await run(context, script, [
      'inspect',
      '--layers',
      '-f',
      '{{range .}}{{println .diffId}}{{end}}',
      'redis:7',
    ]);
    assert.deepEqual(ids.out.trim().split('\n'), [digest('a'), digest('b'), digest('b')]);
  });

  it('rmi goes on after a failure and fails in the end', async (context) => {
    const script: Script = ({ path }, response) =>
      path === '/images/a'
        ? json(response, { message: 'conflict: unable to delete a (must force)' }, 409)
        : json(response, [{ Untagged: 'b:1' }, { Deleted: digest('b') }]);
    const { out, err, status, seen } = await run(context, script, ['rmi', '-f', '--no-prune', 'a', 'b']);
    assert.equal(out, `Untagged: b:1\nDeleted: ${digest('b')}\n`);
    assert.equal(err, 'layerctl: conflict: unable to delete a (must force)\n');
    assert.equal(status, 1);
    assert.deepEqual(
      seen.map(({ query }) => query.toString()),
      ['force=1&noprune=1', 'force=1&noprune=1'],
    );
  });

  const pulling: Script = (_request, response) =>
    stream(response, [
      { status: 'Pulling from library/redis', id: 'latest' },
      { status: 'Downloading', id: 'aaa', progressDetail: { current: 1, total: 2 } },
      { status: 'Pull complete', id: 'aaa', progressDetail: {} },
      { status: 'Status: Downloaded newer image for redis:latest' },
    ]);

  it('pull prints a line for each change, and the whole name', async (context) => {
    const { out, err, status } = await run(context, pulling, ['pull', 'redis']);
    assert.deepEqual(out.split('\n'), [
      'Using default tag: latest',
      'latest: Pulling from library/redis',
      'aaa: Pull complete',
      'Status: Downloaded newer image for redis:latest',
      'docker.io/library/redis:latest',
      '',
    ]);
    assert.deepEqual([err, status], ['', 0]);
    assert.equal(
      (await run(context, pulling, ['image', 'pull', '-q', 'localhost:5000/a:1'])).out,
      'localhost:5000/a:1\n',
    );
    assert.match((await run(context, pulling, ['pull', '-a', 'team/app'])).out, /\ndocker\.io\/team\/app\n$/);
  });

  it('pull sends the user’s credentials for the registry and shows them nowhere', async (context) => {
    const directory = await temporaryDirectory(context);
    const auth = Buffer.from('ann:s3cret').toString('base64');
    await writeFile(join(directory, 'config.json'), JSON.stringify({ auths: { 'r.example.com': { auth } } }));
    const failing: Script = (_request, response) => json(response, { message: 'denied' }, 403);
    const { seen, out, err } = await run(context, failing, ['--config', directory, '-D', 'pull', 'r.example.com/a:1']);
    const header = Buffer.from(String(seen[0]?.headers['x-registry-auth']), 'base64url').toString();
    assert.deepEqual(JSON.parse(header), { username: 'ann', password: 's3cret', serveraddress: 'r.example.com' });
    assert.doesNotMatch(out + err, /s3cret/);
    const other = await run(context, failing, ['--config', directory, 'pull', 'r2.example.com/a:1']);
    assert.equal(other.seen[0]?.headers['x-registry-auth'], undefined);
  });

  it('pull goes on without credentials when the helper is missing, and says so', async (context) => {
    const directory = await temporaryDirectory(context);
    await writeFile(join(directory, 'config.json'), '{"credsStore":"missing"}');
    const { err, status } = await run(context, pulling, ['pull', 'redis:7'], { env: { DOCKER_CONFIG: directory } });
    assert.match(
      err,
      /^layerctl: the credential helper docker-credential-missing is not installed; going on without credentials\n$/,
    );
    assert.equal(status, 0);
  });

  it('pull fails with the reason that the stream gives', async (context) => {
    const script: Script = (_request, response) =>
      stream(response, [{ status: 'x' }, { errorDetail: { message: 'no space' } }]);
    const { err, status } = await run(context, script, ['pull', 'redis:7']);
    assert.deepEqual([err, status], ['layerctl: no space\n', 1]);
  });

  it('pull says when interrupted that it can go on', async (context) => {
    const interruption = new AbortController();
    const script: Script = (_request, response) => {
      response.writeHead(200).write('{"status":"x"}\n');
      setImmediate(() => interruption.abort(new Interruption('SIGINT')));
    };
    const { err, status } = await run(context, script, ['pull', 'redis:7'], { signal: interruption.signal });
    assert.deepEqual(
      [err, status],
      ['layerctl: interrupted; what has arrived is kept: run the same command again to go on from there\n', 130],
    );
  });

  it('push prints a line for each change, and with -q the name alone', async (context) => {
    const script: Script = ({ path }, response) => {
      if (!path.endsWith('/push')) return;
      stream(response, [
        { status: 'The push refers to repository [docker.io/team/app]' },
        { status: 'Preparing', progressDetail: {}, id: 'aaa' },
        { status: 'Pushing', progressDetail: { current: 5, total: 10 }, id: 'aaa' },
        { status: 'Pushed', progressDetail: {}, id: 'aaa' },
        { status: '1: digest: sha256:b size: 9' },
        { progressDetail: {}, aux: { Tag: '1', Digest: 'sha256:b', Size: 9 } },
      ]);
    };
    const { seen, out, err, status } = await run(context, script, ['push', 'team/app:1']);
    assert.deepEqual([status, err], [0, '']);
    assert.equal(
      out,
      'The push refers to repository [docker.io/team/app]\naaa: Preparing\naaa: Pushed\n1: digest: sha256:b size: 9\n',
    );
    assert.deepEqual([seen[0]?.path, seen[0]?.query.get('tag')], ['/images/team/app/push', '1']);
    assert.equal(seen[0]?.headers['x-registry-auth'], 'e30=');
    assert.equal((await run(context, script, ['image', 'push', '-q', 'team/app:1'])).out, 'docker.io/team/app:1\n');
    const all = await run(context, script, ['push', '-a', 'team/app']);
    assert.deepEqual([all.seen[0]?.query.has('tag'), all.status], [false, 0]);
    const one = await run(context, script, ['push', '--platform', 'linux/arm64', 'team/app']);
    assert.match(one.out, /^Using default tag: latest\n/);
    assert.deepEqual(JSON.parse(one.seen[0]?.query.get('platform') ?? ''), { os: 'linux', architecture: 'arm64' });
    for (const args of [['-a', 'team/app:1'], [`team/app@sha256:${'a'.repeat(64)}`]]) {
      const refused = await run(context, script, ['push', ...args]);
      assert.deepEqual([refused.status, refused.seen.length], [2, 0], args.join(' '));
    }
  });

  it('push says what was pushed in place of an index, what a registry refuses, and that it was stopped', async (context) => {
    const aux = {
      manifestPushedInsteadOfIndex: true,
      originalIndex: { digest: 'sha256:whole' },
      selectedManifest: { digest: 'sha256:part' },
    };
    const noted: Script = (_request, response) => stream(response, [{ progressDetail: {}, aux }]);
    const note = await run(context, noted, ['push', 'app:1']);
    assert.match(note.err, /^layerctl: note: not all platforms of sha256:whole .* instead: sha256:part\n$/);
    assert.equal(note.status, 0);
    const refusing: Script = (_request, response) =>
      stream(response, [{ status: 'x' }, { errorDetail: { message: 'denied: no' }, error: 'denied: no' }]);
    const refused = await run(context, refusing, ['push', 'app:1']);
    assert.deepEqual([refused.status, refused.err], [1, 'layerctl: denied: no\n']);
    const interruption = new AbortController();
    const hanging: Script = (_request, response) => {
      response.writeHead(200).write('{"status":"x"}\n');
      setImmediate(() => interruption.abort(new Interruption('SIGINT')));
    };
    const stopped = await run(context, hanging, ['push', 'app:1'], { signal: interruption.signal });
    assert.equal(stopped.status, 130);
    assert.match(stopped.err, /^layerctl: interrupted; /);
  });

  it('tag asks for the repository and tag that the target names, and refuses what cannot be one', async (context) => {
    const script: Script = ({ path }, response) => {
      if (path === '/images/team/app:1/tag') response.writeHead(201).end();
    };
    const { seen, out, status } = await run(context, script, ['tag', 'team/app:1', 'localhost:5000/app']);
    assert.deepEqual([status, out, seen[0]?.method], [0, '', 'POST']);
    assert.deepEqual(Object.fromEntries(seen[0]?.query ?? []), { repo: 'localhost:5000/app', tag: 'latest' });
    const digest = `sha256:${'a'.repeat(64)}`;
    for (const target of ['App', `app@${digest}`]) {
      const refused = await run(context, script, ['image', 'tag', 'team/app:1', target]);
      assert.deepEqual([refused.status, refused.seen.length], [2, 0], target);
    }
    assert.equal((await run(context, script, ['tag', 'nothing', 'app'])).status, 1);
  });

  it('manifest inspect prints the document, and with --verbose each manifest', async (context) => {
    const manifest = JSON.stringify({ schemaVersion: 2, mediaType: MediaType.dockerManifest, layers: [] });
    const child = `sha256:${createHash('sha256').update(manifest).digest('hex')}`;
    const platform = { os: 'linux', architecture: 'amd64' };
    const index = JSON.stringify({ schemaVersion: 2, manifests: [{ digest: child, size: 1, platform }] });
    const script: Script = ({ path }, response) => {
      if (path.startsWith('/distribution/')) {
        json(response, { Descriptor: {}, Platforms: [platform] });
        return;
      }
      const isIndex = path === '/layerd/manifests/team/app:1';
      const [type, body] = isIndex ? [MediaType.ociIndex, index] : [MediaType.dockerManifest, manifest];
      const name = isIndex ? digest('1') : child;
      response.writeHead(200, { 'Content-Type': type, 'Docker-Content-Digest': name }).end(body);
    };
    const plain = await run(context, script, ['manifest', 'inspect', '--insecure', 'team/app:1']);
    assert.equal(plain.out, `${JSON.stringify(JSON.parse(index), null, '\t')}\n`);
    const entry = (Ref: string) => ({
      Ref,
      Descriptor: { mediaType: MediaType.dockerManifest, digest: child, size: manifest.length, platform },
      Raw: Buffer.from(manifest).toString('base64'),
      SchemaV2Manifest: JSON.parse(manifest) as unknown,
    });
    const verbose = await run(context, script, ['manifest', 'inspect', '-v', 'team/app:1']);
    assert.deepEqual(JSON.parse(verbose.out), [entry(`docker.io/team/app:1@${child}`)]);
    const single = await run(context, script, ['manifest', 'inspect', '-v', 'team/single']);
    assert.deepEqual(JSON.parse(single.out), entry('docker.io/team/single:latest'));
  });

  it('events prints a line for each, with every digit of its time', async (context) => {
    const event =
      '{"Type":"image","Action":"pull","Actor":{"ID":"redis:7","Attributes":{"name":"redis","a":"b"}},"scope":"local","time":1795472470,"timeNano":1795472470827219021}';
    const script: Script = (_request, response) => void response.writeHead(200).end(`${event}\n${event}\n`);
    const plain = await run(context, script, [
      'events',
      '--since',
      '1h',
      '--until',
      '2026-01-15T12:00:00Z',
      '-f',
      'type=image',
    ]);
    assert.match(plain.out, /^\S+T\S+\.827219021\S+ image pull redis:7 \(a=b, name=redis\)\n/);
    assert.deepEqual(Object.fromEntries(plain.seen[0]?.query ?? []), {
      since: '1768474800.000000000',
      until: '1768478400.000000000',
      filters: '{"type":["image"]}',
    });
    assert.equal((await run(context, script, ['events', '--format', 'json'])).out, `${event}\n${event}\n`);
    const fields = await run(context, script, ['events', '--format', '{{.TimeNano}} {{.Actor.ID}} {{.Status}}|']);
    assert.equal(fields.out.split('\n')[0], '1795472470827219021 redis:7 |');
  });

  it('info shows the daemon and its registries’ limits', async (context) => {
    const script: Script = ({ path }, response) => {
      if (path === '/info') {
        json(response, {
          Images: 3,
          Driver: 'erofs',
          DriverStatus: [['Layers', '7']],
          MemTotal: 25_276_030_976,
          DockerRootDir: '/var/lib/layerd',
          RegistryConfig: { InsecureRegistryCIDRs: ['127.0.0.0/8'], Mirrors: ['https://m'], IndexConfigs: {} },
          Warnings: ['WARNING: old kernel'],
        });
        return;
      }
      json(response, [
        {
          registry: 'docker.io',
          rateLimit: { limit: 100, remaining: 7, source: '1.2.3.4', at: '2026-01-15T11:00:00Z' },
        },
        { registry: 'localhost:5000' },
      ]);
    };
    const { out, err } = await run(context, script, ['info']);
    for (const line of [
      ' Images: 3',
      ' Storage Driver: erofs',
      '  Layers: 7',
      ' Total Memory: 23.54GiB',
      ' Docker Root Dir: /var/lib/layerd',
      ' Insecure Registries:\n  127.0.0.0/8',
      ' Registry Mirrors:\n  https://m',
      ' Registry Rate Limits:\n  docker.io: 7 of 100 pulls left for 1.2.3.4 (as of 2026-01-15T11:00:00Z)',
    ]) {
      assert.ok(out.includes(`\n${line}\n`), line);
    }
    assert.equal(err, 'WARNING: old kernel\n');
    const field = await run(context, script, ['info', '-f', '{{.Driver}} {{len .Registries}}']);
    assert.equal(field.out, 'erofs 2\n');
  });

  it('version shows the client also when the daemon is not there', async (context) => {
    const directory = await temporaryDirectory(context);
    const { out, err, status } = await layerctl(['-H', `unix://${directory}/none.sock`, 'version']);
    assert.match(out, /^Client: layerctl\n Version: +\d/);
    assert.match(
      err,
      /^layerctl: cannot reach the daemon at unix:\/\/.*none\.sock: there is no such socket; start it with 'layerd', or name another daemon/,
    );
    assert.equal(status, 1);
  });

  it('ping says how fast the daemon answers, and fails when it does not', async (context) => {
    const { out, status } = await run(context, () => undefined, ['ping']);
    assert.match(out, /^scripted at unix:\S+ answered in \d+\.\d ms \(API 1\.56\)\n$/);
    assert.equal(status, 0);
    assert.equal((await layerctl(['-H', 'unix:///nonexistent/x.sock', 'ping', '-q'])).status, 1);
  });

  it('says who listens, when nobody answers on TCP', async () => {
    const closed = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => closed.once('listening', resolve));
    const { port } = closed.address() as { port: number };
    await new Promise((resolve) => closed.close(resolve));
    const { err } = await layerctl(['-H', `tcp://127.0.0.1:${port}`, 'ping']);
    assert.match(
      err,
      /cannot reach the daemon at tcp:\/\/127\.0\.0\.1:\d+: nothing listens there; check that it runs there/,
    );
  });

  it('says which group may use a socket that is closed to the user', async (context) => {
    const directory = await temporaryDirectory(context);
    const socket = createServer().listen(join(directory, 's'));
    context.after(() => socket.close());
    const denied = Object.assign(new Error('connect EACCES'), { code: 'EACCES' });
    const text = await explain(new ConnectionError(`unix://${directory}/s`, denied));
    assert.match(
      text,
      /^permission denied on unix:\S+: (?:its group is '\S+'; run 'sudo usermod -aG|only root may use it)/,
    );
  });

  for (const [argv, message] of [
    [['imagez'], /^layerctl: unknown command 'imagez'; did you mean .*images/],
    [
      ['images', '--digest'],
      /^layerctl: unknown option '--digest'; did you mean --digests\?\nRun 'layerctl images --help'/,
    ],
    [['image', 'nope'], /^layerctl: unknown command 'nope'/],
    [['rmi'], /^layerctl: missing required argument 'IMAGE'\nRun 'layerctl rmi --help'/],
    [['images', 'a', 'b'], /^layerctl: too many arguments/],
    [['pull', 'Not/Valid'], /^layerctl: invalid reference format: repository name \(\S+\) must be lowercase\n$/],
    [['pull', '-a', 'redis:7'], /neither a tag nor a digest/],
    [['images', '--filter', 'x'], /^layerctl: bad filter 'x'/],
    [['images', '--format', '{{.Nope'], /^layerctl: --format: '\{\{' is not closed/],
    [['images', '--tree', '-q'], /--tree and --quiet exclude each other/],
    [['inspect', '--platform', 'linux', 'a'], /^layerctl: invalid platform 'linux'/],
    [['events', '--since', 'never'], /never/],
    [['-H', 'nowhere', 'ping'], /^layerctl: invalid daemon host 'nowhere'/],
    [['completion', 'tcsh'], /there is for bash, zsh, fish/],
  ] as const) {
    it(`${argv.join(' ')} is a mistake, told in one line, with status 2`, async (context) => {
      const { err, out, status } = await run(context, listing, argv);
      assert.match(err, message);
      assert.deepEqual([out, status], ['', 2]);
    });
  }

  it('ends quietly when its reader is gone', async (context) => {
    const stdout = new Writable({
      write(_chunk, _encoding, done) {
        done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
      },
    });
    const { err, status } = await run(context, listing, ['images'], { stdout });
    assert.deepEqual([err, status], ['', 141]);
  });

  it('says of what layerd alone has that another engine has not', async (context) => {
    for (const args of [
      ['inspect', '--layers', 'redis:7'],
      ['manifest', 'inspect', 'redis:7'],
      ['copy', 'redis:7', 'localhost:5000/redis:7'],
      ['pull', '-q', '--all-platforms', 'redis:7'],
    ]) {
      const { err, status, seen } = await run(context, () => undefined, args);
      assert.match(
        err,
        /^layerctl: the engine at unix:\/\/\S+ is not layerd but scripted, and does not (tell of|copy|pull) \w+ .*\n$/,
      );
      assert.equal(status, 1);
      // It would pull one platform and not say so.
      assert.ok(seen.every(({ path }) => path !== '/images/create'));
    }
  });

  it('says when the disk it writes to is full', async (context) => {
    const stdout = new Writable({
      write(_chunk, _encoding, done) {
        done(Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }));
      },
    });
    const { err, status } = await run(context, listing, ['images'], { stdout });
    assert.equal(err, 'layerctl: cannot write the output: no space left on its device\n');
    assert.equal(status, 1);
  });

  it('teaches: every command’s help has its options, examples and other names', async () => {
    const { COMMANDS } = await import('../../src/client/commands/table.ts');
    const { out: all } = await layerctl(['--help']);
    for (const { paths, summary, options, examples } of COMMANDS) {
      const { out, status } = await layerctl([...paths[0].split(' '), '--help']);
      assert.equal(status, 0);
      for (const [line] of examples) assert.ok(out.includes(line), `${paths[0]}: ${line}`);
      for (const { flags } of options) assert.ok(out.includes(flags), `${paths[0]}: ${flags}`);
      for (const other of paths.slice(1)) assert.ok(out.includes(`layerctl ${other}\n`), other);
      if (!paths[0].includes(' ')) assert.ok(all.replace(/\s+/g, ' ').includes(summary), summary);
    }
    assert.equal((await layerctl([])).out, all);
    assert.equal((await layerctl(['help', 'pull'])).out, (await layerctl(['pull', '--help'])).out);
    assert.match((await layerctl(['--version'])).out, /^layerctl version \d+\.\d+\.\d+\n$/);
  });

  it('has a reference that names every command, option, function and exit status', async () => {
    const { COMMANDS, GLOBAL_OPTIONS } = await import('../../src/client/commands/table.ts');
    const { FUNCTIONS } = await import('../../src/client/format/functions.ts');
    const { Exit } = await import('../../src/client/commands/command.ts');
    const reference = await readFile(new URL('../../docs/layerctl.md', import.meta.url), 'utf8');
    const plainFlags = (flags: string): string => flags.replace(/<(\S+)>/, '$1');
    for (const { flags } of GLOBAL_OPTIONS) assert.ok(reference.includes(`\`${plainFlags(flags)}\``), flags);
    for (const { paths, options } of COMMANDS) {
      const [, section = ''] = reference.split(`\n### layerctl ${paths[0]} `);
      const text = section.split('\n### ')[0] ?? '';
      for (const { flags } of options) assert.ok(text.includes(`\`${plainFlags(flags)}\``), `${paths[0]} ${flags}`);
      for (const other of paths.slice(1)) assert.ok(text.includes(`\`layerctl ${other}\``), other);
    }
    for (const name of Object.keys(FUNCTIONS)) assert.match(reference, new RegExp(`\\x60${name}[ \\x60]`));
    for (const status of Object.values(Exit)) assert.match(reference, new RegExp(`^\\| ${status} +\\|`, 'm'));
  });
});
