import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { buildInfo } from '../../scripts/build-info.ts';
import { must, needs, scratch } from '../support/process.ts';

describe('what a build says of itself', () => {
  it('names the commit of its own checkout, and no other', { skip: needs('git') }, async () => {
    await using folder = await scratch('build');
    const root = folder.path;
    const git = (...args: string[]) =>
      must('git', ['-C', root, '-c', 'user.name=x', '-c', 'user.email=x@example.com', ...args]);
    assert.equal(buildInfo(root, {}).commit, '');
    await git('init', '-q');
    assert.equal(buildInfo(root, {}).commit, '', 'nothing is committed');
    writeFileSync(`${root}/file`, 'one');
    await git('add', 'file');
    await git('commit', '-qm', 'one');
    await git('tag', '-am', 'a release', 'v1.0.0');
    const commit = (await git('rev-parse', 'HEAD')).slice(0, 12);
    assert.equal(buildInfo(root, {}).commit, commit);
    mkdirSync(`${root}/node_modules`);
    assert.equal(buildInfo(`${root}/node_modules`, {}).commit, '');
    writeFileSync(`${root}/file`, 'two');
    assert.equal(buildInfo(root, {}).commit, `${commit}-dirty`);
  });

  it('is made now, or when SOURCE_DATE_EPOCH says', () => {
    assert.equal(buildInfo('/nonexistent', { SOURCE_DATE_EPOCH: '1767225600' }).time, '2026-01-01T00:00:00.000Z');
    assert.ok(Math.abs(Date.parse(buildInfo('/nonexistent', {}).time) - Date.now()) < 60_000);
  });
});
