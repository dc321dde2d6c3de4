import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { extractSwitches } from '../../src/client/commands/flags.ts';
import { json, layerctl, scriptedEngine, temporaryDirectory, type Script } from './support.ts';

const images: Script = (_request, response) =>
  json(response, [{ RepoTags: ['redis:7', 'redis:latest'] }, { RepoTags: ['localhost:5000/app:1'] }, { RepoTags: [] }]);

/** The words offered for the last of the given ones. */
async function offered(words: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string[]> {
  const { out } = await layerctl(['__complete', ...words], { env });
  const [kind = '', ...lines] = out.trimEnd().split('\n');
  return kind === 'words' ? lines.map((line) => line.split('\t')[0] ?? '') : [kind];
}

describe('completion', () => {
  const known = [
    [['im'], ['images', 'import', 'image']],
    [
      ['image', ''],
      [
        'pull',
        'push',
        'ls',
        'list',
        'inspect',
        'history',
        'tag',
        'rm',
        'remove',
        'prune',
        'gc',
        'save',
        'load',
        'import',
        'copy',
      ],
    ],
    [
      ['manifest', ''],
      ['create', 'annotate', 'inspect', 'push', 'rm'],
    ],
    [
      ['images', '--f'],
      ['--filter', '--format'],
    ],
    [
      ['images', '--format', ''],
      ['table', 'json'],
    ],
    [['images', '--format=t'], ['--format=table']],
    [
      ['images', '-f', 'dang'],
      ['dangling=true', 'dangling=false'],
    ],
    [['--tlsca', 'x', '--tlscert'], ['--tlscert']],
    [['--tlscacert', ''], ['file']],
    [['--config', ''], ['directory']],
    [['-H', 'un'], ['unix://']],
    [['-H', 'unix://x', 'compl'], ['completion']],
    [['--tls', 'vers'], ['version']],
    [
      ['completion', ''],
      ['bash', 'zsh', 'fish'],
    ],
    [['completion', 'bash', ''], []],
    [['help', 'hist'], ['history']],
    [['nope', 'x'], []],
  ] as const;
  for (const [words, wanted] of known) {
    it(`of '${words.join(' ')}' offers ${wanted.join(' ') || 'nothing'}`, async () => {
      const found = await offered(words);
      assert.deepEqual([...found].sort(), [...wanted].sort());
    });
  }

  it('offers the names of the images of the daemon that the command line names', async (context) => {
    const { host } = await scriptedEngine(context, images);
    assert.deepEqual(await offered(['-H', host, 'inspect', 're']), ['redis:7', 'redis:latest']);
    assert.deepEqual(await offered(['rmi', 'redis:7', 'l'], { LAYERD_HOST: host }), ['localhost:5000/app:1']);
    assert.deepEqual(await offered(['history', 'redis:7', ''], { LAYERD_HOST: host }), []);
  });

  it('offers no names and no error when the daemon is not there', async () => {
    assert.deepEqual(await offered(['rmi', ''], { LAYERD_HOST: 'unix:///nonexistent/x.sock' }), []);
  });

  it('works in bash, whose words end at colons and equals signs', async (context) => {
    const { host } = await scriptedEngine(context, images);
    const directory = await temporaryDirectory(context);
    const main = fileURLToPath(new URL('../../src/client/main.ts', import.meta.url));
    await writeFile(join(directory, 'layerctl'), `#!/bin/sh\nexec "${process.execPath}" "${main}" "$@"\n`, {
      mode: 0o755,
    });
    const { out: script } = await layerctl(['completion', 'bash']);
    // Parts the line as bash does, calls the function, and prints what it offers.
    const driver = String.raw`${script}
complete_line() {
  COMP_LINE=$1 COMP_POINT=${'$'}{#1} COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
  mapfile -t COMP_WORDS < <(grep -oE '[:=]+|[^ :=]+' <<< "$1")
  [[ $1 == *' ' ]] && COMP_WORDS+=('')
  COMP_CWORD=$(( ${'$'}{#COMP_WORDS[@]} - 1 ))
  _layerctl
  echo "${'$'}{COMPREPLY[*]}"
}
complete_line 'layerctl hist'
complete_line 'layerctl inspect redis:'
complete_line 'layerctl inspect redis:l'
complete_line 'layerctl  inspect   localhost:5000/'
complete_line 'layerctl images --format=j'
complete_line 'layerctl image '
`;
    await writeFile(join(directory, 'driver'), driver);
    const { stdout, stderr } = await promisify(execFile)('bash', [join(directory, 'driver')], {
      env: { PATH: `${directory}:/usr/bin:/bin`, LAYERD_HOST: host },
    });
    assert.equal(stderr, '');
    assert.deepEqual(stdout.split('\n'), [
      'history',
      '7 latest',
      'latest',
      '5000/app:1',
      'json',
      'pull push ls list inspect history tag rm remove prune gc save load import copy',
      '',
    ]);
  });
});

describe('switches with a value', () => {
  for (const [words, rest, values] of [
    [['history', '-H=false', 'x'], ['history', 'x'], { human: false }],
    [['history', '--no-trunc=true', 'x'], ['history', 'x'], { trunc: false }],
    [['image', 'ls', '--all=0', '-q=T'], ['image', 'ls'], { all: false, quiet: true }],
    [['-H', 'h', 'images', '-f', '-q=true', 'x'], ['-H', 'h', 'images', '-f', '-q=true', 'x'], {}],
    [['images', '--', '-q=true'], ['images', '--', '-q=true'], {}],
    [['images', '--format=false'], ['images', '--format=false'], {}],
    [['images', '-q=maybe'], ['images', '-q=maybe'], {}],
  ] as const) {
    it(`in '${words.join(' ')}' are ${JSON.stringify(values)}`, () => {
      assert.deepEqual(extractSwitches(words), { words: rest, values });
    });
  }
});
