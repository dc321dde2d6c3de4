import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Ajv, type ValidateFunction } from 'ajv';
import { parse } from 'yaml';

/** Where the Engine API's definition lies beside the project, from its root or from a worktree of it. */
const DEFINITION = 'shared/reference/engine-api-v1.56.yaml';
const PLACES = ['../../../..', '../../../../..'].map((up) =>
  fileURLToPath(new URL(`${up}/${DEFINITION}`, import.meta.url)),
);

/** The version that the definition is of. */
const NEWEST = 1.56;

/** Errors of every operation, whether or not the definition repeats them: parameters, authority, areas not served. */
const GENERAL_ERRORS: ReadonlySet<number> = new Set([400, 403, 404, 409, 501, 503]);

type Schema = Record<string, unknown>;

interface Operation {
  readonly responses: Readonly<Record<string, { schema?: Schema; headers?: Record<string, Schema> }>>;
  readonly produces?: readonly string[];
}

/** An answer of the daemon, however it was fetched. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

/** The Engine API's definition (Swagger 2.0), to which answers are held. */
export class Contract {
  readonly #paths: Readonly<Record<string, Record<string, Operation>>>;
  readonly #ajv: Ajv;
  readonly #validators = new Map<Schema, ValidateFunction>();

  constructor(text: string) {
    const definition = parse(text) as { paths: Record<string, Record<string, Operation>>; definitions: Schema };
    this.#paths = definition.paths;
    this.#ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
    this.#ajv.addSchema({ definitions: jsonSchema(definition.definitions) }, 'engine');
  }

  /** All operations, as `GET /images/{name}/json`. */
  operations(): { method: string; path: string }[] {
    return Object.entries(this.#paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => ({ method: method.toUpperCase(), path })),
    );
  }

  /**
   * Asserts that the answer is one that the definition has for the request: the status, the headers and the type; the
   * body too, of its own version and of errors.
   */
  check(method: string, target: string, answer: Answer): void {
    const [, version, path = ''] = /^(?:\/v(\d[0-9.]*))?(\/[^?]*)/.exec(target) ?? [];
    const operation = this.#operation(method, path);
    const response = operation.responses[String(answer.status)];
    const at = `${method} ${target}: ${answer.status}`;
    if (response === undefined) {
      assert.ok(GENERAL_ERRORS.has(answer.status), `${at} is not in the definition`);
      this.#checkBody(at, { $ref: '#/definitions/ErrorResponse' }, answer.text);
      return;
    }
    for (const [name, schema] of Object.entries(response.headers ?? {})) {
      const value = answer.headers[name.toLowerCase()];
      assert.equal(typeof value, 'string', `${at} has no header ${name}`);
      const allowed = schema['enum'] as string[] | undefined;
      if (allowed !== undefined) assert.ok(allowed.includes(String(value)), `${at}: ${name}: ${String(value)}`);
    }
    const type = String(answer.headers['content-type']).split(';')[0];
    if (answer.status >= 400) assert.equal(type, 'application/json', at);
    else if (operation.produces !== undefined)
      assert.ok(operation.produces.includes(String(type)), `${at}: ${String(type)}`);
    const isNewest = version === undefined || Number(version) === NEWEST;
    const isBinary = response.schema?.['format'] === 'binary';
    if (response.schema === undefined || type === 'text/plain' || isBinary || !isNewest) return;
    this.#checkBody(at, response.schema, answer.text);
  }

  /** Asserts that each line of a stream is as the definition has one body of the operation. */
  checkLines(method: string, path: string, text: string): void {
    const { schema } = this.#operation(method, path).responses['200'] ?? {};
    assert.ok(schema !== undefined, `${method} ${path} has no schema`);
    for (const line of text.split('\n').filter((part) => part !== ''))
      this.#checkBody(`${method} ${path}`, schema, line);
  }

  #operation(method: string, path: string): Operation {
    for (const [template, methods] of Object.entries(this.#paths)) {
      const pattern = template.replace(/\{name\}/g, '.+').replace(/\{\w+\}/g, '[^/]+');
      const operation = methods[method.toLowerCase()];
      if (operation !== undefined && new RegExp(`^${pattern}$`).test(path)) return operation;
    }
    assert.fail(`${method} ${path} is not in the definition`);
  }

  #checkBody(at: string, schema: Schema, text: string): void {
    let validate = this.#validators.get(schema);
    if (validate === undefined) {
      const local = JSON.stringify(jsonSchema(schema)).replaceAll('"#/definitions/', '"engine#/definitions/');
      validate = this.#ajv.compile(JSON.parse(local) as Schema);
      this.#validators.set(schema, validate);
    }
    const valid = validate(JSON.parse(text));
    assert.ok(valid, `${at}: ${this.#ajv.errorsText(validate.errors)}\n${text.slice(0, 2000)}`);
  }
}

/** A Swagger 2.0 schema as JSON Schema: what `x-nullable` marks may be null; only properties that exist are required. */
function jsonSchema(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(jsonSchema);
  if (typeof schema !== 'object' || schema === null) return schema;
  const { 'x-nullable': nullable, required, example, ...rest } = schema as Schema;
  const result = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, jsonSchema(value)]));
  if (Array.isArray(required)) {
    // The definition requires a name or two that it does not define.
    const properties = (rest['properties'] ?? {}) as Schema;
    result['required'] = required.filter((name) => Object.hasOwn(properties, String(name)));
  }
  return nullable === true ? { anyOf: [result, { type: 'null' }] } : result;
}

/** The contract, or undefined where the definition does not lie beside the project. */
export function loadContract(): Contract | undefined {
  const place = PLACES.find((path) => existsSync(path));
  return place === undefined ? undefined : new Contract(readFileSync(place, 'utf8'));
}

export const MISSING = `the Engine API's definition is not at ../${DEFINITION}`;
