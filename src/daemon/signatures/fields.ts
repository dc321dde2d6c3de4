/** An object in a policy's file, read field by field; {@link end} refuses the fields that nobody has read. */
export class Fields {
  readonly where: string;
  readonly #values: Map<string, unknown>;
  readonly #known = new Set<string>();

  /** @param where What it is called in messages. */
  constructor(value: unknown, where: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new Error(`${where} must be an object`);
    }
    this.where = where;
    this.#values = new Map(Object.entries(value));
  }

  /** All fields, whatever they are called. */
  entries(): IterableIterator<[string, unknown]> {
    return this.#values.entries();
  }

  has(name: string): boolean {
    this.#known.add(name);
    return this.#values.has(name);
  }

  /** The value of a field that must be there. */
  take(name: string): unknown {
    if (!this.has(name)) throw new Error(`${this.where} has no "${name}"`);
    return this.#values.get(name);
  }

  text(name: string): string {
    return text(this.take(name), `${this.where}.${name}`);
  }

  texts(name: string): string[] {
    const where = `${this.where}.${name}`;
    const values = listed(this.take(name), where);
    if (values.length === 0) throw new Error(`${where} is empty`);
    return values.map((value, index) => text(value, `${where}[${index}]`));
  }

  object(name: string): Fields {
    return new Fields(this.take(name), `${this.where}.${name}`);
  }

  optionalObject(name: string): Fields | undefined {
    return this.has(name) ? this.object(name) : undefined;
  }

  /** The one of these fields that is there. */
  oneOf<Name extends string>(names: readonly Name[]): Name | undefined {
    const [first, second] = names.filter((name) => this.has(name));
    if (second !== undefined) throw new Error(`${this.where} has both "${first}" and "${second}": keep one of them`);
    return first;
  }

  /** @throws Error that names a field which is not known. */
  end(): void {
    const unknown = [...this.#values.keys()].find((name) => !this.#known.has(name));
    if (unknown === undefined) return;
    const known = [...this.#known].map((name) => `"${name}"`).join(', ');
    throw new Error(`${this.where} has the unknown key ${JSON.stringify(unknown)}; known here: ${known}`);
  }
}

/** The items of what must be a list. */
export function listed(value: unknown, where: string): unknown[] {
  if (!Array.isArray(value)) throw new Error(`${where} must be a list`);
  return value;
}

function text(value: unknown, where: string): string {
  if (typeof value !== 'string' || value === '') throw new Error(`${where} must be a text that is not empty`);
  return value;
}
