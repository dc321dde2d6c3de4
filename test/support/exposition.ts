import assert from 'node:assert/strict';

/** The samples of an exposition by name and labels as they are written, such as `x_total{a="b"}`. */
export type Samples = ReadonlyMap<string, number>;

const NAME = /^[a-z][a-z0-9_]*$/;
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*",?)*)\})? (\S+)$/;
const SUFFIXES = {
  counter: ['_total'],
  gauge: [''],
  histogram: ['_bucket', '_sum', '_count'],
} as const;

/**
 * Parses all of an exposition and holds it to the format: every family is described once, before its samples, which have
 * its suffixes, come once and are numbers; buckets grow up to the count. Counters end in `_total`, and nothing else does.
 */
export function parseExposition(text: string, isOpen: boolean): Samples {
  const samples = new Map<string, number>();
  const families = new Set<string>();
  let family = '';
  let type: keyof typeof SUFFIXES | undefined;
  assert.ok(text.endsWith('\n'));
  const lines = text.slice(0, -1).split('\n');
  if (isOpen) assert.equal(lines.pop(), '# EOF');
  for (const line of lines) {
    const help = /^# HELP (\S+) \S.*$/.exec(line);
    if (help !== null) {
      family = help[1] ?? '';
      assert.match(family, NAME);
      assert.ok(!families.has(family), `${family} comes twice`);
      families.add(family);
      type = undefined;
      continue;
    }
    const typed = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
    if (typed !== null) {
      assert.equal(typed[1], family);
      type = typed[2] as keyof typeof SUFFIXES;
      assert.equal(family.endsWith('_total'), type === 'counter' && !isOpen, family);
      continue;
    }
    const [, name = '', labels = '', number = ''] = SAMPLE.exec(line) ?? [];
    assert.ok(name !== '' && type !== undefined, `malformed: ${line}`);
    const base = isOpen ? family : family.replace(/_total$/, '');
    assert.ok(SUFFIXES[type].map((suffix) => base + suffix).includes(name), `${line} in ${type} ${family}`);
    const value = Number(number);
    assert.ok(Number.isFinite(value), line);
    const key = labels === '' ? name : `${name}{${labels}}`;
    assert.ok(!samples.has(key), `${key} comes twice`);
    samples.set(key, value);
  }
  checkBuckets(samples);
  return samples;
}

function checkBuckets(samples: Samples): void {
  let last = 0;
  for (const [key, value] of samples) {
    const bucket = /^(.*)_bucket\{(.*?),?le="([^"]+)"\}$/.exec(key);
    if (bucket === null) {
      last = 0;
      continue;
    }
    assert.ok(value >= last, key);
    last = value;
    const [, name = '', labels = '', bound] = bucket;
    if (bound !== '+Inf') continue;
    assert.equal(samples.get(`${name}_count${labels === '' ? '' : `{${labels}}`}`), value, key);
    last = 0;
  }
}

/** The sum of a name's samples whose labels contain all of the pairs. */
export function sumOf(samples: Samples, name: string, ...pairs: string[]): number {
  return [...samples]
    .filter(([key]) => key.replace(/\{.*$/, '') === name && pairs.every((pair) => key.includes(pair)))
    .reduce((sum, [, value]) => sum + value, 0);
}
