import { relative, resolve } from 'node:path';
import { z } from 'zod';
import { describeReadError, readBounded } from '../config/bounded-read.ts';
import { readDocument } from '../config/document.ts';
import { fileJsonSchema } from '../config/json-schema.ts';
import { findMistakes, formatMistakes, valueAt } from '../config/mistakes.ts';
import { AppError } from '../errors.ts';
import { poolsSchema } from '../spec.ts';

const FILE_BYTES_MAX = 1_000_000;
const poolFileSchema = z.strictObject({ pools: poolsSchema });

export interface NamedPool {
  readonly id: string;
  /** As it was written: defaults are the gateway's to fill in. */
  readonly pool: unknown;
}

/** The pools of a file that has `pools:` as underbid.yaml does; AppError `invalid_config` with every mistake. */
export function readPoolFile(name: string, cwd: string): NamedPool[] {
  const path = resolve(cwd, name);
  const shown = relative(cwd, path).startsWith('..') ? path : relative(cwd, path);
  let text: string | null;
  try {
    text = readBounded(path, FILE_BYTES_MAX);
  } catch (error) {
    throw new AppError('invalid_config', `${shown} ${describeReadError(error)}`, { cause: error });
  }
  if (text === null) throw new AppError('invalid_config', `${shown} has more than ${FILE_BYTES_MAX} bytes`);
  const document = readDocument(text);
  const parsed = poolFileSchema.safeParse(document.data ?? {});
  const mistakes = [...document.syntax, ...document.duplicates];
  if (document.syntax.length === 0 && !parsed.success) {
    mistakes.push(...findMistakes(parsed.error, document, fileJsonSchema()));
  }
  if (!parsed.success || mistakes.length > 0) {
    throw new AppError('invalid_config', formatMistakes(shown, mistakes).join('\n'));
  }
  return Object.keys(parsed.data.pools).map((id) => ({ id, pool: valueAt(document.data, ['pools', id]) }));
}
