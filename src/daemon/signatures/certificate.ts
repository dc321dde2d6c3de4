import { X509Certificate } from '@sigstore/core';

/** Certificates of one text. */
const MAX_CERTIFICATES = 16;
/** Those that come with a signature: if all of them sign each other, every order of them is a path to be tried. */
export const MAX_INTERMEDIATES = 4;

/** Extensions that are looked at here: basic constraints, key usage, extended key usage, alternative names. */
const KNOWN_EXTENSIONS: ReadonlySet<string> = new Set(['2.5.29.19', '2.5.29.15', '2.5.29.37', '2.5.29.17']);

/** The certificates of a PEM text, in its order. */
export function parseCertificates(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new Error('there is no certificate in PEM');
  if (blocks.length > MAX_CERTIFICATES) throw new Error(`there are more than ${MAX_CERTIFICATES} certificates`);
  return blocks.map((block) => X509Certificate.parse(block));
}

/**
 * Whether a path leads from the certificate over the intermediate ones, which nobody vouches for, to a root, all of them
 * good at the time (RFC 5280, section 6). The sigstore library takes every intermediate certificate for trusted, and
 * demands the keys of certificate transparency logs, which a policy does not have.
 * @param below How many intermediate certificates the path has so far.
 */
export function isIssued(
  certificate: X509Certificate,
  intermediates: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  date: Date,
  below = 0,
): boolean {
  if (!isGood(certificate, date)) return false;
  if (roots.some((root) => isGood(root, date) && issues(root, certificate, below))) return true;
  return intermediates.some((each, index) => {
    if (!issues(each, certificate, below)) return false;
    // Each once, so that certificates which sign each other lead nowhere.
    return isIssued(each, intermediates.toSpliced(index, 1), roots, date, below + 1);
  });
}

function isGood(certificate: X509Certificate, date: Date): boolean {
  if (!certificate.validForDate(date)) return false;
  // What is critical and not understood, such as constraints of names, must not be passed over.
  return certificate.extensions.every(({ subs }) => {
    const [oid, critical] = subs;
    return subs.length < 3 || critical?.toBoolean() === false || KNOWN_EXTENSIONS.has(oid?.toOID() ?? '');
  });
}

function issues(issuer: X509Certificate, certificate: X509Certificate, below: number): boolean {
  const longest = issuer.extBasicConstraints?.pathLenConstraint;
  return (
    issuer.isCA &&
    (longest === undefined || longest >= BigInt(below)) &&
    issuer.subject.equals(certificate.issuer) &&
    certificate.verify(issuer)
  );
}
