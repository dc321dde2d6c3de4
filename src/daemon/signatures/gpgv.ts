import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import type { Material } from './key.ts';
import { NotAccepted } from './signature.ts';

/** Verifies OpenPGP signatures, with nothing but the keys that it is given. */
const GPGV = 'gpgv';
/** How long it may take, in milliseconds. */
const TIMEOUT = 10_000;
/** Bytes of a signed text: a compressed message may say a lot with little. */
const MAX_TEXT_BYTES = 64 * 1024;
/** Bytes of what it tells of one signature. */
const MAX_STATUS_BYTES = 64 * 1024;

/** @throws Error where the host does not have it. */
export async function requireGpgv(): Promise<void> {
  try {
    await promisify(execFile)(GPGV, ['--version'], { timeout: TIMEOUT });
  } catch (error) {
    throw new Error(`signedBy needs the program gpgv (GnuPG), install it: ${messageOf(error)}`, { cause: error });
  }
}

/** Public keys as gpgv reads them: as packets, where they may come as text. */
export function toKeyring({ from, bytes }: Material): Buffer {
  const text = bytes.toString('latin1');
  const blocks = [
    ...text.matchAll(/-----BEGIN PGP PUBLIC KEY BLOCK-----([\s\S]*?)-----END PGP PUBLIC KEY BLOCK-----/g),
  ];
  const packets = blocks.length === 0 ? bytes : Buffer.concat(blocks.map(([, block = '']) => dearmored(block)));
  // RFC 9580, section 4.2: the first packet must be a public key, in either format of its header.
  const [first = 0] = packets;
  const tag = (first & 0x40) === 0 ? (first & 0x3c) >> 2 : first & 0x3f;
  if ((first & 0x80) === 0 || tag !== 6) throw new Error(`${from} has no OpenPGP public key`);
  return packets;
}

/** What is signed, out of a message that holds it, by one of the keys. */
export async function verifyMessage(keyring: Buffer, message: Buffer): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'layerd-signature-'));
  try {
    const [keys, signature] = [join(folder, 'keys'), join(folder, 'signature')];
    await Promise.all([writeFile(keys, keyring), writeFile(signature, message)]);
    // With a home of its own, so that no configuration or keyring of a user has a say.
    const options = ['--homedir', folder, '--status-fd', '3', '--keyring', keys, '--output', '-'];
    const { code, text, status } = await run([...options, '--', signature]);
    checkStatus(code, status);
    return text;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Outcome {
  readonly code: number | null;
  readonly text: Buffer;
  readonly status: string;
}

async function run(args: readonly string[]): Promise<Outcome> {
  const child = spawn(GPGV, args, { stdio: ['ignore', 'pipe', 'ignore', 'pipe'], timeout: TIMEOUT });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('close', resolve).once('error', (cause) => {
      reject(new LayerdError('unavailable', `cannot check a signature with ${GPGV}: ${cause.message}`, { cause }));
    });
  });
  const stop = (): void => void child.kill('SIGKILL');
  const [code, text, status] = await Promise.all([
    ended,
    collected(child.stdio[1] as AsyncIterable<Buffer>, MAX_TEXT_BYTES, stop),
    collected(child.stdio[3] as AsyncIterable<Buffer>, MAX_STATUS_BYTES, stop),
  ]);
  return { code, text, status: status.toString() };
}

/** All bytes up to the limit; what would be more ends it all. */
async function collected(stream: AsyncIterable<Buffer>, limit: number, stop: () => void): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > limit) {
      stop();
      break;
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Why a signature is none, by what gpgv says of it (GnuPG's doc/DETAILS). */
const FAULTS: readonly (readonly [keyword: string, reason: (key: string) => string])[] = [
  ['BADSIG', (key) => `what it says is not what the key ${key} has signed`],
  ['EXPKEYSIG', (key) => `the key ${key} has expired`],
  ['REVKEYSIG', (key) => `the key ${key} is revoked`],
  ['EXPSIG', (key) => `the signature by the key ${key} has expired`],
  ['NO_PUBKEY', (key) => `it is by the key ${key}, which the rule does not have`],
  ['ERRSIG', (key) => `the signature by the key ${key} cannot be checked`],
];

/** Accepts one good signature and nothing else: of several, nobody could say which signs what. */
function checkStatus(code: number | null, status: string): void {
  const lines = status.split('\n').flatMap((line) => {
    const [prefix, keyword = '', key = ''] = line.split(' ');
    return prefix === '[GNUPG:]' ? [{ keyword, key }] : [];
  });
  for (const [fault, reason] of FAULTS) {
    const found = lines.find(({ keyword }) => keyword === fault);
    if (found !== undefined) throw new NotAccepted(reason(found.key));
  }
  const count = (wanted: string): number => lines.filter(({ keyword }) => keyword === wanted).length;
  if (count('NEWSIG') > 1) throw new NotAccepted('it has more than one signature');
  if (code !== 0 || count('GOODSIG') !== 1 || count('VALIDSIG') !== 1) {
    throw new NotAccepted('it is no OpenPGP signature of a text');
  }
}

/** RFC 9580, section 6.2: headers to an empty line, base64, and a checksum that is of no use against anybody. */
function dearmored(block: string): Buffer {
  const lines = block.split(/\r?\n/);
  const start = lines.findIndex((line, index) => index > 0 && line.trim() === '');
  return Buffer.from(
    lines
      .slice(start + 1)
      .filter((line) => !line.startsWith('='))
      .join(''),
    'base64',
  );
}
