import { existsSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { ROOT } from '../test/support/daemon.ts';
import { CORPUS } from './context.ts';

/** Builds the corpus and pushes it to the registry, showing what goes on. Takes minutes the first time. */
export async function buildCorpus(registry: string): Promise<void> {
  const script = process.env['LAYERD_CORPUS_BUILD'] ?? join(ROOT, '../shared/corpus/build');
  if (!existsSync(script)) throw new Error('the corpus has no script: set LAYERD_CORPUS_BUILD to corpus/build');
  const child = spawn(script, [registry], { stdio: ['ignore', 'inherit', 'inherit'] });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`${script} ${registry} failed`);
}

/**
 * Reads every blob of the images once, so that the registry serves all runs from the page cache and no engine pays for
 * the disk of another. Throws when an image is not there.
 */
export async function warm(registry: string): Promise<void> {
  for (const image of CORPUS) {
    const [name = '', tag = ''] = image.split(':');
    const repository = `http://${registry}/v2/library/${name}`;
    const accept = 'application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json';
    const answer = await fetch(`${repository}/manifests/${tag}`, { headers: { accept } });
    if (!answer.ok)
      throw new Error(`${registry} has no library/${image} (status ${answer.status}); --build-corpus makes it`);
    const { layers } = (await answer.json()) as { layers: { digest: string }[] };
    for (const { digest } of layers) {
      const { body } = await fetch(`${repository}/blobs/${digest}`);
      await body?.pipeTo(new WritableStream());
    }
  }
}
