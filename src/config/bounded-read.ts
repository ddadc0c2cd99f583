import { closeSync, openSync, readSync } from 'node:fs';

/** A file's text, pipes included; null when it has more bytes. Throws the system's error when it cannot be read. */
export function readBounded(path: string, bytesMax: number): string | null {
  const buffer = Buffer.alloc(bytesMax + 1);
  const file = openSync(path, 'r');
  try {
    let length = 0;
    for (;;) {
      const read = readSync(file, buffer, length, buffer.length - length, null);
      length += read;
      if (length > bytesMax) return null;
      if (read === 0) return buffer.toString('utf8', 0, length);
    }
  } finally {
    closeSync(file);
  }
}

/** Why a file cannot be read, in words. */
export function describeReadError(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'does not exist';
  if (code === 'EACCES' || code === 'EPERM') return 'may not be read by this user';
  if (code === 'EISDIR') return 'is a folder';
  return `cannot be read (${typeof code === 'string' ? code : 'unknown error'})`;
}
