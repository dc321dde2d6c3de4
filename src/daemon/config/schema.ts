import { defaultText, optionList, type Option } from './options.ts';

/** The JSON Schema of daemon.json, which editors check and complete it with. */
export function configSchema(): object {
  const root = objectSchema();
  for (const [, option] of optionList) {
    const path = option.key.split('.');
    const name = path.pop() ?? option.key;
    let parent = root;
    for (const section of path) parent = (parent.properties[section] ??= objectSchema()) as ObjectSchema;
    const standard = defaultText(option);
    parent.properties[name] = {
      description: option.help + (standard === '' ? '' : ` Default: ${standard}.`),
      ...option.type.schema,
    };
  }
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'layerd daemon.json',
    description: 'Options of the layerd image daemon. Each is also a flag; it may be given in one of both only.',
    ...root,
  };
}

interface ObjectSchema {
  type: 'object';
  additionalProperties: false;
  properties: Record<string, unknown>;
}

const objectSchema = (): ObjectSchema => ({ type: 'object', additionalProperties: false, properties: {} });

const EXAMPLE_HEAD = `// All that /etc/layerd/daemon.json can say, with an example of each. The file itself is plain JSON, as dockerd's is:
// take the lines you need without their comments. Every line that is left out has its default. An option given here cannot
// be given as a flag too. After a change 'systemctl reload layerd' takes on what is marked (reload); the rest needs a
// restart. 'layerd --validate --config-file FILE' checks a file.
`;

/** The commented example: every option with its help, its default and a value. */
export function commentedExample(): string {
  const lines: string[] = [];
  let section: string | undefined;
  let heading: string | undefined;
  const last = optionList.length - 1;
  optionList.forEach(([, option], index) => {
    const parent = option.key.includes('.') ? option.key.split('.')[0] : undefined;
    if (parent !== section && section !== undefined) lines.push('  },');
    if (option.heading !== heading) lines.push(...(index === 0 ? [] : ['']), `  // ${option.heading}`);
    if (parent !== section && parent !== undefined) lines.push('', `  "${parent}": {`);
    else lines.push('');
    section = parent;
    heading = option.heading;
    lines.push(...described(option, section === undefined ? '  ' : '    ', index === last || closes(index, section)));
  });
  return `${EXAMPLE_HEAD}{\n${lines.join('\n')}\n}\n`;
}

/** Whether the option is the last one of its section. */
function closes(index: number, section: string | undefined): boolean {
  return section !== undefined && !optionList[index + 1]?.[1].key.startsWith(`${section}.`);
}

function described(option: Option<unknown>, indent: string, isLast: boolean): string[] {
  const name = option.key.split('.').at(-1) ?? option.key;
  const standard = defaultText(option);
  const notes = [standard === '' ? '' : ` Default: ${standard}.`, option.reloadable ? ' (reload)' : ''].join('');
  const value = JSON.stringify(option.example).replaceAll('","', '", "');
  return [`${indent}// ${option.help}${notes}`, `${indent}${JSON.stringify(name)}: ${value}${isLast ? '' : ','}`];
}
