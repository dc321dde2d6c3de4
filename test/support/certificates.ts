import { join } from 'node:path';
import { must } from './process.ts';

/** The PEM files of a certificate and its key. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface CertificateOptions {
  /** What it is good for, as openssl writes it. Default: loopback. */
  readonly names?: readonly string[];
  /** Who signs it. Default: itself, so that it is its own authority. */
  readonly authority?: KeyPair;
}

const LOOPBACK = ['IP:127.0.0.1', 'DNS:localhost'];

/** Makes a certificate `NAME.crt` with its key `NAME.key` in the folder, good for two days. */
export async function makeCertificate(dir: string, name: string, options: CertificateOptions = {}): Promise<KeyPair> {
  const { names = LOOPBACK, authority } = options;
  const made: KeyPair = { certificate: join(dir, `${name}.crt`), key: join(dir, `${name}.key`) };
  const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${names.join(',')}`];
  const signer = authority === undefined ? [] : ['-CA', authority.certificate, '-CAkey', authority.key];
  const files = ['-keyout', made.key, '-out', made.certificate];
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2'];
  await must('openssl', [...request, ...subject, ...signer, ...files]);
  return made;
}
