import type { Digest } from '../../protocol/digest.ts';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { familiarName, familiarString, type Reference } from '../../protocol/reference.ts';
import type { NewEvent } from '../events/event.ts';
import { sanitise } from '../registry/reason.ts';
import type { Credentials, Registries } from '../registry/registry.ts';
import type { ArchiveTransport, Refusal, Rule, SignaturePolicy } from '../signatures/policy.ts';
import { scopesOf } from '../signatures/scope.ts';
import { lookasideOf, NO_SIGNATURES, RegistrySignatures, type Lookaside } from './registry-signatures.ts';

/** What images are admitted by; replaced as a whole on a reload. */
export interface AdmissionSettings {
  /** Undefined where every image is admitted. */
  readonly policy: SignaturePolicy | undefined;
  readonly lookasides: readonly Lookaside[];
}

interface AdmissionLog {
  warn(message: string, fields?: Record<string, unknown>): void;
}

/** Decides which images may become visible, by the signature policy; what is refused is told in the log and as an event. */
export class Admission {
  readonly #registries: Registries;
  readonly #events: { append(event: NewEvent): unknown };
  readonly #log: AdmissionLog;
  settings: AdmissionSettings;

  constructor(
    parts: { registries: Registries; events: { append(event: NewEvent): unknown }; log: AdmissionLog },
    settings: AdmissionSettings,
  ) {
    this.#registries = parts.registries;
    this.#events = parts.events;
    this.#log = parts.log;
    this.settings = settings;
  }

  /** The policy in force, in a few words. */
  get summary(): string {
    return this.settings.policy?.summary ?? 'none: signatures are not checked';
  }

  /**
   * Begins to check what a pull was asked for; undefined where nothing is to be checked. What is in force now counts to
   * the end of it.
   * @throws LayerdError of kind forbidden where no such image is admitted, before anybody was asked for it.
   */
  checkOf(reference: Reference): ImageCheck | undefined {
    const { policy, lookasides } = this.settings;
    const rule = policy?.ruleOf(reference);
    if (rule === undefined || rule.isOpen) return undefined;
    const subject = { what: `pull of ${familiarString(reference)}`, reference };
    if (rule.rejection !== undefined) throw this.#refused(subject, rule, rule.rejection);
    return {
      admit: async ({ target, manifests, credentials, signal }) => {
        const { registry, path } = reference;
        const signatures = new RegistrySignatures({
          registries: this.#registries,
          repository: { registry, path },
          lookaside: lookasideOf(lookasides, scopesOf(reference)),
          credentials,
          signal,
        });
        const refusal = await rule.refusal({ reference, target, manifests }, signatures);
        if (refusal !== undefined) throw this.#refused({ ...subject, digest: target }, rule, refusal);
      },
    };
  }

  /** @throws LayerdError of kind forbidden where the rule for such archives wants more than that they are there. */
  async admitArchive(transport: ArchiveTransport, verb: 'load' | 'import', target: Digest): Promise<void> {
    const rule = this.settings.policy?.ruleOfArchive(transport);
    if (rule === undefined || rule.isOpen) return;
    const candidate = { reference: undefined, target, manifests: [] };
    const refusal = await rule.refusal(candidate, NO_SIGNATURES);
    if (refusal !== undefined) throw this.#refused({ what: `${verb} (${transport})`, digest: target }, rule, refusal);
  }

  #refused(
    { what, reference, digest }: { what: string; reference?: Reference; digest?: Digest },
    rule: Rule,
    { requirement, reason }: Refusal,
  ): LayerdError {
    // Whoever signed, and whoever pushed, has written a part of it.
    const told = sanitise(reason);
    const fields = {
      policy: rule.policy,
      scope: rule.scope,
      requirement,
      reason: told,
      ...(digest === undefined ? {} : { digest }),
    };
    this.#log.warn(`${what} refused by the signature policy`, fields);
    const name = reference === undefined ? {} : { name: familiarName(reference) };
    const actor = reference === undefined ? (digest ?? '') : familiarString(reference);
    try {
      this.#events.append({ type: 'image', action: 'refuse', actor, attributes: { ...fields, ...name } });
    } catch (error) {
      // On a full disk too, it stays refused.
      this.#log.warn(`a refusal could not be logged as an event: ${messageOf(error)}`);
    }
    const wants = requirement === 'reject' ? 'rejects it' : `requires ${requirement}`;
    return new LayerdError(
      'forbidden',
      `${what} refused by the signature policy ${rule.policy}: the rule for ${rule.scope} ${wants}: ${told}`,
    );
  }
}

/** The check of what one pull was asked for. */
export interface ImageCheck {
  /**
   * Resolves when what was found may become visible: the target, and the manifests that were chosen from it.
   * @throws LayerdError of kind forbidden that names the rule and says why; of other kinds where signatures cannot be had.
   */
  admit(found: {
    readonly target: Digest;
    readonly manifests: readonly Digest[];
    readonly credentials: Credentials | undefined;
    readonly signal: AbortSignal;
  }): Promise<void>;
}
