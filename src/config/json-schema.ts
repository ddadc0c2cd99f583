import { z } from 'zod';
import type { Path } from './document.ts';
import { environmentSchema, fileSchema } from './schema.ts';

/** What this program reads of a JSON Schema, which is how zod tells what it knows. */
export interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | JsonSchema;
  readonly items?: JsonSchema;
  readonly oneOf?: readonly JsonSchema[];
  readonly minimum?: number;
  readonly maximum?: number;
  /** Holds a reference to a secret. */
  readonly writeOnly?: boolean;
}

/** Of the file, in the shape that people write. */
export function fileJsonSchema(): JsonSchema {
  return z.toJSONSchema(fileSchema, { io: 'input' }) as JsonSchema;
}

/** Of the environment's variables. */
export function environmentJsonSchema(): JsonSchema {
  return z.toJSONSchema(environmentSchema, { io: 'input' }) as JsonSchema;
}

/** What `underbid config schema` prints and `underbid.schema.json` holds, for editors. */
export function configJsonSchema(): unknown {
  return { title: 'underbid.yaml: the settings of an Underbid gateway', ...fileJsonSchema() };
}

/** The schemas that a path may lead to: several where a value has several shapes. */
export function schemasAt(root: JsonSchema, path: Path): readonly JsonSchema[] {
  return path.reduce<readonly JsonSchema[]>(
    (schemas, step) => schemas.flatMap((schema) => stepInto(schema, step)),
    shapesOf(root),
  );
}

function stepInto(schema: JsonSchema, step: string | number): readonly JsonSchema[] {
  if (typeof step === 'number') return schema.items === undefined ? [] : shapesOf(schema.items);
  const { properties = {}, additionalProperties } = schema;
  const property = Object.hasOwn(properties, step) ? properties[step] : undefined;
  if (property !== undefined) return shapesOf(property);
  return typeof additionalProperties === 'object' ? shapesOf(additionalProperties) : [];
}

function shapesOf(schema: JsonSchema): readonly JsonSchema[] {
  return schema.oneOf ?? [schema];
}
