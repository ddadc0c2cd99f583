import { environmentJsonSchema, fileJsonSchema, type JsonSchema } from './json-schema.ts';

interface HelpRow {
  readonly name: string;
  readonly kind: string;
  readonly about: string;
}

const NAME_WIDTH_MAX = 44;
const LINE_WIDTH = 120;
const NO_BREAK = '\u00a0';

/** Every variable and every key of the file, for `underbid config --help`: read off the schemas. */
export function settingsHelp(): string {
  // A variable is text, whatever it holds.
  const variables = rowsOf(environmentJsonSchema(), '').map((row) => ({ ...row, kind: '' }));
  const keys = rowsOf(fileJsonSchema(), '');
  return [
    'Environment:',
    ...formatRows(variables),
    '',
    'The file underbid.yaml (or what UNDERBID_CONFIG names). Money is text in quotes ("0.10"), a duration has its unit in',
    'its name, a secret is env:NAME or file:PATH (relative to the file). Keys with * are required where what is above them',
    'is there. A JSON Schema for editors: underbid config schema',
    '',
    ...formatRows(keys),
  ].join('\n');
}

function rowsOf(schema: JsonSchema, prefix: string): HelpRow[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, property]) => {
    const name = `${prefix}${key}`;
    const required = schema.required?.includes(key) ?? false;
    return [rowOf(name, property, required), ...rowsBelow(property, name)];
  });
}

function rowOf(name: string, schema: JsonSchema, required: boolean): HelpRow {
  const about = schema.description ?? '';
  const { default: value } = schema;
  // What a map or a list holds is told by the keys below it, or in words.
  const shown = ['string', 'number', 'boolean'].includes(typeof value) && !about.includes('default:');
  const fallback = shown ? `default:${NO_BREAK}${String(value)}` : '';
  return {
    name: `${name}${required ? ' *' : ''}`,
    kind: kindOf(schema),
    about: [about, fallback].filter((text) => text !== '').join('; '),
  };
}

function rowsBelow(schema: JsonSchema, name: string): HelpRow[] {
  const { additionalProperties, items, oneOf } = schema;
  if (oneOf !== undefined) return rowsOfShapes(oneOf, name);
  if (items !== undefined) return rowsBelow(items, `${name}[]`);
  if (typeof additionalProperties === 'object') return rowsBelow(additionalProperties, `${name}.<id>`);
  return rowsOf(schema, `${name}.`);
}

/** Shapes that a key (`kind`) tells apart: that key once, then what each has besides. */
function rowsOfShapes(shapes: readonly JsonSchema[], name: string): HelpRow[] {
  const kinds = shapes.map((shape) =>
    Object.entries(shape.properties ?? {}).find(([, value]) => value.const !== undefined),
  );
  const key = kinds[0]?.[0] ?? 'kind';
  const choices = kinds.flatMap((kind) => (typeof kind?.[1].const === 'string' ? [kind[1].const] : []));
  const first = { name: `${name}.${key} *`, kind: choices.join(' | '), about: '' };
  const rest = shapes.flatMap((shape, index) =>
    rowsOf(shape, `${name}.`)
      .filter((row) => row.name !== first.name)
      .map((row) => ({ ...row, about: `${choices[index] ?? ''}: ${row.about}` })),
  );
  return [first, ...rest];
}

function kindOf(schema: JsonSchema): string {
  if (schema.enum !== undefined) return schema.enum.map(String).join(' | ');
  if (schema.items !== undefined) return schema.items.enum === undefined ? 'list' : `list of ${kindOf(schema.items)}`;
  if (schema.oneOf !== undefined || schema.type === 'object') return '';
  if (schema.type === 'string') return schema.writeOnly ? 'secret' : 'text';
  const { minimum, maximum } = schema;
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`;
  return schema.type ?? '';
}

function formatRows(rows: readonly HelpRow[]): string[] {
  const width = Math.min(NAME_WIDTH_MAX, Math.max(...rows.map(({ name }) => name.length)));
  return rows.flatMap(({ name, kind, about }) => {
    const text = [kind === '' ? '' : `<${kind}>`, about].filter((part) => part !== '').join(' ');
    const lines = wrap(text, LINE_WIDTH - width - 4);
    const [head = '', ...tail] = name.length > width ? ['', ...lines] : lines;
    return [`  ${name.padEnd(width)}  ${head}`.trimEnd(), ...tail.map((line) => `${' '.repeat(width + 4)}${line}`)];
  });
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].map((text) => text.replaceAll(NO_BREAK, ' '));
}
