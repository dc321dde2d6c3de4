import { readFileSync } from 'node:fs';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { JsonError, parseJson } from '../../protocol/json.ts';
import { optionList, type OptionName } from './options.ts';

/** The options that a file gives, as they stand in it. */
export type FileValues = ReadonlyMap<OptionName, unknown>;

/** Objects that hold options: `proxies`. */
const sections = new Set(optionList.flatMap(([, { key }]) => (key.includes('.') ? [key.split('.')[0] ?? ''] : [])));
const names = new Map(optionList.map(([name, { key }]) => [key, name]));

/**
 * Reads daemon.json.
 * @param required Whether somebody named the file, so that it must exist.
 * @returns undefined where it need not exist and does not.
 * @throws LayerdError of kind invalid, in one line, naming the file.
 */
export function readConfigFile(path: string, required: boolean): FileValues | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (!required && (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw refuse(path, messageOf(error), error);
  }
  try {
    return readValues(text);
  } catch (error) {
    if (error instanceof JsonError) throw refuse(path, error.message, error);
    throw error;
  }
}

function refuse(path: string, reason: string, cause: unknown): LayerdError {
  return new LayerdError('invalid', `unable to configure the daemon with file ${path}: ${reason}`, { cause });
}

function readValues(text: string): FileValues {
  // Some editors put a byte order mark in front, and an empty file configures nothing; dockerd takes both.
  const content = text.replace(/^\uFEFF/, '').trim();
  const found = new Map<OptionName, unknown>();
  if (content === '') return found;
  const unknown: string[] = [];
  const collect = (object: unknown, prefix: string): void => {
    if (typeof object !== 'object' || object === null || Array.isArray(object)) {
      throw new JsonError(`${prefix === '' ? 'it' : `"${prefix.slice(0, -1)}"`} must be an object: { … }`);
    }
    for (const [name, value] of Object.entries(object)) {
      const key = prefix + name;
      const option = names.get(key);
      if (option !== undefined && key.split('.').length === prefix.split('.').length) found.set(option, value);
      else if (prefix === '' && sections.has(name)) collect(value, `${name}.`);
      else unknown.push(key);
    }
  };
  collect(parseJson(content), '');
  if (unknown.length > 0) {
    throw new JsonError(`the following directives don't match any configuration option: ${unknown.join(', ')}`);
  }
  return found;
}
