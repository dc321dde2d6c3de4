import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { Ajv } from 'ajv';
import { optionList } from '../../../src/daemon/config/options.ts';
import { commentedExample, configSchema } from '../../../src/daemon/config/schema.ts';
import { run, scratch } from '../../support/process.ts';
import { ROOT } from '../../support/daemon.ts';

const read = (name: string) => readFileSync(`${ROOT}/config/${name}`, 'utf8');
const REMEDY = 'run node_modules/.bin/node scripts/config-files.ts';

/** The example without its comments, which each have lines of their own. */
const example = read('daemon.jsonc').replace(/^\s*\/\/.*$/gm, '');

describe('config/', () => {
  it('has the schema and the example of the options as they are', () => {
    assert.deepEqual(JSON.parse(read('daemon.schema.json')), JSON.parse(JSON.stringify(configSchema())), REMEDY);
    assert.equal(read('daemon.jsonc'), commentedExample(), REMEDY);
  });

  it('has an example that shows every option and fits the schema', () => {
    const validate = new Ajv({ strict: true }).compile(configSchema());
    const value = JSON.parse(example) as Record<string, unknown>;
    assert.ok(validate(value), JSON.stringify(validate.errors));
    for (const [, { key }] of optionList) {
      const shown = key.split('.').reduce<unknown>((object, name) => (object as Record<string, unknown>)[name], value);
      assert.notEqual(shown, undefined, key);
    }
  });

  it('has an example that the daemon accepts', async () => {
    await using folder = await scratch('example');
    const file = `${folder.path}/daemon.json`;
    // The group of the example need not exist here, nor its policies.
    await writeFile(`${folder.path}/policy.json`, '{"default":[{"type":"insecureAcceptAnything"}]}');
    const edits = [
      's/"group": .*/"group": "0",/',
      `s#/etc/layerd/policy.json#${folder.path}/policy.json#`,
      `s#/etc/layerd/authorization.json#${ROOT}/config/authorization.json#`,
    ].join('; ');
    const commands = `grep -v '^ *//' "$1/config/daemon.jsonc" | sed '${edits}' > "$2" && "$1/bin/layerd" --validate --config-file "$2"`;
    const { code, stdout, stderr } = await run('sh', ['-c', commands, 'sh', ROOT, file]);
    assert.equal(stderr, '');
    assert.equal(stdout, 'configuration OK\n');
    assert.equal(code, 0);
  });

  it('has a schema that refuses what the daemon refuses', () => {
    const validate = new Ajv({ strict: true }).compile(configSchema());
    for (const bad of [
      { 'data-rot': '/x' },
      { hosts: 'fd://' },
      { hosts: ['foo'] },
      { debug: 'true' },
      { 'max-concurrent-downloads': 0 },
      { 'log-level': 'trace' },
      { proxies: { http: 'x' } },
    ]) {
      assert.ok(!validate(bad), JSON.stringify(bad));
    }
  });
});
