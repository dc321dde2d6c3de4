import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { LayerdError, messageOf } from '../../../protocol/errors.ts';
import { parseJson } from '../../../protocol/json.ts';
import { VERBS, type Action, type Verb } from './actions.ts';

/**
 * Who may do what: an ordered list of rules. Its life: it is *read* whole or not at all, at a start and at each reload; a
 * request is *identified* by what its connection proves of its client; the first rule that names the client *decides*, by
 * what it allows, and where none does the request is refused. Without a policy whoever reaches a socket may do everything,
 * as with dockerd.
 */
export interface Policy {
  readonly path: string;
  readonly rules: readonly Rule[];
  /** SHA-256 of each token, by its name. */
  readonly tokens: ReadonlyMap<string, Buffer>;
}

export interface Rule {
  readonly clients: readonly ClientPattern[];
  readonly allow: readonly Grant[];
}

/** Whom a rule is for: `uid:1000`, `gid:998`, `certificate:NAME`, `token:NAME`, `socket:PATH`, or `*`. */
export type ClientPattern = { readonly kind: keyof Client; readonly value: string } | '*';

/** What is allowed, where. */
export interface Grant {
  readonly verbs: ReadonlySet<Verb>;
  /** Canonical repositories, in which `*` stands for anything; undefined for all, and for what is about none. */
  readonly repositories: readonly RegExp[] | undefined;
}

/** What a connection, or a token sent over it, proves of who is at its other end. */
export interface Client {
  /** Of the process that opened it, over a Unix socket. */
  readonly uid?: string;
  readonly gid?: string;
  /** Common name of a verified client certificate. */
  readonly certificate?: string;
  /** Name of the token that was sent. */
  readonly token?: string;
  /** The Unix socket that it came through. */
  readonly socket?: string;
}

const KINDS: readonly string[] = ['uid', 'gid', 'certificate', 'token', 'socket'] satisfies (keyof Client)[];
const SHA256 = /^sha256:[0-9a-f]{64}$/;

/**
 * Reads a policy file.
 * @throws LayerdError of kind invalid that names the file, the place in it, and what was expected there.
 */
