import { LayerdError } from '../../protocol/errors.ts';
import { stringify } from '../json.ts';
import { cut } from './table.ts';

/** A value that a template works on: what JSON can hold, and bigints. */
export type Value = unknown;

interface TemplateFunction {
  /** How many arguments it takes, at least and at most. */
  readonly arity: readonly [min: number, max: number];
  readonly apply: (...values: Value[]) => Value;
}

/** The functions of templates: docker's own and the part of Go's that fits data without types. */
export const FUNCTIONS: Readonly<Record<string, TemplateFunction>> = {
  json: { arity: [1, 1], apply: (value) => stringify(value) },
  upper: { arity: [1, 1], apply: (text) => string('upper', text).toUpperCase() },
  lower: { arity: [1, 1], apply: (text) => string('lower', text).toLowerCase() },
  title: {
    arity: [1, 1],
    apply: (text) => string('title', text).replace(/(^|\s)(\p{L})/gu, (word) => word.toUpperCase()),
  },
  join: { arity: [2, 2], apply: (items, separator) => list('join', items).map(print).join(string('join', separator)) },
  split: { arity: [2, 2], apply: (text, separator) => string('split', text).split(string('split', separator)) },
  truncate: {
    arity: [2, 2],
    apply: (text, length) => cut(string('truncate', text), number('truncate', length)),
  },
  pad: {
    arity: [3, 3],
    apply: (text, before, after) => {
      const padded = string('pad', text);
      return padded === '' ? '' : ' '.repeat(number('pad', before)) + padded + ' '.repeat(number('pad', after));
    },
  },
  print: { arity: [0, Infinity], apply: (...values) => values.map(print).join(' ') },
  println: { arity: [0, Infinity], apply: (...values) => `${values.map(print).join(' ')}\n` },
  len: { arity: [1, 1], apply: length },
  index: { arity: [1, Infinity], apply: (value, ...keys) => keys.reduce(at, value) },
  eq: { arity: [2, Infinity], apply: (first, ...others) => others.some((other) => equals(first, other)) },
  ne: { arity: [2, 2], apply: (a, b) => !equals(a, b) },
  lt: { arity: [2, 2], apply: (a, b) => compare('lt', a, b) < 0 },
  le: { arity: [2, 2], apply: (a, b) => compare('le', a, b) <= 0 },
  gt: { arity: [2, 2], apply: (a, b) => compare('gt', a, b) > 0 },
  ge: { arity: [2, 2], apply: (a, b) => compare('ge', a, b) >= 0 },
  and: { arity: [1, Infinity], apply: (...values) => firstOrLast(values, (value) => !isTrue(value)) },
  or: { arity: [1, Infinity], apply: (...values) => firstOrLast(values, isTrue) },
  not: { arity: [1, 1], apply: (value) => !isTrue(value) },
};

/** Whether `if` takes the value for true: not empty, not zero, not false. */
export function isTrue(value: Value): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (isObject(value)) return Object.keys(value).length > 0;
  return Boolean(value);
}

/** The value as text, in Go's way: `[a b]` for a list, `map[key:value]` with sorted keys for an object. */
export function print(value: Value): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return value.toString();
  if (Array.isArray(value)) return `[${value.map(print).join(' ')}]`;
  if (!isObject(value)) return '<no value>';
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `map[${fields.map(([key, item]) => `${key}:${print(item)}`).join(' ')}]`;
}

export function isObject(value: Value): value is Readonly<Record<string, Value>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function firstOrLast(values: readonly Value[], test: (value: Value) => boolean): Value {
  const found = values.findIndex(test);
  return values.at(found);
}

function at(value: Value, key: Value): Value {
  if (Array.isArray(value)) {
    const position = number('index', key);
    if (position < 0 || position >= value.length) {
      throw wrong(`index ${position} is outside of a list of ${value.length}`);
    }
    return value[position] as Value;
  }
  if (isObject(value)) {
    const name = string('index', key);
    return Object.hasOwn(value, name) ? value[name] : undefined;
  }
  if (value === null || value === undefined) return undefined;
  throw wrong('index needs a list or an object');
}

function length(value: Value): number {
  if (typeof value === 'string' || Array.isArray(value)) return value.length;
  if (isObject(value)) return Object.keys(value).length;
  if (value === null || value === undefined) return 0;
  throw wrong('len needs a list, an object or a string');
}

function equals(a: Value, b: Value): boolean {
  return a === b || (isNumber(a) && isNumber(b) && order(a, b) === 0);
}

function compare(name: string, a: Value, b: Value): number {
  if (typeof a === 'string' && typeof b === 'string') return order(a, b);
  if (isNumber(a) && isNumber(b)) return order(a, b);
  throw wrong(`${name} needs two numbers or two strings`);
}

// A number and a bigint compare by value.
const order = (a: string | number | bigint, b: string | number | bigint): number => (a < b ? -1 : a > b ? 1 : 0);
const isNumber = (value: Value): value is number | bigint => typeof value === 'number' || typeof value === 'bigint';

function string(name: string, value: Value): string {
  if (typeof value === 'string') return value;
  if (value === null || value === undefined) return '';
  if (typeof value === 'object') throw wrong(`${name} needs a string`);
  return print(value);
}

function number(name: string, value: Value): number {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw wrong(`${name} needs a whole number`);
}

function list(name: string, value: Value): readonly Value[] {
  if (Array.isArray(value)) return value as readonly Value[];
  if (value === null || value === undefined) return [];
  throw wrong(`${name} needs a list`);
}

const wrong = (problem: string): LayerdError => new LayerdError('invalid', problem);
