import { relative, sep } from 'node:path';
import { describeReadError, readBounded } from './bounded-read.ts';
import { crossCheck, resolveDevnet, resolveSecrets } from './cross-checks.ts';
import type { DevnetFile } from './devnet-file.ts';
import { readDocument, type Mistake } from './document.ts';
import { fileJsonSchema } from './json-schema.ts';
import { findMistakes, formatMistakes } from './mistakes.ts';
import { fileSchema, type FileSettings } from './schema.ts';
import type { Secret } from './secret.ts';

const FILE_BYTES_MAX = 1_000_000;

export interface ReadFile {
  /** Null when it cannot be used at all; the mistakes say why. */
  readonly settings: FileSettings | null;
  /** What `env:` and `file:` gave, by reference. */
  readonly secrets: ReadonlyMap<string, Secret>;
  readonly devnet: DevnetFile | null;
  readonly mistakes: readonly string[];
}

export interface FileSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** The file's own: what `file:` is relative to. */
  readonly folder: string;
}

/** The file's settings with every default; without a file the embedded ones. */
export function readConfigFile(file: string | null, { env, cwd, folder }: FileSurroundings): ReadFile {
  if (file === null) return { settings: fileSchema.parse({}), secrets: new Map(), devnet: null, mistakes: [] };
  const name = nameFile(file, cwd);
  const fail = (...mistakes: string[]): ReadFile => ({
    settings: null,
    secrets: new Map(),
    devnet: null,
    mistakes,
  });
  let text: string | null;
  try {
    text = readBounded(file, FILE_BYTES_MAX);
  } catch (error) {
    return fail(`${name} ${describeReadError(error)}${env['UNDERBID_CONFIG'] ? ' (UNDERBID_CONFIG names it)' : ''}`);
  }
  if (text === null) return fail(`${name} has more than ${FILE_BYTES_MAX} bytes`);
  const document = readDocument(text);
  if (document.syntax.length > 0) return fail(...formatMistakes(name, [...document.syntax, ...document.duplicates]));
  // A file of comments alone says as much as no file.
  const parsed = fileSchema.safeParse(document.data ?? {});
  const { secrets, mistakes: unresolved } = resolveSecrets(document, { env, folder });
  const { devnet, mistakes: unfound } = resolveDevnet(document, folder);
  const mistakes: Mistake[] = [...document.duplicates, ...crossCheck(document), ...unresolved, ...unfound];
  if (!parsed.success) mistakes.push(...findMistakes(parsed.error, document, fileJsonSchema()));
  return { settings: parsed.data ?? null, secrets, devnet, mistakes: formatMistakes(name, mistakes) };
}

/** As a terminal can open it: relative when it is below the folder one stands in. */
function nameFile(file: string, cwd: string): string {
  const near = relative(cwd, file) || '.';
  return near === '..' || near.startsWith(`..${sep}`) ? file : near;
}
