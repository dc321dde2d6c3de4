import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { TemplateError } from '../../src/client/format/lexer.ts';
import { Template } from '../../src/client/format/template.ts';

const image = {
  Id: 'sha256:4a5f',
  Size: 209055764,
  Time: 1795472470827219021n,
  RepoTags: ['redis:7', 'redis:latest'],
  Empty: [],
  Config: { Env: ['A=1', 'B=2'], Labels: { title: 'redis', 'a.b': 'c' }, User: null },
  Layers: [
    { digest: 'x', size: 1 },
    { digest: 'y', size: 2 },
  ],
};

describe('a template', () => {
  const rendered: readonly (readonly [template: string, text: string])[] = [
    ['', ''],
    ['plain }} text', 'plain }} text'],
    ['{{.Id}}', 'sha256:4a5f'],
    ['{{ .Id }}:{{.Size}}', 'sha256:4a5f:209055764'],
    ['{{.ID}} {{.config.user}}', 'sha256:4a5f <no value>'],
    [String.raw`a\tb\n`, 'a\tb\n'],
    ['{{.Time}}', '1795472470827219021'],
    ['{{json .Time}}', '1795472470827219021'],
    ['{{json .RepoTags}}', '["redis:7","redis:latest"]'],
    ['{{.RepoTags}}', '[redis:7 redis:latest]'],
    ['{{.Config.Labels}}', 'map[a.b:c title:redis]'],
    ['{{.Config.Labels.none}}', '<no value>'],
    ['{{index .Config.Labels "a.b"}}', 'c'],
    ['{{index .RepoTags 1}}', 'redis:latest'],
    ['{{(index .Layers 1).digest}}', 'y'],
    ['{{len .RepoTags}} {{len .Id}}', '2 11'],
    ['{{.Id | upper}} {{lower "ABC"}} {{title "a word"}}', 'SHA256:4A5F abc A Word'],
    ['{{join .RepoTags ", "}}', 'redis:7, redis:latest'],
    ['{{range split "a/b" "/"}}<{{.}}>{{end}}', '<a><b>'],
    ['{{truncate .Id 6}}', 'sha256'],
    ['{{pad "x" 1 2}}|', ' x  |'],
    ['{{print 1 "a"}}{{println true}}', '1 atrue\n'],
    [String.raw`{{"a\t\"b\""}} {{` + '`raw`}}', 'a\t"b" raw'],
    ['{{if .Empty}}a{{else if eq .Size 1 209055764}}b{{else}}c{{end}}', 'b'],
    ['{{if and .Id (not .Empty)}}yes{{end}}', 'yes'],
    ['{{or .Empty "none"}} {{and .Id ""}}|', 'none |'],
    ['{{if gt .Time 5}}{{le 2 2}}{{ne "a" "a"}}{{lt "a" "b"}}{{ge 1 2}}{{end}}', 'truefalsetruefalse'],
    ['{{range .RepoTags}}{{.}};{{end}}', 'redis:7;redis:latest;'],
    ['{{range .Empty}}x{{else}}nothing{{end}}', 'nothing'],
    ['{{range $i, $tag := .RepoTags}}{{$i}}={{$tag}} {{end}}', '0=redis:7 1=redis:latest '],
    ['{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}', 'a.b=c title=redis '],
    ['{{range $l := .Layers}}{{$l.digest}}{{$.Size}} {{end}}', 'x209055764 y209055764 '],
    ['{{range .Config.Nothing}}x{{end}}', ''],
    ['{{with .Config}}{{.Env}}{{end}}{{with .Empty}}x{{else}}y{{end}}', '[A=1 B=2]y'],
    ['a  {{- .Id -}}  b', 'asha256:4a5fb'],
    ['a{{/* a }} remark */}}b', 'ab'],
  ];
  for (const [template, text] of rendered) {
    it(`${template} gives ${JSON.stringify(text)}`, () => {
      assert.equal(new Template(template).render(image), text);
    });
  }

  const refused: readonly (readonly [template: string, problem: RegExp])[] = [
    ['x{{.Id', /'\{\{' is not closed.*column 2 /],
    ['{{}}', /action is empty.*column 1 /],
    ['{{nope .Id}}', /no function 'nope'.*column 3 /],
    ['{{.Id | .Size}}', /only a function can follow.*column 9 /],
    ['{{if .Id}}a', /'if' has no 'end'.*column 3 /],
    ['{{end}}', /'end' belongs to no.*column 3 /],
    ['{{else}}', /'else' belongs to no/],
    ['{{if .Id}}{{else}}{{else}}{{end}}', /second 'else'.*column 21 /],
    ['{{$x}}', /variable \$x is not declared/],
    ['{{"abc}}', /string is not closed/],
    ['{{.Id ^}}', /unexpected \^.*column 7 /],
    ['{{upper}}', /upper takes 1 argument, not 0/],
    ['{{upper .Id .Id}}', /upper takes 1 argument, not 2/],
    ['{{eq 1}}', /eq takes at least 2 arguments, not 1/],
    ['{{template "x"}}', /'template' is not supported/],
    ['{{.Id}}\n{{.Nope}}', /no field \.Nope; there are .*Size.*line 2, column 3 /],
    ['{{.Id.Digest}}', /\.Id has no fields, so no \.Digest/],
    ['{{index .RepoTags 2}}', /index 2 is outside of a list of 2/],
    ['{{range .Size}}{{end}}', /range needs a list/],
    ['{{upper .Config}}', /upper needs a string/],
    ['{{(.Id}}', /'\(' is not closed/],
  ];
  for (const [template, problem] of refused) {
    it(`${JSON.stringify(template)} is refused, with its position`, () => {
      assert.throws(
        () => new Template(template).render(image),
        (error) => error instanceof TemplateError && problem.test(error.message),
      );
    });
  }

  it('gives nothing for a field that the document may lack', () => {
    assert.equal(new Template('{{.Variant}}|').render(image, new Set(['Variant'])), '|');
  });

  it('knows which fields it names', () => {
    const template = new Template('{{if .A}}{{range .B.C}}{{upper .D}}{{end}}{{end}}');
    assert.deepEqual(
      ['A', 'B', 'C', 'D'].map((field) => template.reads(field)),
      [true, true, false, true],
    );
  });

  it('leaves text without actions as it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        fc.pre(!text.includes('{{') && !text.includes('\\'));
        assert.equal(new Template(text).render({}), text);
      }),
    );
  });

  it('renders or throws a TemplateError, whatever it is', () => {
    const part = fc.constantFrom(
      '{{',
      '}}',
      '{{-',
      '.',
      '.a',
      ' ',
      '(',
      ')',
      '|',
      '"',
      'if',
      'range',
      'end',
      'else',
      'json',
      'index',
      '$',
      '1',
      'x',
      '`',
      ':=',
      ',',
      '-}}',
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 20 }), (parts) => {
        try {
          assert.equal(typeof new Template(parts.join('')).render({ a: [1, { b: 2 }] }), 'string');
        } catch (error) {
          assert.ok(error instanceof TemplateError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
