import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { run, scratch } from '../support/process.ts';
import { ROOT } from '../support/daemon.ts';

/** What a process writes to standard error that logs so. */
async function logged(options: object, body: string): Promise<string[]> {
  const script = `
    import { DaemonLog, isJournal } from ${JSON.stringify(`${ROOT}/src/daemon/log.ts`)};
    const log = new DaemonLog(${JSON.stringify({ level: 'info', format: 'text', journal: false, ...options })});
    ${body}`;
  const { code, stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', script]);
  assert.equal(code, 0, stderr);
  assert.equal(stdout, '', 'nothing goes to standard output');
  return stderr.split('\n').slice(0, -1);
}

describe('the log', () => {
  it('has lines of time, level, message and fields', async () => {
    const [line, ...more] = await logged(
      {},
      `log.warn('pull failed', { image: 'debian:12', reason: 'no route', hosts: ['a', 'b'], none: undefined, n: 3n, size: { a: 1 } });`,
    );
    assert.match(
      line ?? '',
      /^\d{4}-\d\d-\d\dT[\d:.]+Z WARN {2}pull failed image=debian:12 reason="no route" hosts=a,b n=3 size="\{\\"a\\":1\}"$/,
    );
    assert.deepEqual(more, []);
  });

  it('leaves out what is less important than its level, which may change', async () => {
    const lines = await logged(
      {},
      `log.debug('1'); log.info('2'); log.setLevel('error'); log.warn('3'); log.error('4'); log.setLevel('debug'); log.debug('5');`,
    );
    assert.deepEqual(
      lines.map((line) => line.at(-1)),
      ['2', '4', '5'],
    );
  });

  it('has the fields of the work that it belongs to, however deep and late, and of no other', async () => {
    const lines = await logged(
      {},
      `const work = async (name) => {
         log.info('1');
         await new Promise((resolve) => setTimeout(resolve, 1));
         log.within({ part: name }, () => setImmediate(() => log.info('2', { own: 1, request: 'mine' })));
       };
       await Promise.all(['a', 'b'].map((name) => log.within({ request: name }, () => work(name))));
       await new Promise((resolve) => setTimeout(resolve, 5));
       log.info('3');`,
    );
    assert.deepEqual(lines.map((line) => line.replace(/^\S+ INFO {2}/, '')).sort(), [
      '1 request=a',
      '1 request=b',
      '2 own=1 request=mine part=a',
      '2 own=1 request=mine part=b',
      '3',
    ]);
  });

  it('cannot be forged: what would break the line or drive the terminal is escaped', async () => {
    const body = `log.info('a\\n2026 ERROR fake\\u001b[2J\\u009b\\u2028\\u202e', { field: 'x\\r\\nlevel=error', error: new Error('two\\nlines') });`;
    for (const format of ['text', 'json']) {
      const lines = await logged({ format }, body);
      assert.equal(lines.length, 1);
      assert.doesNotMatch(lines[0] ?? '', /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    }
  });

  it('has JSON that says what was said, whatever fields are called', async () => {
    const [line] = await logged(
      { format: 'json' },
      `log.error('m\\n\\u{e0001}', { message: 'other', level: 'info', id: 'x', big: 1n, error: new TypeError('no') });`,
    );
    const { time, error, ...rest } = JSON.parse(line ?? '') as Record<string, string>;
    assert.deepEqual(rest, { level: 'error', message: 'm\n\u{e0001}', id: 'x', big: '1' });
    assert.ok(Date.parse(time ?? '') > 0);
    assert.match(error ?? '', /^TypeError: no\n {4}at /);
  });

  it('has priorities and leaves the time to the journal', async () => {
    const lines = await logged(
      { journal: true, level: 'debug' },
      `for (const level of ['fatal', 'error', 'warn', 'info', 'debug']) log[level]('m', { a: 1 });`,
    );
    assert.deepEqual(lines, ['<2>m a=1', '<3>m a=1', '<4>m a=1', '<6>m a=1', '<7>m a=1']);
  });

  it('is written to the end before the process exits', async () => {
    const lines = await logged(
      {},
      `for (let i = 0; i < 2000; i++) log.info('x'.repeat(100)); await log.close(); process.exit(0);`,
    );
    assert.equal(lines.length, 2000);
  });

  it('takes standard error for the journal only if it is the very stream that systemd named', async () => {
    await using folder = await scratch('log');
    const script = `
      import { statSync } from 'node:fs';
      import { isJournal } from ${JSON.stringify(`${ROOT}/src/daemon/log.ts`)};
      const { dev, ino } = statSync(${JSON.stringify(`${folder.path}/err`)});
      console.log([\`\${dev}:\${ino}\`, \`\${dev}:1\`, undefined].map(isJournal).join());`;
    const shell = `"$0" --input-type=module -e "$1" 2> "$2"`;
    const { stdout } = await run('sh', ['-c', shell, process.execPath, script, `${folder.path}/err`]);
    assert.equal(stdout, 'true,false,false\n');
  });
});
