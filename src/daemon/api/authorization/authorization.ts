import type { Call } from '../call.ts';
import { actionOf, type RepositoriesOf } from './actions.ts';
import { Clients } from './client.ts';
import { authorize, describe, type Policy } from './policy.ts';

/** Holds each request to the policy, if there is one. */
export class Authorization {
  readonly #repositoriesOf: RepositoriesOf;
  readonly #log: { warn(message: string, fields?: Record<string, unknown>): unknown };
  #policy: Policy | undefined;
  /** Made with the first policy: without one nobody is asked who they are. */
  #clients: Clients | undefined;

  constructor(options: {
    policy: Policy | undefined;
    repositoriesOf: RepositoriesOf;
    log: { warn(message: string, fields?: Record<string, unknown>): unknown };
  }) {
    this.#repositoriesOf = options.repositoriesOf;
    this.#log = options.log;
    this.policy = options.policy;
  }

  /** Takes a policy on, for requests from now on. Throws, and changes nothing, where clients cannot be told apart here. */
  set policy(policy: Policy | undefined) {
    if (policy !== undefined) this.#clients ??= new Clients();
    this.#policy = policy;
  }

  /** Lets the request pass, or throws `forbidden`, or `unauthorized` for a token that is none. */
  check(call: Call): void {
    const policy = this.#policy;
    if (policy === undefined || this.#clients === undefined) return;
    const action = actionOf(call, this.#repositoriesOf);
    if (action.verb === 'ping') return;
    const client = this.#clients.of(call.request, policy);
    try {
      authorize(policy, client, action);
    } catch (error) {
      this.#log.warn('a request was refused by the authorization policy', {
        client: describe(client),
        verb: action.verb,
        repositories: action.repositories ?? [],
      });
      throw error;
    }
  }
}
