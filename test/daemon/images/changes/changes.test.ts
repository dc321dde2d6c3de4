import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { applyChanges } from '../../../../src/daemon/images/changes/changes.ts';
import { expand, splitWords } from '../../../../src/daemon/images/changes/words.ts';
import { LayerdError } from '../../../../src/protocol/errors.ts';
import type { ContainerDefaults } from '../../../../src/protocol/oci.ts';

const apply = (...changes: string[]): ContainerDefaults => applyChanges({}, changes);

describe('applyChanges', () => {
  it('takes commands in both forms', () => {
    assert.deepEqual(apply('CMD ["nginx", "-g", "daemon off;"]'), { Cmd: ['nginx', '-g', 'daemon off;'] });
    assert.deepEqual(apply('cmd echo  $HOME'), { Cmd: ['/bin/sh', '-c', 'echo  $HOME'] });
    // What is no JSON is a line for the shell.
    assert.deepEqual(apply("CMD ['sh']"), { Cmd: ['/bin/sh', '-c', "['sh']"] });
    assert.deepEqual(applyChanges({ Shell: ['/bin/bash', '-ec'] }, ['CMD ls']).Cmd, ['/bin/bash', '-ec', 'ls']);
    assert.deepEqual(apply('ENTRYPOINT ["/init"]'), { Entrypoint: ['/init'], Cmd: null });
    assert.deepEqual(apply('ENTRYPOINT []').Entrypoint, null);
  });

  it('keeps a CMD with a new ENTRYPOINT only where it comes with it', () => {
    assert.deepEqual(applyChanges({ Cmd: ['old'] }, ['ENTRYPOINT ["/init"]']).Cmd, null);
    assert.deepEqual(apply('CMD ["x"]', 'ENTRYPOINT ["/init"]').Cmd, ['x']);
  });

  it('sets variables, and puts those that are set into later instructions', () => {
    const { Env, WorkingDir, User, Labels } = applyChanges({ Env: ['PATH=/bin', 'A=0'] }, [
      'ENV A=1 B="two words" C=$A',
      'ENV D  the rest = of the line',
      'WORKDIR /srv/${A:-none}',
      'WORKDIR app',
      'USER u$A',
      'LABEL a.b=\'$A\' "c d"=e\\ f',
    ]);
    assert.deepEqual(Env, ['PATH=/bin', 'A=1', 'B=two words', 'C=0', 'D=the rest = of the line']);
    assert.equal(WorkingDir, '/srv/1/app');
    assert.equal(User, 'u1');
    assert.deepEqual(Labels, { 'a.b': '$A', 'c d': 'e f' });
  });

  it('names ports and volumes', () => {
    assert.deepEqual(apply('EXPOSE 80 53/UDP 8000-8002').ExposedPorts, {
      '80/tcp': {},
      '53/udp': {},
      '8000/tcp': {},
      '8001/tcp': {},
      '8002/tcp': {},
    });
    assert.deepEqual(apply('VOLUME /a /b', 'VOLUME ["/c d"]').Volumes, { '/a': {}, '/b': {}, '/c d': {} });
  });

  it('reads health checks', () => {
    assert.deepEqual(
      apply('HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f localhost').Healthcheck,
      {
        Test: ['CMD-SHELL', 'curl -f localhost'],
        Interval: 90_000_000_000,
        Timeout: 500_000_000,
        Retries: 3,
      },
    );
    assert.deepEqual(apply('HEALTHCHECK CMD ["/check"]').Healthcheck, { Test: ['CMD', '/check'] });
    assert.deepEqual(apply('HEALTHCHECK none').Healthcheck, { Test: ['NONE'] });
  });

  it('keeps what is put off as it was written', () => {
    assert.deepEqual(apply('ONBUILD RUN make "$A"', 'ONBUILD COPY . /src').OnBuild, ['RUN make "$A"', 'COPY . /src']);
  });

  it('reads lines as a Dockerfile has them', () => {
    const text = '# first\nENV A=1 \\\n  # between\n\n  B=2\r\n\nUSER nobody\n';
    assert.deepEqual(apply(text), { Env: ['A=1', 'B=2'], User: 'nobody' });
    assert.deepEqual(apply('', '# nothing'), {});
  });

  for (const [change, message] of [
    ['RUN make', /^run is not a valid change command: expected one of CMD, /],
    ['constructor x', /constructor is not a valid change command/],
    ['CMD [1]', /must be of strings/],
    ['ENV', /at least one name=value/],
    ['ENV A', /form name=value/],
    ['ENV A=1 B', /"B" must have the form name=value/],
    ['ENV =1', /name cannot be blank/],
    ['LABEL "a=1', /double quote is not closed/],
    ["LABEL a='b", /single quote is not closed/],
    ['USER', /exactly one argument/],
    ['USER a b', /exactly one argument/],
    ['USER ${a', /not closed|only :- and/],
    ['USER ${a:?b}', /only :- and :\+ are known/],
    ['USER ${', /followed by a name/],
    ['WORKDIR', /needs a path/],
    ['VOLUME', /at least one path/],
    ['VOLUME [""]', /empty path/],
    ['EXPOSE', /at least one argument/],
    ['EXPOSE http', /is no port/],
    ['EXPOSE 70000', /is no port/],
    ['EXPOSE 9-8', /is no port/],
    ['EXPOSE 80/icmp', /is no port/],
    ['ONBUILD', /instruction to put off/],
    ['ONBUILD ONBUILD USER a', /ONBUILD cannot be put off/],
    ['ONBUILD from x', /FROM cannot be put off/],
    ['HEALTHCHECK', /must be CMD with a command, or NONE/],
    ['HEALTHCHECK CMD', /CMD needs a command/],
    ['HEALTHCHECK NONE x', /NONE takes no arguments/],
    ['HEALTHCHECK --interval=5 CMD x', /duration of at least 1ms/],
    ['HEALTHCHECK --interval=1us CMD x', /duration of at least 1ms/],
    ['HEALTHCHECK --retries=-1 CMD x', /must be a number/],
    ['HEALTHCHECK --often CMD x', /--often is not known/],
  ] as const) {
    it(`refuses ${change}`, () => {
      assert.throws(
        () => apply('USER fine', change),
        (error) => error instanceof LayerdError && error.kind === 'invalid' && message.test(error.message),
      );
    });
  }

  it('takes or refuses any text', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme' }),
        fc.constantFrom('ENV', 'LABEL', 'EXPOSE', 'HEALTHCHECK', 'ONBUILD', ''),
        (text, name) => {
          try {
            apply(`${name} ${text}`);
          } catch (error) {
            assert.ok(error instanceof LayerdError && error.kind === 'invalid', String(error));
          }
        },
      ),
    );
  });

  it('gives quoted values back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (value) => {
        const quoted = `"${value.replace(/["$\\]/g, '\\$&')}"`;
        assert.deepEqual(splitWords(`${quoted} ${quoted}`), [quoted, quoted]);
        assert.equal(
          expand(quoted, () => undefined),
          value,
        );
      }),
    );
  });
});