export function readPolicy(path: string): Policy {
  try {
    const { tokens, rules } = fieldsOf(parseJson(readFileSync(path, 'utf8')), 'it', ['tokens', 'rules']);
    const named = tokens === undefined ? {} : fieldsOf(tokens, 'tokens');
    const policy = {
      path,
      tokens: new Map(Object.entries(named).map(([name, value]) => [name, tokenOf(value, `tokens.${name}`)])),
      rules: listOf(rules, 'rules').map((rule, index) => ruleOf(rule, `rules[${index}]`)),
    };
    for (const [index, { clients }] of policy.rules.entries()) {
      const unknown = clients.find(
        (client) => client !== '*' && client.kind === 'token' && !policy.tokens.has(client.value),
      );
      if (unknown !== undefined && unknown !== '*') {
        throw new Error(`rules[${index}].clients: there is no token ${JSON.stringify(unknown.value)} in "tokens"`);
      }
    }
    return policy;
  } catch (error) {
    throw new LayerdError('invalid', `cannot use the authorization policy ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The name of a token that was sent; undefined where the policy has no such token. */
export function tokenName({ tokens }: Policy, sent: string): string | undefined {
  const digest = createHash('sha256').update(sent).digest();
  // All are compared, each in the same time: how long it takes tells nothing of them.
  return [...tokens].filter(([, expected]) => timingSafeEqual(digest, expected)).map(([name]) => name)[0];
}

/**
 * Lets the action pass, or throws `forbidden`. Of an action on repositories each has to be allowed; one that is about no
 * repository in particular, such as a list, only passes where none is left out.
 */
export function authorize({ path, rules }: Policy, client: Client, { verb, repositories }: Action): void {
  const index = rules.findIndex(({ clients }) => clients.some((pattern) => isMeant(pattern, client)));
  const about = repositories ?? [undefined];
  const refused = about.find((repository) => !rules[index]?.allow.some((grant) => allows(grant, verb, repository)));
  const isAllowed =
    index !== -1 && about.every((repository) => rules[index]?.allow.some((grant) => allows(grant, verb, repository)));
  if (isAllowed) return;
  const what = refused === undefined ? verb : `${verb} ${refused}`;
  const why = index === -1 ? 'no rule of it names this client' : `its rule ${index + 1} does not allow it`;
  throw new LayerdError(
    'forbidden',
    `${describe(client)} may not ${what}: so says the authorization policy ${path} (${why}); ask whoever administers layerd here`,
  );
}

function allows({ verbs, repositories }: Grant, verb: Verb, repository: string | undefined): boolean {
  if (!verbs.has(verb)) return false;
  if (repositories === undefined) return true;
  return repository !== undefined && repositories.some((pattern) => pattern.test(repository));
}

const isMeant = (pattern: ClientPattern, client: Client): boolean =>
  pattern === '*' || client[pattern.kind] === pattern.value;

/** What is known of a client, for messages and the log. */
export function describe(client: Client): string {
  const known = Object.entries(client).map(
    ([kind, value]) => `${kind} ${JSON.stringify(value).replace(/^"(\d+)"$/, '$1')}`,
  );
  return known.length === 0 ? 'an unknown client' : `the client with ${known.join(', ')}`;
}

function ruleOf(value: unknown, place: string): Rule {
  const { clients, allow } = fieldsOf(value, place, ['clients', 'allow']);
  return {
    clients: listOf(clients, `${place}.clients`).map((client, at) => clientOf(client, `${place}.clients[${at}]`)),
    allow: listOf(allow, `${place}.allow`).map((grant, at) => grantOf(grant, `${place}.allow[${at}]`)),
  };
}

function clientOf(value: unknown, place: string): ClientPattern {
  if (value === '*') return '*';
  const text = textOf(value, place);
  const [, kind = '', name = ''] = /^([a-z]+):(.+)$/.exec(text) ?? [];
  const isNumber = /^\d+$/.test(name);
  if (!KINDS.includes(kind) || ((kind === 'uid' || kind === 'gid') && !isNumber)) {
    throw new Error(
      `${place}: ${JSON.stringify(text)} is no client: expected *, uid:NUMBER, gid:NUMBER, certificate:COMMON-NAME, token:NAME or socket:PATH`,
    );
  }
  return { kind: kind as keyof Client, value: name };
}

function grantOf(value: unknown, place: string): Grant {
  const { verbs, repositories } = fieldsOf(value, place, ['verbs', 'repositories']);
  const patterns =
    repositories === undefined
      ? ['*']
      : listOf(repositories, `${place}.repositories`).map((each, at) => textOf(each, `${place}.repositories[${at}]`));
  return {
    verbs: new Set(listOf(verbs, `${place}.verbs`).flatMap((verb, at) => verbsOf(verb, `${place}.verbs[${at}]`))),
    repositories: patterns.includes('*') ? undefined : patterns.map(patternOf),
  };
}

function verbsOf(value: unknown, place: string): readonly Verb[] {
  const text = textOf(value, place);
  if (text === '*') return VERBS;
  const verb = VERBS.find((each) => each === text);
  if (verb !== undefined) return [verb];
  throw new Error(`${place}: ${JSON.stringify(text)} is no verb: expected * or one of ${VERBS.join(', ')}`);
}

/** `*` stands for anything, slashes too; everything else for itself. */
function patternOf(text: string): RegExp {
  return new RegExp(
    `^${text
      .split('*')
      .map((part) => RegExp.escape(part))
      .join('.*')}$`,
    's',
  );
}

function tokenOf(value: unknown, place: string): Buffer {
  const text = textOf(value, place);
  if (!SHA256.test(text)) {
    throw new Error(
      `${place}: expected sha256: and the SHA-256 of the token in hex, as printf %s "$TOKEN" | sha256sum tells it`,
    );
  }
  return Buffer.from(text.slice('sha256:'.length), 'hex');
}

function fieldsOf(value: unknown, place: string, known?: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Error(`${place} must be an object: { … }`);
  }
  const fields = value as Record<string, unknown>;
  // A misspelt key would be a rule that is not there.
  const unknown = known === undefined ? undefined : Object.keys(fields).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new Error(`${place} has the unknown key ${JSON.stringify(unknown)}: expected ${known?.join(', ') ?? ''}`);
  }
  return fields;
}

function listOf(value: unknown, place: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new Error(`${place} must be a list: [ … ]`);
  return value;
}

function textOf(value: unknown, place: string): string {
  if (typeof value !== 'string' || value === '') throw new Error(`${place} must be a text`);
  return value;
}
