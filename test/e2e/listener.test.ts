import assert from 'node:assert/strict';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeCertificate, type KeyPair } from '../support/certificates.ts';
import { image, layer } from '../support/images.ts';
import { needs, scratch, type Outcome, type Scratch } from '../support/process.ts';
import { failed, startStack, succeeded, type Stack } from '../support/stack.ts';

/** The address that `-H tcp://127.0.0.1:0` came to. */
const LISTENING = /layerd is ready addresses=\S*(tcp:\/\/127\.0\.0\.1:\d+)/;

/** What each client says when it is turned away, or turns away. Docker's words come from Go's TLS. */
const MESSAGES = {
  docker: {
    withoutCertificate: /^error during connect: .*tls: certificate required$/m,
    // It shows none of a certificate whose authority the daemon does not name.
    strangersCertificate: /^error during connect: .*tls: certificate required$/m,
    strangersDaemon: /^error during connect: .*x509: certificate signed by unknown authority$/m,
    withoutTls: /^Error response from daemon: Client sent an HTTP request to an HTTPS server\.$/m,
  },
  layerctl: {
    withoutCertificate:
      /^layerctl: cannot talk to the daemon at tcp:\S+: it demands a client certificate that it trusts; name yours with --tlscert/m,
    strangersCertificate:
      /^layerctl: cannot talk to the daemon at tcp:\S+: the connection was lost; it may demand a client certificate that it trusts: name yours with --tlscert/m,
    strangersDaemon:
      /^layerctl: cannot talk to the daemon at tcp:\S+: its certificate is signed by an unknown authority; name the authority with --tlscacert/m,
    withoutTls: /^layerctl: cannot talk to the daemon at tcp:\S+: it demands TLS; add --tlsverify$/m,
  },
} as const;

