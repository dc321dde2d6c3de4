import { LayerdError, type ErrorKind } from '../../protocol/errors.ts';
import { parseChallenges } from './challenge.ts';
import { header, readBody, type HttpResponse } from './http.ts';
import { retryAfter } from './retry.ts';

/** Why a registry refuses, in its own words (OCI distribution spec, "Error Codes"). */
export interface Reason {
  /** `MANIFEST_UNKNOWN`, `DENIED`, … */
  readonly code: string;
  readonly message: string;
}

/** What a request was about, for the message that says what came of it. */
export interface Subject {
  readonly kind: 'manifest' | 'blob' | 'tags' | 'referrers';
  /** The repository as users call it: `redis`. */
  readonly name: string;
  /** The repository with tag or digest: `redis:7`. */
  readonly reference: string;
  /** Whether credentials were sent. */
  readonly authenticated: boolean;
}

/** An answer that says no is read up to so many bytes: 64 KiB. */
const MAX_REASON_BYTES = 64 * 1024;
/** Characters of a registry's text that are shown. */
const MAX_TEXT_LENGTH = 512;

/** What a registry means that gives a code without a text; the texts of the distribution project. */
const STANDARD_MESSAGES: ReadonlyMap<string, string> = new Map([
  ['UNAUTHORIZED', 'authentication required'],
  ['DENIED', 'requested access to the resource is denied'],
  ['MANIFEST_UNKNOWN', 'manifest unknown'],
  ['NAME_UNKNOWN', 'repository name not known to registry'],
  ['BLOB_UNKNOWN', 'blob unknown to registry'],
  ['TOOMANYREQUESTS', 'too many requests'],
  ['UNSUPPORTED', 'the operation is unsupported'],
  ['UNAVAILABLE', 'service unavailable'],
]);

const KINDS: ReadonlyMap<string, ErrorKind> = new Map([
  ['UNAUTHORIZED', 'unauthorized'],
  ['MANIFEST_UNKNOWN', 'not-found'],
  ['NAME_UNKNOWN', 'not-found'],
  ['BLOB_UNKNOWN', 'not-found'],
  ['TOOMANYREQUESTS', 'too-many-requests'],
]);

/**
 * Answers log forging and terminal tricks: what a registry writes goes into our log and onto a user's terminal, where a
 * line break would start a line of its making, an escape sequence run, and a megabyte fill the screen.
 */
export function sanitise(text: string): string {
  const plain = text.replace(/[\p{Cc}\p{Cf}\s]+/gu, ' ').trim();
  return plain.length > MAX_TEXT_LENGTH ? `${plain.slice(0, MAX_TEXT_LENGTH)}…` : plain;
}

/** A reason as dockerd writes it: `denied: requested access to the resource is denied`. */
export function describeReason({ code, message }: Reason): string {
  return `${code.toLowerCase().replaceAll('_', ' ')}: ${message}`;
}

/** Reads why an answer says no. The status speaks where the body is silent. */
export async function reasonOf(response: HttpResponse): Promise<Reason> {
  const fromBody = parseReason(await readText(response));
  const fromChallenge = challengeReason(response);
  if (fromChallenge !== undefined) return fromChallenge;
  const code = fromBody.code ?? codeOfStatus(response.status);
  return { code, message: fromBody.message ?? STANDARD_MESSAGES.get(code) ?? `status ${response.status}` };
}

/** Turns an answer that says no into an error, worded like dockerd's, because scripts look for these words. */
export async function refusal(response: HttpResponse, subject: Subject): Promise<LayerdError> {
  const { code, message } = await reasonOf(response);
  const text = describeReason({ code, message });
  const { kind, name, reference, authenticated } = subject;
  const { host } = response.url;
  const asked = { retryAfter: retryAfter(header(response, 'retry-after'), Date.now()) };
  switch (code) {
    case 'DENIED':
      // Registries say the same of what does not exist and of what one may not see. Without credentials dockerd takes
      // it for the former.
      return new LayerdError(
        authenticated ? 'forbidden' : 'not-found',
        `pull access denied for ${name}, repository does not exist or may require 'docker login': ${text}`,
      );
    case 'UNAUTHORIZED':
      return new LayerdError(
        'unauthorized',
        authenticated
          ? `${text}: ${host} refused the credentials for ${name}`
          : `${text}: ${host} wants credentials for ${name}, see 'docker login'`,
      );
    case 'NAME_UNKNOWN':
      return new LayerdError('not-found', `repository ${name} not found: ${text}`);
    case 'TOOMANYREQUESTS':
      return new LayerdError(
        'too-many-requests',
        `${text}: ${host} limits requests, for ${reference}; try again later`,
        asked,
      );
  }
  if (response.status === 404) return new LayerdError('not-found', `${kind} for ${reference} not found: ${text}`);
  return new LayerdError(
    KINDS.get(code) ?? 'unavailable',
    `${host} answered with status ${response.status} when asked for the ${kind} of ${reference}: ${text}`,
    asked,
  );
}

