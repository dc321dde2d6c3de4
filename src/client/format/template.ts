import { LayerdError } from '../../protocol/errors.ts';
import { FUNCTIONS, isObject, isTrue, print, type Value } from './functions.ts';
import { TemplateError } from './lexer.ts';
import { parse, type Command, type Node, type Operand, type Parsed, type Pipeline } from './parser.ts';

/**
 * A small, fixed part of Go's templates, as docker's `--format` has them: fields with dotted paths, `if`, `else`, `end`,
 * `range`, `with`, pipelines, and the functions of functions.ts. A name is looked up as written, then without regard
 * to case. What the document has not is an error at its top, and `<no value>` below.
 */
export class Template {
  readonly #source: string;
  readonly #parsed: Parsed;

  /** Throws a {@link TemplateError} when the source is no template. */
  constructor(source: string) {
    this.#source = source;
    this.#parsed = parse(source);
  }

  /**
   * Fills in the document. `optional` names the fields it may lack at its top, which are then empty. Throws a
   * {@link TemplateError} when it has not what the template asks for.
   */
  render(document: Value, optional: ReadonlySet<string> = new Set()): string {
    return new Rendering(this.#source, document, optional).nodes(this.#parsed.nodes, document);
  }

  /** Whether the template names the field. */
  reads(field: string): boolean {
    return this.#parsed.fields.has(field);
  }
}

class Rendering {
  readonly #source: string;
  readonly #document: Value;
  readonly #optional: ReadonlySet<string>;
  readonly #variables = new Map<string, Value>();

  constructor(source: string, document: Value, optional: ReadonlySet<string>) {
    this.#source = source;
    this.#document = document;
    this.#optional = optional;
    this.#variables.set('$', document);
  }

  nodes(nodes: readonly Node[], dot: Value): string {
    return nodes.map((node) => this.#node(node, dot)).join('');
  }

  #node(node: Node, dot: Value): string {
    switch (node.type) {
      case 'text':
        return node.text;
      case 'output':
        return print(this.#pipeline(node.pipeline, dot));
      case 'if':
        return this.nodes(isTrue(this.#pipeline(node.pipeline, dot)) ? node.body : node.otherwise, dot);
      case 'with': {
        const value = this.#pipeline(node.pipeline, dot);
        return isTrue(value) ? this.nodes(node.body, value) : this.nodes(node.otherwise, dot);
      }
      case 'range': {
        const entries = this.#entries(this.#pipeline(node.pipeline, dot), node.pipeline.at);
        if (entries.length === 0) return this.nodes(node.otherwise, dot);
        return entries.map(([key, value]) => this.#withVariables(node, key, value)).join('');
      }
    }
  }

  #withVariables(node: Extract<Node, { type: 'range' }>, key: Value, value: Value): string {
    const { variables, body } = node;
    const outer = new Map(this.#variables);
    const valueName = variables.at(-1);
    if (variables.length === 2 && variables[0] !== undefined) this.#variables.set(variables[0], key);
    if (valueName !== undefined) this.#variables.set(valueName, value);
    const text = this.nodes(body, value);
    for (const name of variables) {
      if (outer.has(name)) this.#variables.set(name, outer.get(name));
    }
    return text;
  }

  /** What a range goes over: a list in its order, an object by its sorted keys, nothing for nothing. */
  #entries(value: Value, at: number): [Value, Value][] {
    if (value === null || value === undefined) return [];
    if (Array.isArray(value)) return value.map((item: Value, index) => [index, item]);
    if (isObject(value)) return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    throw new TemplateError(this.#source, at, 'range needs a list or an object');
  }

  #pipeline({ commands }: Pipeline, dot: Value): Value {
    let value: Value;
    commands.forEach((command, index) => {
      value = this.#command(command, dot, index === 0 ? [] : [value]);
    });
    return value;
  }

  #command(command: Command, dot: Value, piped: Value[]): Value {
    if (command.type === 'value') return this.#operand(command.operand, dot);
    const { name, at } = command;
    const values = [...command.operands.map((operand) => this.#operand(operand, dot)), ...piped];
    const { arity, apply } = FUNCTIONS[name] ?? this.#fail(at, `there is no function '${name}'`);
    const [min, max] = arity;
    if (values.length < min || values.length > max) {
      const wanted = min === max ? `${min}` : `at least ${min}`;
      this.#fail(at, `${name} takes ${wanted} argument${wanted.endsWith('1') ? '' : 's'}, not ${values.length}`);
    }
    try {
      return apply(...values);
    } catch (error) {
      if (error instanceof LayerdError) this.#fail(at, error.message);
      throw error;
    }
  }

  #operand(operand: Operand, dot: Value): Value {
    switch (operand.type) {
      case 'literal':
        return operand.value;
      case 'field':
        return this.#walk(dot, operand.path, operand.at);
      case 'variable':
        return this.#walk(this.#variables.get(operand.name), operand.path, operand.at);
      case 'pipeline':
        return this.#walk(this.#pipeline(operand.pipeline, dot), operand.path, operand.at);
    }
  }

  #walk(start: Value, path: readonly string[], at: number): Value {
    let value = start;
    for (const [index, name] of path.entries()) {
      if (value === null || value === undefined) return undefined;
      if (!isObject(value)) this.#fail(at, `.${path.slice(0, index).join('.')} has no fields, so no .${name}`);
      const key = Object.hasOwn(value, name) ? name : sameButCase(Object.keys(value), name);
      if (key === undefined && value === this.#document) {
        if (sameButCase([...this.#optional], name) !== undefined) return '';
        const fields = [...new Set([...Object.keys(value), ...this.#optional])].sort().join(', ');
        this.#fail(at, `there is no field .${name}; there are ${fields}`);
      }
      value = key === undefined ? undefined : value[key];
    }
    return value;
  }

  #fail(at: number, problem: string): never {
    throw new TemplateError(this.#source, at, problem);
  }
}

function sameButCase(names: readonly string[], name: string): string | undefined {
  const lower = name.toLowerCase();
  return names.find((other) => other.toLowerCase() === lower);
}