describe('a tcp listener with --tlsverify', { skip: needs('docker', 'docker-registry', 'openssl') }, () => {
  let dir: Scratch;
  let authority: KeyPair;
  let stranger: KeyPair;
  let client: KeyPair;
  let strangersClient: KeyPair;
  /** The files that the daemon was started with. */
  let files: { readonly ca: string; readonly own: KeyPair };
  let stack: Stack;
  let host: string;

  before(async () => {
    dir = await scratch('listener');
    authority = await makeCertificate(dir.path, 'authority');
    stranger = await makeCertificate(dir.path, 'stranger');
    client = await makeCertificate(dir.path, 'client', { authority });
    strangersClient = await makeCertificate(dir.path, 'strangers-client', { authority: stranger });
    files = { ca: join(dir.path, 'ca.pem'), own: await makeCertificate(dir.path, 'server', { authority }) };
    await copyFile(authority.certificate, files.ca);
    const tls = ['--tlscacert', files.ca, '--tlscert', files.own.certificate, '--tlskey', files.own.key];
    stack = await startStack({ args: ['-H', 'tcp://127.0.0.1:0', '--tlsverify', ...tls] });
    await stack.daemon.process.until('the address', () => LISTENING.test(stack.daemon.log));
    host = LISTENING.exec(stack.daemon.log)?.[1] ?? '';
  });
  after(async () => {
    await stack.stop();
    await dir[Symbol.asyncDispose]();
  });

  /** The flags of a client that trusts an authority and shows a certificate. */
  const flags = (ca: KeyPair, shown?: KeyPair): string[] => {
    const own = shown === undefined ? [] : ['--tlscert', shown.certificate, '--tlskey', shown.key];
    return ['-H', host, '--tlsverify', '--tlscacert', ca.certificate, ...own];
  };

  for (const name of ['docker', 'layerctl'] as const) {
    const run = (...args: string[]): Promise<Outcome> => stack.daemon[name](...args);
    const messages = MESSAGES[name];

    it(`serves ${name}: version, pull, list`, async () => {
      const pushed = await stack.push(`${name}:1`, image({ layers: [await layer([{ name }])] }));
      const trusted = flags(authority, client);
      assert.match(succeeded(await run(...trusted, 'version')), /Server:[^]*API version/);
      assert.match(succeeded(await run(...trusted, 'pull', stack.ref(`${name}:1`))), new RegExp(pushed.digest));
      assert.match(succeeded(await run(...trusted, 'images', '--no-trunc')), new RegExp(pushed.id));
    });

    it(`serves ${name} that takes all of it from the environment`, async () => {
      const certs = join(dir.path, `${name}-certs`);
      await mkdir(certs);
      await copyFile(authority.certificate, join(certs, 'ca.pem'));
      await copyFile(client.certificate, join(certs, 'cert.pem'));
      await copyFile(client.key, join(certs, 'key.pem'));
      const env = { LAYERD_HOST: undefined, DOCKER_HOST: host, DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: certs };
      const command = name === 'docker' ? 'docker' : 'bin/layerctl';
      assert.match(succeeded(await stack.daemon.run(command, ['version'], { env })), /Server:/);
    });

    it(`turns ${name} away that shows no certificate, or one of another authority`, async () => {
      for (const [shown, message] of [
        [undefined, messages.withoutCertificate],
        [strangersClient, messages.strangersCertificate],
      ] as const) {
        for (const command of [['version'], ['images'], ['pull', stack.ref(`${name}:1`)]]) {
          const outcome = await run(...flags(authority, shown), ...command);
          assert.match(failed(outcome), message);
          assert.doesNotMatch(outcome.stdout, /Server:|Digest:/);
        }
      }
    });

    it(`turns ${name} away that speaks plain HTTP`, async () => {
      assert.match(failed(await run('-H', host, 'images')), messages.withoutTls);
    });

    it(`is turned away by ${name} that does not trust its authority`, async () => {
      for (const command of ['version', 'images']) {
        assert.match(failed(await run(...flags(stranger, client), command)), messages.strangersDaemon);
      }
    });
  }

  it('is verified by layerctl also when only an authority is named', async () => {
    const shown = ['--tlscert', client.certificate, '--tlskey', client.key];
    succeeded(await stack.daemon.layerctl('-H', host, '--tlscacert', authority.certificate, ...shown, 'ping'));
    const mistaken = await stack.daemon.layerctl('-H', host, '--tlscacert', stranger.certificate, ...shown, 'ping');
    assert.match(failed(mistaken), MESSAGES.layerctl.strangersDaemon);
  });

  it('serves layerctl the log of events, and turns it away that shows no certificate', async () => {
    const end = String(Date.now() / 1000 + 1);
    const past = ['events', '--follow', '--since', '1h', '--until', end, '--format', '{{.Seq}} {{.Action}}'];
    assert.match(succeeded(await stack.daemon.layerctl(...flags(authority, client), ...past)), /^1 \w+\n2 /);
    assert.match(
      failed(await stack.daemon.layerctl(...flags(authority), ...past)),
      MESSAGES.layerctl.withoutCertificate,
    );
  });

  it('takes on certificates that were replaced when it gets SIGHUP, and keeps those in force when they do not fit', async () => {
    const { daemon } = stack;
    const reload = async (outcome: string): Promise<void> => {
      const before = daemon.log.length;
      daemon.process.child.kill('SIGHUP');
      await daemon.process.until(outcome, () => daemon.log.slice(before).includes(outcome));
    };
    const renewed = await makeCertificate(dir.path, 'renewed', { authority: stranger });

    // A key without its certificate: halfway through a replacement.
    await copyFile(renewed.key, files.own.key);
    await reload('configuration not reloaded');
    succeeded(await daemon.docker(...flags(authority, client), 'version'));

    await copyFile(renewed.certificate, files.own.certificate);
    await copyFile(stranger.certificate, files.ca);
    await reload('configuration reloaded');
    for (const name of ['docker', 'layerctl'] as const) {
      succeeded(await daemon[name](...flags(stranger, strangersClient), 'version'));
      const { withoutCertificate, strangersCertificate, strangersDaemon } = MESSAGES[name];
      assert.match(failed(await daemon[name](...flags(authority, client), 'images')), strangersDaemon);
      assert.match(failed(await daemon[name](...flags(stranger, client), 'images')), strangersCertificate);
      assert.match(failed(await daemon[name](...flags(stranger), 'images')), withoutCertificate);
    }
  });
});
