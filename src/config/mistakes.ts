import type { z } from 'zod';
import type { ConfigDocument, Mistake, Path } from './document.ts';
import { schemasAt, type JsonSchema } from './json-schema.ts';
import { SECRET_ADVICE } from './fields.ts';
import { didYouMean } from './spelling.ts';

/**
 * zod's findings in an operator's words, each at its line. No message repeats a value, except a number that lacks quotes
 * and a choice that was misspelt: what stands in the wrong field may be a password.
 */
export function findMistakes(error: z.ZodError, document: ConfigDocument, schema: JsonSchema): Mistake[] {
  // zod also counts the letters of a text that should be a list.
  const mistyped = new Set(error.issues.flatMap((one) => (one.code === 'invalid_type' ? [one.path.join('.')] : [])));
  return error.issues
    .filter(({ code, path }) => !(code === 'too_big' || code === 'too_small') || !mistyped.has(path.join('.')))
    .flatMap((issue) => explain(issue, document, schema));
}

const MISTAKES_MAX = 100;

/** One line per mistake: `underbid.yaml:12:5 pools.tiny.price.input: …`, in the order of the file. */
export function formatMistakes(file: string, mistakes: readonly Mistake[]): string[] {
  const lines = mistakes
    .toSorted((a, b) => a.line - b.line || a.column - b.column)
    .map(({ line, column, path, message }) => {
      const where = path.length === 0 ? '' : `${formatPath(path)}: `;
      return `${file}:${line}:${column} ${where}${message}`;
    });
  const unique = [...new Set(lines)];
  const more = unique.length - MISTAKES_MAX;
  return more > 0 ? [...unique.slice(0, MISTAKES_MAX), `${file}: and ${more} more`] : unique;
}

export function formatPath(path: Path): string {
  return path.map((step, index) => (typeof step === 'number' ? `[${step}]` : index === 0 ? step : `.${step}`)).join('');
}

function explain(issue: z.core.$ZodIssue, document: ConfigDocument, schema: JsonSchema): Mistake[] {
  const path = issue.path.map((step) => (typeof step === 'number' ? step : String(step)));
  const here = schemasAt(schema, path);
  if (issue.code === 'unrecognized_keys') {
    const known = here.flatMap((one) => Object.keys(one.properties ?? {}));
    return issue.keys.map((key) => {
      const at = [...path, key];
      return { ...document.placeOfKey(at), path: at, message: describeUnknownKey(key, known) };
    });
  }
  if (issue.code === 'invalid_key') {
    return issue.issues.map(({ message }) => ({ ...document.placeOfKey(path), path, message }));
  }
  return [
    {
      ...document.placeOf(path),
      path,
      message: describeIssue(issue, valueAt(document.data, path), here, path, document),
    },
  ];
}

function describeUnknownKey(key: string, known: readonly string[]): string {
  if (key === '<<') return 'merge keys are not supported: write the settings out';
  return `unknown key${didYouMean(key, known)}`;
}

function describeIssue(
  issue: z.core.$ZodIssue,
  value: unknown,
  schemas: readonly JsonSchema[],
  path: Path,
  document: ConfigDocument,
): string {
  const about = schemas[0]?.description;
  if (value === undefined && issue.code !== 'custom') return `is required${about === undefined ? '' : ` (${about})`}`;
  if (schemas.some((schema) => schema.writeOnly)) return SECRET_ADVICE;
  if (value === null) return 'is empty: give it a value, or remove the key';
  switch (issue.code) {
    case 'invalid_type':
      return describeType(issue.expected, document.numberText(path));
    case 'too_small':
      return describeBound('at least', issue.origin, issue.minimum, issue.inclusive ?? true);
    case 'too_big':
      return describeBound('at most', issue.origin, issue.maximum, issue.inclusive ?? true);
    case 'invalid_value':
      return describeChoice(value, issue.values.map(String));
    case 'invalid_union':
      return describeChoice(value, choicesOf(schemas));
    default:
      return issue.message;
  }
}

function describeType(expected: string, number: string | null): string {
  switch (expected) {
    case 'string':
      return number === null ? 'must be text: put it in quotes' : `must be text: put it in quotes, "${number}"`;
    case 'int':
      return 'must be a whole number';
    case 'number':
      return 'must be a number, without quotes';
    case 'boolean':
      return 'must be true or false';
    case 'array':
      return 'must be a list';
    default:
      return 'must be a map of settings';
  }
}

function describeBound(bound: string, origin: string, limit: number | bigint, inclusive: boolean): string {
  if (origin === 'string')
    return limit === 1 && bound === 'at least' ? 'is empty' : `must have ${bound} ${limit} characters`;
  if (origin === 'array') return `must have ${bound} ${limit} ${limit === 1 ? 'entry' : 'entries'}`;
  if (!inclusive) return `must be ${bound === 'at least' ? 'above' : 'below'} ${limit}`;
  return `must be ${bound} ${limit}`;
}

function describeChoice(value: unknown, choices: readonly string[]): string {
  const list = `must be one of ${choices.join(', ')}`;
  return typeof value === 'string' ? `${list}${didYouMean(value, choices)}` : list;
}

function choicesOf(schemas: readonly JsonSchema[]): string[] {
  return schemas.flatMap(({ const: choice }) => (typeof choice === 'string' ? [choice] : []));
}

/** Lenient: what a path leads to in anything, undefined when nowhere. */
export function valueAt(data: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, step) => {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    return (value as Record<string | number, unknown>)[step];
  }, data);
}