/** Turns an answer that says no to a push into an error: the registry's reason as dockerd writes it, and who said so. */
export async function pushRefusal(
  response: HttpResponse,
  { name, authenticated }: Pick<Subject, 'name' | 'authenticated'>,
): Promise<LayerdError> {
  const { code, message } = await reasonOf(response);
  const text = describeReason({ code, message });
  const { host } = response.url;
  const login = authenticated ? '' : ", see 'docker login'";
  switch (code) {
    case 'UNAUTHORIZED':
      return new LayerdError(
        'unauthorized',
        `${text}: ${host} ${authenticated ? 'refused the' : 'wants'} credentials for a push to ${name}${login}`,
      );
    // Registries say this of quotas, too.
    case 'DENIED':
      return new LayerdError('forbidden', `${text}: ${host} refuses a push to ${name}${login}`);
    case 'TOOMANYREQUESTS':
      return new LayerdError('too-many-requests', `${text}: ${host} limits requests; push ${name} again later`);
  }
  const refused = response.status >= 400 && response.status < 500;
  return new LayerdError(
    KINDS.get(code) ?? (refused ? 'invalid' : 'unavailable'),
    `${text}: ${host} answered a push to ${name} with status ${response.status}`,
  );
}

/** What an answer's JSON says: `{errors: [{code, message, detail}]}`, or `{details}` as Docker Hub's token server. */
export function parseReason(body: string): Partial<Reason> {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    // A page of some proxy in between; its status says all we can use.
    return {};
  }
  const errors = field(value, 'errors');
  const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
  const code = field(first, 'code');
  const messages = [
    field(first, 'message'),
    field(first, 'detail'),
    field(value, 'details'),
    field(value, 'error_description'),
    field(value, 'message'),
  ];
  const message = messages.find((each) => typeof each === 'string' && each !== '');
  return {
    ...(typeof code === 'string' && /^\w{1,64}$/.test(code) ? { code: code.toUpperCase() } : {}),
    ...(typeof message === 'string' ? { message: sanitise(message) } : {}),
  };
}

/** What a bearer challenge says of the token that it got (RFC 6750 section 3.1). */
function challengeReason(response: HttpResponse): Reason | undefined {
  if (response.status !== 401 && response.status !== 403) return undefined;
  for (const { scheme, parameters } of parseChallenges(header(response, 'www-authenticate') ?? '')) {
    const error = parameters.get('error');
    const code = error === 'insufficient_scope' ? 'DENIED' : error === 'invalid_token' ? 'UNAUTHORIZED' : undefined;
    if (scheme !== 'bearer' || code === undefined) continue;
    const message = sanitise(parameters.get('error_description') ?? '');
    return { code, message: message === '' ? (STANDARD_MESSAGES.get(code) ?? '') : message };
  }
  return undefined;
}

function codeOfStatus(status: number): string {
  if (status === 401) return 'UNAUTHORIZED';
  if (status === 403) return 'DENIED';
  if (status === 404) return 'NOT_FOUND';
  if (status === 429) return 'TOOMANYREQUESTS';
  return status >= 500 ? 'UNAVAILABLE' : 'UNKNOWN';
}

async function readText(response: HttpResponse): Promise<string> {
  try {
    return (await readBody(response, MAX_REASON_BYTES, 'an error')).toString();
  } catch (error) {
    if (error instanceof LayerdError && error.kind !== 'cancelled') return '';
    throw error;
  }
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}
