import { readFile } from 'node:fs/promises';
import type { Digest } from '../../protocol/digest.ts';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { parseJson } from '../../protocol/json.ts';
import type { Reference } from '../../protocol/reference.ts';
import { Fields, listed } from './fields.ts';
import { loadRequirement, type Requirement } from './requirement.ts';
import { isScope, scopesOf } from './scope.ts';
import type { Signatures } from './signature.ts';

/**
 * Which images may become visible here, as containers-policy.json(5) says it. Its life:
 *
 * 1. *Load*, at the start and at every reload: the file and every key that it names are read and checked as a whole. What
 *    is not understood is refused by name, since a requirement that is passed over would be no requirement.
 * 2. *Lookup*: of all scopes that fit an image the most specific one counts, alone. It gives the {@link Rule}.
 * 3. *Check*: an image has to meet every requirement of its rule.
 */
export class SignaturePolicy {
  readonly path: string;
  readonly #default: readonly Requirement[];
  /** By transport and scope. */
  readonly #transports: ReadonlyMap<string, ReadonlyMap<string, readonly Requirement[]>>;

  private constructor(path: string, fallback: readonly Requirement[], transports: SignaturePolicy['scopes']) {
    this.path = path;
    this.#default = fallback;
    this.#transports = transports;
  }

  /** @throws LayerdError of kind invalid that says what is wrong, and where in the file. */
  static async load(path: string): Promise<SignaturePolicy> {
    try {
      const root = new Fields(parseJson(await readFile(path, 'utf8')), 'the file');
      const fallback = await requirements(root.take('default'), 'default');
      const transports = new Map<string, ReadonlyMap<string, readonly Requirement[]>>();
      for (const [transport, value] of root.optionalObject('transports')?.entries() ?? []) {
        const scopes = new Map<string, readonly Requirement[]>();
        checkTransport(transport);
        const where = `transports.${transport}`;
        for (const [scope, list] of new Fields(value, where).entries()) {
          if (transport === 'docker') checkScope(scope);
          scopes.set(scope, await requirements(list, `${where}[${JSON.stringify(scope)}]`));
        }
        transports.set(transport, scopes);
      }
      root.end();
      return new SignaturePolicy(path, fallback, transports);
    } catch (error) {
      throw new LayerdError('invalid', `cannot use the signature policy ${path}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  get scopes(): ReadonlyMap<string, ReadonlyMap<string, readonly Requirement[]>> {
    return this.#transports;
  }

  /** The policy in a few words. */
  get summary(): string {
    const count = [...this.#transports.values()].reduce((sum, scopes) => sum + scopes.size, 0);
    const types = this.#default.map(({ type }) => type).join(', ');
    return `${this.path} (default: ${types}; ${count} ${count === 1 ? 'scope' : 'scopes'})`;
  }

  /** The rule for an image of a registry. */
  ruleOf(reference: Reference): Rule {
    return this.#rule('docker', scopesOf(reference));
  }

  /** The rule for an archive, whose path on the client nobody knows here. */
  ruleOfArchive(transport: ArchiveTransport): Rule {
    return this.#rule(transport, []);
  }

  #rule(transport: string, scopes: readonly string[]): Rule {
    const known = this.#transports.get(transport);
    for (const scope of [...scopes, '']) {
      const found = known?.get(scope);
      if (found === undefined) continue;
      const name = scope === '' ? `all of ${transport}` : JSON.stringify(scope);
      return new Rule(this.path, name, found);
    }
    return new Rule(this.path, 'everything else (default)', this.#default);
  }
}

/** What archives are called in a policy: of docker save, as OCI layouts, and of a root file system. */
export type ArchiveTransport = 'docker-archive' | 'oci-archive' | 'tarball';

/** An image that is to be checked. */
export interface Candidate {
  /** As it was asked for; undefined for what comes in an archive. */
  readonly reference: Reference | undefined;
  /** Of what the reference names. */
  readonly target: Digest;
  /** Of the manifests that were chosen from it, where it is an index. */
  readonly manifests: readonly Digest[];
}

/** Why an image may not become visible. */
export interface Refusal {
  /** The type of the requirement that it does not meet. */
  readonly requirement: string;
  readonly reason: string;
}

/** What a policy says of an image. */
export class Rule {
  /** The policy's file. */
  readonly policy: string;
  /** What it is for, as messages name it. */
  readonly scope: string;
  readonly #requirements: readonly Requirement[];

  constructor(policy: string, scope: string, requirements: readonly Requirement[]) {
    this.policy = policy;
    this.scope = scope;
    this.#requirements = requirements;
  }

  /** Whether it accepts whatever there is. */
  get isOpen(): boolean {
    return this.#requirements.every(({ verdict }) => verdict === 'accept');
  }

  /** What can be said without looking at the image. */
  get rejection(): Refusal | undefined {
    const rejecting = this.#requirements.find(({ verdict }) => verdict === 'reject');
    return rejecting && { requirement: rejecting.type, reason: 'it allows no image' };
  }

  /**
   * Why the image does not meet the rule; undefined where it does. A signature of an index is one of all that the index
   * lists by digest; where the index has none that is accepted, each of the chosen manifests needs its own.
   */
  async refusal({ reference, target, manifests }: Candidate, signatures: Signatures): Promise<Refusal | undefined> {
    for (const requirement of this.#requirements) {
      const whole = await requirement.refusal({ reference, digest: target }, signatures);
      if (whole === undefined) continue;
      const parts = manifests.filter((digest) => digest !== target);
      const { type } = requirement;
      if (parts.length === 0) return { requirement: type, reason: whole };
      for (const digest of parts) {
        const reason = await requirement.refusal({ reference, digest }, signatures);
        if (reason === undefined) continue;
        return { requirement: type, reason: `index ${target}: ${whole}; manifest ${digest}: ${reason}` };
      }
    }
    return undefined;
  }
}

/** The transports of containers-policy(5); of most of them, nothing comes here. */
const TRANSPORTS: ReadonlySet<string> = new Set([
  ...[
    'docker',
    'docker-archive',
    'oci-archive',
    'tarball',
    'atomic',
    'containers-storage',
    'dir',
    'docker-daemon',
    'oci',
  ],
  ...['ostree', 'sif'],
]);

/** A slip of the pen would leave what is meant to the default. */
function checkTransport(transport: string): void {
  if (TRANSPORTS.has(transport)) return;
  throw new Error(`transports has ${JSON.stringify(transport)}; expected one of ${[...TRANSPORTS].join(', ')}`);
}

/** The same, of a name that is no image's. */
function checkScope(scope: string): void {
  if (scope === '' || isScope(scope)) return;
  throw new Error(
    `transports.docker has the scope ${JSON.stringify(scope)}, which no image is in; expected HOST[:PORT], *.DOMAIN, or a name in full such as docker.io/library/redis`,
  );
}

async function requirements(value: unknown, where: string): Promise<Requirement[]> {
  const list = listed(value, where);
  // An empty list would accept everything, which has to be said.
  if (list.length === 0)
    throw new Error(`${where} has no requirement: write insecureAcceptAnything to require nothing`);
  const loaded: Requirement[] = [];
  for (const [index, each] of list.entries())
    loaded.push(await loadRequirement(new Fields(each, `${where}[${index}]`)));
  return loaded;
}
