import { resolve } from 'node:path';
import { describeReadError, readBounded } from './bounded-read.ts';
import { Secret } from './secret.ts';

const SECRET_BYTES_MAX = 16_384;

export interface SecretSource {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What `file:` is relative to. */
  readonly folder: string;
}

/** `env:NAME` or `file:PATH` to what it names; a string says why not, and never what it found. */
export function resolveSecret(reference: string, source: SecretSource): Secret | string {
  if (reference.startsWith('env:')) {
    const name = reference.slice('env:'.length);
    const text = source.env[name];
    return text === undefined ? `the variable ${name} is not set` : secretOf(text, `the variable ${name}`);
  }
  const name = reference.slice('file:'.length);
  try {
    const text = readBounded(resolve(source.folder, name), SECRET_BYTES_MAX);
    if (text === null) return `the file ${name} has more than ${SECRET_BYTES_MAX} bytes`;
    return secretOf(text, `the file ${name}`);
  } catch (error) {
    return `the file ${name} ${describeReadError(error)}`;
  }
}

/** A secret goes into a header, where control characters would be another header. */
function secretOf(text: string, where: string): Secret | string {
  const trimmed = text.trim();
  if (trimmed === '') return `${where} is empty`;
  if (!/^[\x20-\x7e]+$/.test(trimmed)) return `${where} must hold one line of ASCII`;
  return new Secret(trimmed);
}
