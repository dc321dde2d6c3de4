import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { messageOf } from '../../protocol/errors.ts';
import type { Fields } from './fields.ts';

/** A file that a policy names, or what stands in the policy itself. */
export interface Material {
  /** Where it comes from, for messages. */
  readonly from: string;
  readonly bytes: Buffer;
}

/** Reads what one of these fields gives: paths, or data in base64. Undefined where none of them is there. */
export async function readMaterial(fields: Fields, names: readonly string[]): Promise<Material[] | undefined> {
  const name = fields.oneOf(names);
  if (name === undefined) return undefined;
  const from = `${fields.where}.${name}`;
  const values = name.endsWith('s') ? fields.texts(name) : [fields.text(name)];
  if (/Datas?$/.test(name)) return values.map((value) => ({ from, bytes: decode(value, from) }));
  const material: Material[] = [];
  for (const path of values) material.push({ from: path, bytes: await read(path, from) });
  return material;
}

/** The public keys in PEM: ECDSA, RSA or Ed25519. */
export function publicKey({ from, bytes }: Material): KeyObject {
  let key: KeyObject;
  try {
    // A private key would be taken too, for the public one in it, and does not belong here.
    if (bytes.includes('PRIVATE KEY')) throw new Error('it is a private key');
    key = createPublicKey(bytes);
  } catch (error) {
    throw new Error(`${from} is no public key in PEM: ${messageOf(error)}`, { cause: error });
  }
  if (!['ec', 'rsa', 'ed25519'].includes(key.asymmetricKeyType ?? '')) {
    throw new Error(`${from} is a key for ${key.asymmetricKeyType}; expected ECDSA, RSA or Ed25519`);
  }
  return key;
}

async function read(path: string, from: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new Error(`${from}: ${messageOf(error)}`, { cause: error });
  }
}

function decode(text: string, from: string): Buffer {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) {
    throw new Error(`${from} is not base64`);
  }
  return Buffer.from(text, 'base64');
}
