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

/** The versions that are served in which errors were plain text: before 1.24. */
const TEXT_ERRORS = /^1\.(?:1[2-9]|2[0-3])$/;

/** Types of which each line is a body. */
const LINES: ReadonlySet<string> = new Set(['application/jsonl', 'application/x-ndjson']);

type Schema = Record<string, unknown>;

/** Whether a body must have all that the definition requires. */
type Extent = 'whole' | 'partial';

interface Operation {
  readonly tags?: readonly string[];
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
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
  readonly #validators: Readonly<Record<Extent, Map<Schema, ValidateFunction>>> = {
    whole: new Map(),
    partial: new Map(),
  };

  constructor(text: string) {
    const definition = parse(text) as { paths: Record<string, Record<string, Operation>>; definitions: Schema };
    this.#paths = definition.paths;
    this.#ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
    for (const extent of ['whole', 'partial'] as const) {
      this.#ajv.addSchema({ definitions: jsonSchema(definition.definitions, extent) }, extent);
    }
  }

  /** All operations, as `GET /images/{name}/json`, each with its parameters as `query filters` and its statuses. */
  operations(): { method: string; path: string; tags: readonly string[]; parameters: string[]; statuses: number[] }[] {
    return Object.entries(this.#paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { tags = [], parameters = [], responses }]) => ({
        method: method.toUpperCase(),
        path,
        tags,
        parameters: parameters.map((parameter) => `${parameter.in} ${parameter.name}`),
        statuses: Object.keys(responses).map(Number),
      })),
    );
  }

  /** The path of the definition that a path of a request, without version and query, is one of. */
  template(method: string, path: string): string {
    return this.#operation(method, path).template;
  }

  /**
   * Asserts that the answer is one that the definition has for the request: the status, the headers, the type and the
   * body. An older version's body need not have all of the fields; those it has are of the same types, or null.
   */
  check(method: string, target: string, answer: Answer): void {
    const [, version, path = ''] = /^(?:\/v(\d[0-9.]*))?(\/[^?]*)/.exec(target) ?? [];
    const { operation } = this.#operation(method, path);
    const response = operation.responses[String(answer.status)];
    const at = `${method} ${target}: ${answer.status}`;
    const type = String(answer.headers['content-type']).split(';')[0];
    if (answer.status >= 400) {
      const isText = TEXT_ERRORS.test(version ?? '');
      assert.equal(type, isText ? 'text/plain' : 'application/json', at);
      if (!isText) this.#checkBody(at, { $ref: '#/definitions/ErrorResponse' }, answer.text);
      assert.ok(response !== undefined || GENERAL_ERRORS.has(answer.status), `${at} is not in the definition`);
      return;
    }
    assert.ok(response !== undefined, `${at} is not in the definition`);
    for (const [name, schema] of Object.entries(response.headers ?? {})) {
      const value = answer.headers[name.toLowerCase()];
      assert.equal(typeof value, 'string', `${at} has no header ${name}`);
      const allowed = schema['enum'] as string[] | undefined;
      if (allowed !== undefined) assert.ok(allowed.includes(String(value)), `${at}: ${name}: ${String(value)}`);
    }
    if (operation.produces !== undefined)
      assert.ok(operation.produces.includes(String(type)), `${at}: ${String(type)}`);
    const isBinary = response.schema?.['format'] === 'binary';
    if (response.schema === undefined || type === 'text/plain' || isBinary) return;
    const extent = version === undefined || Number(version) === NEWEST ? 'whole' : 'partial';
    const bodies = LINES.has(String(type)) ? answer.text.split('\n').filter((line) => line !== '') : [answer.text];
    for (const body of bodies) this.#checkBody(at, response.schema, body, extent);
  }

  /** Asserts that each line of a stream is as the definition has one body of the operation. */
  checkLines(method: string, path: string, text: string): void {
    const { schema } = this.#operation(method, path).operation.responses['200'] ?? {};
    assert.ok(schema !== undefined, `${method} ${path} has no schema`);
    for (const line of text.split('\n').filter((part) => part !== ''))
      this.#checkBody(`${method} ${path}`, schema, line);
  }

  #operation(method: string, path: string): { template: string; operation: Operation } {
    for (const [template, methods] of Object.entries(this.#paths)) {
      const pattern = template.replace(/\{name\}/g, '.+').replace(/\{\w+\}/g, '[^/]+');
      const operation = methods[method.toLowerCase()];
      if (operation !== undefined && new RegExp(`^${pattern}$`).test(path)) return { template, operation };
    }
    assert.fail(`${method} ${path} is not in the definition`);
  }

  #checkBody(at: string, schema: Schema, text: string, extent: Extent = 'whole'): void {
    const validators = this.#validators[extent];
    let validate = validators.get(schema);
    if (validate === undefined) {
      const local = JSON.stringify(jsonSchema(schema, extent)).replaceAll(
        '"#/definitions/',
        `"${extent}#/definitions/`,
      );
      validate = this.#ajv.compile(JSON.parse(local) as Schema);
      validators.set(schema, validate);
    }
    const valid = validate(JSON.parse(text));
    assert.ok(valid, `${at}: ${this.#ajv.errorsText(validate.errors)}\n${text.slice(0, 2000)}`);
  }
}

/**
 * A Swagger 2.0 schema as JSON Schema: what `x-nullable` marks may be null; only properties that exist are required.
 * A partial body need not have any of them, and has null where Go's encoding of an older version's struct did.
 */
function jsonSchema(schema: unknown, extent: Extent): unknown {
  if (Array.isArray(schema)) return schema.map((each) => jsonSchema(each, extent));
  if (typeof schema !== 'object' || schema === null) return schema;
  const { 'x-nullable': nullable, required, example, ...rest } = schema as Schema;
  const result = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, jsonSchema(value, extent)]));
  if (Array.isArray(required) && extent === 'whole') {
    // The definition requires a name or two that it does not define.
    const properties = (rest['properties'] ?? {}) as Schema;
    result['required'] = required.filter((name) => Object.hasOwn(properties, String(name)));
  }
  const isSchema = typeof result['type'] === 'string' || typeof result['$ref'] === 'string';
  return nullable === true || (extent === 'partial' && isSchema) ? { anyOf: [result, { type: 'null' }] } : result;
}

/** The contract, or undefined where the definition does not lie beside the project. */
export function loadContract(): Contract | undefined {
  const place = PLACES.find((path) => existsSync(path));
  return place === undefined ? undefined : new Contract(readFileSync(place, 'utf8'));
}

export const MISSING = `the Engine API's definition is not at ../${DEFINITION}`;
