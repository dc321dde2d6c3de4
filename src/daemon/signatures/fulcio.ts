import { createPublicKey, type KeyObject } from 'node:crypto';
import type { X509Certificate } from '@sigstore/core';
import { messageOf } from '../../protocol/errors.ts';
import { isIssued, parseCertificates } from './certificate.ts';
import type { Fields } from './fields.ts';
import { readMaterial } from './key.ts';
import { NotAccepted } from './signature.ts';

/** Extensions in which Fulcio says who knew the signer (Fulcio, docs/oid-info.md): as bare text, and as a DER string. */
const ISSUER_V1 = '1.3.6.1.4.1.57264.1.1';
const ISSUER_V2 = '1.3.6.1.4.1.57264.1.8';
const EXTENDED_KEY_USAGE = '2.5.29.37';
const CODE_SIGNING = '1.3.6.1.5.5.7.3.3';

/** Reads `fulcio`: whose certificates count, and for whom. */
export async function loadFulcio(fields: Fields): Promise<Fulcio> {
  const material = await readMaterial(fields, ['caPath', 'caData']);
  const [authority] = material ?? [];
  if (authority === undefined) throw new Error(`${fields.where} has no "caPath" or "caData"`);
  let roots: readonly X509Certificate[];
  try {
    roots = parseCertificates(authority.bytes.toString());
  } catch (error) {
    throw new Error(`${authority.from}: ${messageOf(error)}`, { cause: error });
  }
  const fulcio = new Fulcio(roots, fields.text('oidcIssuer'), fields.text('subjectEmail'));
  fields.end();
  return fulcio;
}

/** An authority that gives certificates for some minutes to whom somebody else knows by their address. */
export class Fulcio {
  readonly #roots: readonly X509Certificate[];
  readonly #issuer: string;
  readonly #email: string;

  constructor(roots: readonly X509Certificate[], issuer: string, email: string) {
    this.#roots = roots;
    this.#issuer = issuer;
    this.#email = email;
  }

  /** The key of a certificate that is for the one who may sign. Whether it can be believed, {@link vouchesFor} says. */
  keyOf(certificate: X509Certificate): KeyObject {
    const issuer = issuerOf(certificate);
    if (issuer !== this.#issuer) {
      throw new NotAccepted(`its certificate was given by the word of ${shown(issuer)}, not of ${this.#issuer}`);
    }
    const email = certificate.extSubjectAltName?.rfc822Name;
    if (email !== this.#email) throw new NotAccepted(`it is by ${shown(email)}, not by ${this.#email}`);
    const usage = certificate.extension(EXTENDED_KEY_USAGE)?.valueObj.subs[0]?.subs.map((each) => each.toOID());
    if (usage?.includes(CODE_SIGNING) !== true) throw new NotAccepted('its certificate is not for signing code');
    return createPublicKey({ key: certificate.publicKey, format: 'der', type: 'spki' });
  }

  /** Whether the authority had given the certificate, and it was good at the time. */
  vouchesFor(certificate: X509Certificate, intermediates: readonly X509Certificate[], date: Date): boolean {
    if (isIssued(certificate, intermediates, this.#roots, date)) return true;
    throw new NotAccepted(
      certificate.validForDate(date)
        ? 'its certificate is not of the authority of the rule'
        : `its certificate was not good when it was made, ${date.toISOString()}`,
    );
  }
}

function issuerOf(certificate: X509Certificate): string | undefined {
  const old = certificate.extension(ISSUER_V1)?.value.toString('utf8');
  const extension = certificate.extension(ISSUER_V2);
  if (extension === undefined) return old;
  const issuer = extension.valueObj.subs[0]?.value.toString('utf8');
  // Readers of the one and of the other must not see two issuers.
  if (old !== undefined && old !== issuer) throw new NotAccepted('its certificate names two issuers');
  return issuer;
}

const shown = (text: string | undefined): string => (text === undefined ? 'nobody' : JSON.stringify(text));
