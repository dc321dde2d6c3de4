import type { Contract } from './contract.ts';

/** How much of the definition was walked. */
export interface Extent {
  readonly covered: number;
  readonly all: number;
}

/** Counts what of some operations of the definition was asked for, and how it was answered. */
export class Coverage {
  readonly #contract: Contract;
  /** `GET /images/json` and, of each, `… query filters` and `… 200`; true once it was met. */
  readonly #operations = new Map<string, boolean>();
  readonly #parameters = new Map<string, boolean>();
  readonly #responses = new Map<string, boolean>();

  /** Of the operations with one of the tags. */
  constructor(contract: Contract, tags: readonly string[]) {
    this.#contract = contract;
    for (const { method, path, tags: own, parameters, statuses } of contract.operations()) {
      if (!own.some((tag) => tags.includes(tag))) continue;
      const name = `${method} ${path}`;
      this.#operations.set(name, false);
      for (const parameter of parameters) this.#parameters.set(`${name} ${parameter}`, false);
      for (const status of statuses) this.#responses.set(`${name} ${status}`, false);
    }
  }

  /** Counts a request and its answer. `target` is without its version. */
  record(
    method: string,
    target: string,
    { headers = {}, hasBody = false, status }: { headers?: object; hasBody?: boolean; status: number },
  ): void {
    const [path = '', query] = target.split('?');
    const name = `${method} ${this.#contract.template(method, path)}`;
    mark(this.#operations, name);
    mark(this.#responses, `${name} ${status}`);
    for (const key of new URLSearchParams(query).keys()) mark(this.#parameters, `${name} query ${key}`);
    for (const key of Object.keys(headers)) mark(this.#parameters, `${name} header ${key}`);
    for (const key of this.#parameters.keys()) {
      if (key.startsWith(`${name} path `) || (hasBody && key.startsWith(`${name} body `))) mark(this.#parameters, key);
    }
  }

  get operations(): Extent {
    return extentOf(this.#operations);
  }

  get parameters(): Extent {
    return extentOf(this.#parameters);
  }

  get responses(): Extent {
    return extentOf(this.#responses);
  }

  /** What was never met. */
  get missing(): string[] {
    return [this.#operations, this.#parameters, this.#responses].flatMap((all) =>
      [...all].flatMap(([name, met]) => (met ? [] : [name])),
    );
  }
}

/** A name that the definition does not have, such as a status that every operation may have, is not counted. */
function mark(all: Map<string, boolean>, name: string): void {
  if (all.has(name)) all.set(name, true);
}

function extentOf(all: ReadonlyMap<string, boolean>): Extent {
  return { covered: [...all.values()].filter(Boolean).length, all: all.size };
}
