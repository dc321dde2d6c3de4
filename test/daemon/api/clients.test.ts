import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import Docker from 'dockerode';
import { Fixture } from './fixture.ts';

const missing = spawnSync('docker', ['--version']).error === undefined ? false : 'the docker CLI is not installed';

let api: Fixture;
before(async () => {
  api = await Fixture.start();
  await api.fill();
});
after(() => api[Symbol.asyncDispose]());

describe('the docker CLI', { skip: missing }, () => {
  interface Outcome {
    code: number;
    stdout: string;
    stderr: string;
  }
  const docker = (args: string[], env: Record<string, string> = {}): Promise<Outcome> =>
    new Promise((resolve) => {
      const options = {
        env: { ...process.env, DOCKER_HOST: `unix://${api.socket}`, DOCKER_CONFIG: '/nowhere', ...env },
      };
      const child = execFile('docker', args, options, (_error, stdout, stderr) => {
        resolve({ code: child.exitCode ?? -1, stdout, stderr });
      });
    });
  async function succeeds(args: string[], env?: Record<string, string>): Promise<string> {
    const { code, stdout, stderr } = await docker(args, env);
    assert.equal(code, 0, stderr);
    return stdout;
  }

  it('prints version and info without a complaint', async () => {
    assert.match(await succeeds(['version']), /Server: layerd\n Engine:\n {2}Version: +1\.2\.3\n/);
    const { code, stdout, stderr } = await docker(['info']);
    assert.equal(code, 0);
    assert.equal(stderr, '');
    assert.match(stdout, /Storage Driver: erofs/);
    assert.doesNotMatch(stdout, /ERROR|errors/);
  });

  it('lists, inspects and explains images', async () => {
    const table = await succeeds(['images', '--format', '{{.Repository}}:{{.Tag}}']);
    assert.deepEqual(table.trim().split('\n').sort(), [
      'debian:12',
      'debian:<none>',
      'localhost:5000/team/app:1.0',
      'redis:7',
    ]);
    assert.match(await succeeds(['images', '--tree']), /linux\/arm64/);
    assert.equal(await succeeds(['image', 'inspect', '-f', '{{.Author}}', 'redis:7']), 'somebody\n');
    assert.match(await succeeds(['history', 'redis:7']), /CMD \["redis-server"\]/);
  });

  it('does so in older versions', async () => {
    for (const version of ['1.24', '1.40', '1.43', '1.47']) {
      const env = { DOCKER_API_VERSION: version };
      assert.match(await succeeds(['images'], env), /redis +7/);
      await succeeds(['info'], env);
      await succeeds(['image', 'inspect', 'redis:7'], env);
    }
  });

  it('says which version it cannot speak', async () => {
    const { code, stderr } = await docker(['images'], { DOCKER_API_VERSION: '1.99' });
    assert.equal(code, 1);
    assert.match(stderr, /client version 1\.99 is too new\. Maximum supported API version is 1\.56/);
  });

  it('says clearly what layerd does not serve', async () => {
    const { code, stderr } = await docker(['ps']);
    assert.equal(code, 1);
    assert.match(stderr, /Error response from daemon: layerd is an image daemon and does not serve containers/);
  });

  it('inspects an image without being told that it is one', async () => {
    assert.match(await succeeds(['inspect', '--format', '{{.RepoTags}}', 'redis:7']), /redis:7/);
    const { code, stderr } = await docker(['inspect', 'nothing']);
    assert.equal(code, 1);
    assert.match(stderr, /[Nn]o such object: nothing/);
  });

  it('shows a pull, and how it failed', async () => {
    api.remote.pull = async (_request, progress) => {
      await progress({ status: 'Pulling from library/redis', id: '7' });
      throw new Error('internal');
    };
    const { code, stdout, stderr } = await docker(['pull', 'redis:7']);
    assert.equal(code, 1);
    assert.match(stdout, /7: Pulling from library\/redis/);
    assert.match(stderr, /internal error while serving/);
  });

  it('removes images, and shows the events', async () => {
    const removed = await succeeds(['rmi', 'localhost:5000/team/app:1.0']);
    assert.match(removed, /^Untagged: localhost:5000\/team\/app:1\.0\n/);
    const until = ((Date.now() + 10) / 1000).toFixed(3);
    const events = await succeeds(['events', '--since', '1h', '--until', until, '--format', '{{.Action}}']);
    assert.deepEqual(events.trim().split('\n'), ['untag', 'delete']);
    const { code, stderr } = await docker(['rmi', 'nothing']);
    assert.equal(code, 1);
    assert.match(stderr, /No such image: nothing/);
  });

  it('tags', async () => {
    await succeeds(['tag', 'redis:7', 'app:tagged']);
    assert.match(await succeeds(['images', 'app']), /app +tagged/);
    const { code, stderr } = await docker(['tag', 'nothing', 'app:tagged']);
    assert.equal(code, 1);
    assert.match(stderr, /No such image: nothing:latest/);
    await succeeds(['rmi', 'app:tagged']);
  });
});

describe('dockerode', () => {
  const client = (version?: string): Docker =>
    new Docker({ socketPath: api.socket, ...(version === undefined ? {} : { version }) });

  it('reads version, info, images and history in any version', async () => {
    for (const version of [undefined, 'v1.24', 'v1.41', 'v1.56']) {
      const docker = client(version);
      assert.equal(((await docker.version()) as { Version: string }).Version, '1.2.3');
      assert.equal(((await docker.info()) as { Driver: string }).Driver, 'erofs');
      const images = await docker.listImages({ filters: { reference: ['redis'] } });
      assert.deepEqual(images[0]?.RepoTags, ['redis:7']);
      assert.equal((await docker.getImage('redis:7').inspect()).Os, 'linux');
      assert.equal(((await docker.getImage('redis:7').history()) as unknown[]).length, 2);
    }
  });

  it('gets errors with their status', async () => {
    await assert.rejects(client().getImage('nothing').inspect(), { statusCode: 404 });
    await assert.rejects(client().listContainers(), { statusCode: 501 });
  });

  it('follows a pull and the events', async () => {
    api.remote.pull = async (_request, progress) => {
      await progress({ status: 'Status: Image is up to date' });
    };
    const docker = client();
    const stream = await docker.pull('redis:7');
    const lines = await new Promise((resolve, reject) => {
      docker.modem.followProgress(stream, (error, output) => (error === null ? resolve(output) : reject(error)));
    });
    assert.deepEqual(lines, [{ status: 'Status: Image is up to date' }]);

    const abort = new AbortController();
    const events = (await docker.getEvents({
      filters: { type: ['daemon'] },
      abortSignal: abort.signal,
    })) as unknown as AsyncIterable<Buffer>;
    api.events.append({ type: 'daemon', action: 'reload', actor: 'me' });
    for await (const chunk of events) {
      assert.match(chunk.toString(), /"Action":"reload"/);
      break;
    }
    abort.abort();
  });
});
