import { bulk, image, layer, noise, type TestFile, type TestImage } from '../../test/support/images.ts';

const MIB = 1024 * 1024;

/** Two images made on the spot, the same ones every time, that share the two layers at the bottom. */
export async function sampleImages(): Promise<{ readonly name: string; readonly image: TestImage }[]> {
  const base = await layer(tree('usr/lib', 600, 40 * 1024));
  const runtime = await bulk('opt/runtime', 14 * MIB);
  const made = [];
  for (const [name, size, command] of [
    ['shop/web:1', 6 * MIB, 'serve'],
    ['shop/worker:1', 9 * MIB, 'work'],
  ] as const) {
    const app = await bulk(`srv/${command}`, size);
    made.push({
      name,
      image: image({
        format: 'oci',
        layers: [base, runtime, app],
        config: {
          config: { Cmd: [command], Env: ['PATH=/usr/bin'], WorkingDir: '/srv', Labels: { team: 'shop' } },
          history: ['base system', 'language runtime', `the ${command} program`].map((what) => ({
            created: '2024-01-02T03:04:05Z',
            created_by: `COPY ${what}`,
          })),
        },
      }),
    });
  }
  return made;
}

/** A file tree: folders of twenty files, each half text and half what does not compress. */
function tree(root: string, files: number, size: number): TestFile[] {
  const listed: TestFile[] = [];
  for (let at = 0; at < files; at++) {
    const folder = `${root}/package-${String(Math.floor(at / 20)).padStart(2, '0')}`;
    if (at % 20 === 0) listed.push({ name: `${folder}/` });
    const text = `file ${at} of package ${folder}\n`.repeat(size / 2).slice(0, size / 2);
    listed.push({
      name: `${folder}/file-${at}`,
      content: Buffer.concat([Buffer.from(text), noise(String(at), size / 2)]),
    });
  }
  return listed;
}
