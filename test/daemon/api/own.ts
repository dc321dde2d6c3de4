import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import { parse } from 'yaml';

const PATH = fileURLToPath(new URL('../../../docs/layerd-api.yaml', import.meta.url));

/** The definition of layerd's own endpoints, to which answers are held. */
export class Definition {
  readonly #ajv = new Ajv({ strict: false, validateFormats: false }).addSchema(
    parse(readFileSync(PATH, 'utf8')) as object,
    'layerd',
  );

  /** Asserts that the body is one that the operation answers with. */
  check(method: string, path: string, status: number, body: unknown): void {
    const escaped = path.replaceAll('~', '~0').replaceAll('/', '~1');
    const at = `${escaped}/${method.toLowerCase()}/responses/${status}/content/application~1json/schema`;
    this.#check(`#/paths/${at}`, body);
  }

  /** Asserts that the value is as the schema of that name says. */
  checkSchema(name: string, value: unknown): void {
    this.#check(`#/components/schemas/${name}`, value);
  }

  #check(pointer: string, value: unknown): void {
    const validate = this.#ajv.compile({ $ref: `layerd${pointer}` });
    assert.ok(validate(value), `${pointer}: ${this.#ajv.errorsText(validate.errors)}\n${JSON.stringify(value)}`);
  }
}
