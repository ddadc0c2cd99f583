import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PinnedPackage } from '../../src/leases/local/packages.ts';

export interface FakePython {
  readonly version?: string;
  /** Null: it has none. */
  readonly pip?: string | null;
  readonly venv?: boolean;
  readonly ensurepip?: boolean;
  /** What its pip does. */
  readonly install?: 'works' | 'wrong file' | 'hangs' | 'fails';
  /** What pip prints before it fails. */
  readonly output?: string;
}

/** Says `model` where a real one would have 98 MB. */
export const TINY_PACKAGE: PinnedPackage = {
  name: 'tiny',
  version: '1.0',
  module: 'tiny',
  imports: false,
  wheels: { any: { sha256: '0'.repeat(64), bytes: 5 } },
  file: { name: 'tiny.gguf', bytes: 5, sha256: createHash('sha256').update('model').digest('hex') },
};

/**
 * Writes a `python3` that answers as Python, venv and pip do, by shell builtins and a few tools. Each call is a line in
 * `<folder>/calls`.
 */
export async function writePython(folder: string, name: string, fake: FakePython = {}): Promise<void> {
  const { version = '3.11', pip = '24.0', venv = true, ensurepip = true, install = 'works', output = '' } = fake;
  const probe = JSON.stringify({ version: version.split('.').map(Number), executable: 'SELF', pip, venv, ensurepip });
  await writeFile(join(folder, `${name}.output`), output);
  await writeScript(
    join(folder, name),
    `here='${folder}'
PATH=/usr/bin:/bin
for last; do :; done
case "$*" in
*importlib.metadata*) echo probe >> "$here/calls"; echo '${probe}' | sed "s|SELF|$0|" ;;
*'-m venv'*) echo venv >> "$here/calls"; mkdir -p "$last/bin" && ln -s "$here/${name}" "$last/bin/python" ;;
*'-m pip'*)
  echo "pip $$" >> "$here/calls"
  if [ "$3" = --python ]; then root=$(dirname "$(dirname "$4")"); else root=$(dirname "$(dirname "$0")"); fi
  echo half > "$TMPDIR/half.whl"
  case '${install}' in
  fails) cat "$here/${name}.output" >&2; exit 1 ;;
  hangs) sleep 60 ;;
  *) sleep 0.1 ;;
  esac
  mkdir -p "$root/lib/python3.11/site-packages/tiny"
  printf ${install === 'wrong file' ? 'wrong' : 'model'} > "$root/lib/python3.11/site-packages/tiny/tiny.gguf" ;;
*find_spec*)
  echo check >> "$here/calls"
  printf '{"packages": "%s"}\\n' "$(cd "$(dirname "$0")/../lib/python3.11/site-packages" && pwd -P)" ;;
esac
`,
  );
}

export async function writeScript(path: string, body: string): Promise<void> {
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, `#!/bin/sh\n${body}`, { mode: 0o755 });
}
