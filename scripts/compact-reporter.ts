// A reporter of Node's test runner for logs: failures in full, what was skipped and why, and the runner's own closing
// lines. What passed is counted, not listed.
import type { TestEvent } from 'node:test/reporters';
import { inspect } from 'node:util';

/** Names of the suites around a test, by file and nesting. */
const names = new Map<string, string[]>();

const fullName = (file: string | undefined, nesting: number, name: string): string =>
  [...(names.get(file ?? '') ?? []).slice(0, nesting), name].join(' › ');

export default async function* compact(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of source) {
    switch (type) {
      case 'test:start': {
        const path = names.get(data.file ?? '') ?? [];
        path[data.nesting] = data.name;
        names.set(data.file ?? '', path);
        break;
      }
      case 'test:pass':
        if (data.skip !== undefined && data.skip !== false) {
          yield `﹣ skipped: ${fullName(data.file, data.nesting, data.name)}${data.skip === true ? '' : ` (${data.skip})`}\n`;
        }
        break;
      case 'test:fail': {
        // A suite fails with the tests in it, which have been reported.
        const { error } = data.details;
        if ('failureType' in error && error.failureType === 'subtestsFailed') break;
        const where = `${data.file ?? ''}:${data.line ?? 0}:${data.column ?? 0}`;
        const name = fullName(data.file, data.nesting, data.name);
        yield `\n✖ ${name} (${Math.round(data.details.duration_ms)} ms)\n  at ${where}\n${inspect(error.cause ?? error, { depth: 10 })}\n\n`;
        break;
      }
      case 'test:stdout':
      case 'test:stderr':
        yield data.message;
        break;
      case 'test:diagnostic':
        // The closing lines belong to no test.
        if (data.file === undefined) yield `ℹ ${data.message}\n`;
        break;
    }
  }
}
