import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { HOST_PLATFORM, image, layer, LINUX_ARM64, index } from '../support/images.ts';
import { needs, Running } from '../support/process.ts';
import { startStack, succeeded, type Stack } from '../support/stack.ts';

/** A client of python3-docker, as people write them. Each line that it prints is the name of what went well. */
const SCRIPT = `
import docker, io, sys, tarfile, time
reference, repository = sys.argv[1:3]
client = docker.from_env(version='auto')
assert client.ping()
assert client.info()['Driver'] == 'erofs'
print('system')

image = client.images.pull(repository, tag='1')
assert image.id.startswith('sha256:') and image.tags == [reference], image.tags
assert image.labels == {'team': 'sdk'}, image.labels
assert [i.id for i in client.images.list(name=repository)] == [image.id]
assert client.images.list(filters={'label': 'team=other'}) == []
assert len(image.history()) >= 1
print('pull, list, inspect, history')

data = client.images.get_registry_data(reference)
assert data.has_platform('linux/arm64/v8') and not data.has_platform('linux/s390x')
print('distribution')

assert image.tag('mine', 'one')
image.reload()
assert sorted(image.tags) == sorted([reference, 'mine:one']), image.tags
print('tag')

archive = b''.join(image.save(named='mine:one'))
client.images.remove('mine:one')
assert [i.id for i in client.images.load(archive)] == [image.id]
print('save, remove, load')

assert image.tag(repository, 'pushed')
lines = list(client.images.push(repository, tag='pushed', stream=True, decode=True))
assert not [l for l in lines if 'error' in l] and lines[-1]['aux']['Digest'].startswith('sha256:'), lines
print('push')

files = io.BytesIO()
with tarfile.open(fileobj=files, mode='w') as tar:
    entry = tarfile.TarInfo('etc/issue')
    entry.size = 5
    tar.addfile(entry, io.BytesIO(b'hello'))
client.api.import_image(src=io.BytesIO(files.getvalue()), repository='imported', tag='1', changes=['CMD ["sh"]'])
assert client.images.get('imported:1').attrs['Config']['Cmd'] == ['sh']
print('import')

usage = client.df()['ImageUsage']
assert usage['TotalSize'] > 0 and usage['TotalCount'] == len(client.images.list()), usage
print('disk usage')

for name, error in (('nothing', docker.errors.ImageNotFound), ('UPPER', docker.errors.APIError)):
    try:
        client.images.get(name)
        assert False, name
    except error as failure:
        assert failure.explanation
try:
    client.images.pull(repository, tag='absent')
    assert False
except docker.errors.NotFound:
    pass
print('errors')

pruned = client.images.prune(filters={'dangling': False})
assert pruned['SpaceReclaimed'] > 0 and client.images.list() == [], pruned
print('prune')

actions = [e['Action'] for e in client.events(since=0, until=time.time(), filters={'type': 'image'}, decode=True)]
assert actions[0] == 'pull' and actions[-1] == 'prune' and {'tag', 'save', 'load', 'push', 'import'} <= set(actions), actions
print('events')
`;

const DONE = [
  'system',
  'pull, list, inspect, history',
  'distribution',
  'tag',
  'save, remove, load',
  'push',
  'import',
  'disk usage',
  'errors',
  'prune',
  'events',
];

/** Debian's, which finds Debian's library. */
const PYTHON = '/usr/bin/python3';
const hasPython = spawnSync(PYTHON, ['-c', 'import docker']).status === 0;

describe('the SDKs of other languages', { skip: needs('docker-registry') }, () => {
  let stack: Stack;
  let ref: string;
  before(async () => {
    stack = await startStack();
    const config = { config: { Labels: { team: 'sdk' } } };
    const made = [HOST_PLATFORM, LINUX_ARM64].map(async (platform) =>
      image({ layers: [await layer([{ name: platform.architecture }])], platform, config }),
    );
    await stack.push('sdk/app:1', index(await Promise.all(made)));
    ref = stack.ref('sdk/app:1');
  });
  after(() => stack.stop());

  it(
    'python3-docker does all that there is to do with images',
    { skip: !hasPython && 'python3-docker is missing' },
    async () => {
      const python = new Running(PYTHON, ['-c', SCRIPT, ref, stack.ref('sdk/app')], {
        env: stack.daemon.env,
        timeoutMs: 60_000,
      });
      const outcome = await python.exited;
      assert.equal(outcome.stderr, '');
      assert.deepEqual(succeeded(outcome).trim().split('\n'), DONE);
    },
  );
});
