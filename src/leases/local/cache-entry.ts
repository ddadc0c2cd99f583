import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../../clock.ts';
import { isExecutable } from './python.ts';
import type { PinnedPackage } from './packages.ts';

/**
 * A prepared folder in the cache: a virtual environment with the packages, and a marker written last. It is prepared
 * beside its place and moved there in one step; an environment survives that, since its `bin/python` is a link and its
 * pyvenv.cfg names the interpreter it was made from, not itself.
 */
export interface CacheEntry {
  readonly python: string;
  /** Path of the package's file that matters, by the package's name. */
  readonly files: ReadonlyMap<string, string>;
}

const MARKER = 'underbid.json';
/** Longer than any preparation may take. */
const LEFTOVER_MS = 2 * 3_600_000;

const markerSchema = z.object({
  format: z.literal(1),
  /** Where `bin/python` led: an upgraded or removed Python needs a new environment. */
  interpreter: z.string(),
  /** Relative, so that a copied cache still fits. */
  packages: z.string().regex(/^lib(64)?\/python3\.\d+\/site-packages$/),
  files: z.array(z.object({ package: z.string(), bytes: z.number(), mtimeMs: z.number(), sha256: z.string() })),
});
type Marker = z.infer<typeof markerSchema>;
type MarkedFile = Marker['files'][number];

/** Null unless everything is there, as it was. Starts nothing, and reads the files only if their times changed. */
export async function openEntry(folder: string, packages: readonly PinnedPackage[]): Promise<CacheEntry | null> {
  const marker = await readMarker(folder);
  if (marker === null) return null;
  const python = join(folder, 'bin', 'python');
  const interpreter = await interpreterOf(folder).catch(() => null);
  if (interpreter !== marker.interpreter || !(await isExecutable(python))) return null;
  const files = new Map<string, string>();
  const now: MarkedFile[] = [];
  for (const pinned of packages) {
    const path = fileOf(join(folder, marker.packages), pinned);
    const marked = marker.files.find((file) => file.package === pinned.name);
    const checked = marked === undefined ? null : await checkFile(path, pinned, marked);
    if (checked === null) return null;
    files.set(pinned.name, path);
    now.push(checked);
  }
  if (now.some((file) => !marker.files.includes(file))) {
    // A copied or restored cache; where it can't be written it is only checked again next time.
    await writeMarker(folder, { ...marker, files: now }).catch(() => {});
  }
  return { python, files };
}

/** Checks what was installed and writes the marker. False when a file is not what it should be. */
export async function sealEntry(folder: string, site: string, packages: readonly PinnedPackage[]): Promise<boolean> {
  const files: MarkedFile[] = [];
  for (const pinned of packages) {
    const path = fileOf(site, pinned);
    const found = await stat(path).catch(() => null);
    if (found === null) return false;
    const sha256 = await hashFile(path);
    if (pinned.file.sha256 !== null && pinned.file.sha256 !== sha256) return false;
    files.push({ package: pinned.name, bytes: found.size, mtimeMs: found.mtimeMs, sha256 });
  }
  const interpreter = await interpreterOf(folder);
  await writeMarker(folder, { format: 1, interpreter, packages: relative(await realpath(folder), site), files });
  return true;
}

/** Moves a sealed folder to its place. What is in the way goes, unless it is a good one that somebody else made. */
export async function placeEntry(from: string, to: string, packages: readonly PinnedPackage[]): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if ((await stat(to).catch(() => null)) === null) throw error;
    if ((await openEntry(to, packages)) !== null) return;
    const aside = `${from}-old`;
    await rename(to, aside);
    await rename(from, to);
    await removeFolder(aside);
  }
}

export function workFolder(folder: string, token: string): string {
  return `${folder}.preparing-${token}`;
}

/** Removes what preparations left that were killed: that of the dead holder of the lock, and old ones. */
export async function sweepLeftovers(folder: string, dead: string | null, clock: Clock): Promise<void> {
  const parent = dirname(folder);
  const prefix = basename(workFolder(folder, ''));
  for (const name of await readdir(parent)) {
    if (!name.startsWith(prefix)) continue;
    const path = join(parent, name);
    const ageMs = clock.now() - ((await stat(path).catch(() => null))?.mtimeMs ?? 0);
    if (ageMs > LEFTOVER_MS || (dead !== null && name.startsWith(prefix + dead))) await removeFolder(path);
  }
}

export async function removeFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 3 });
}

export async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true });
}

/** Where `bin/python` leads; relative if it was copied into the folder, which is about to move. */
async function interpreterOf(folder: string): Promise<string> {
  const path = await realpath(join(folder, 'bin', 'python'));
  const inside = relative(await realpath(folder), path);
  return inside.startsWith('..') ? path : inside;
}

function fileOf(site: string, pinned: PinnedPackage): string {
  return join(site, pinned.module, pinned.file.name);
}

async function checkFile(path: string, pinned: PinnedPackage, marked: MarkedFile): Promise<MarkedFile | null> {
  const found = await stat(path).catch(() => null);
  if (found === null || (pinned.file.bytes !== null && found.size !== pinned.file.bytes)) return null;
  const sha256 = pinned.file.sha256 ?? marked.sha256;
  if (found.size === marked.bytes && found.mtimeMs === marked.mtimeMs && sha256 === marked.sha256) return marked;
  if ((await hashFile(path)) !== sha256) return null;
  return { package: pinned.name, bytes: found.size, mtimeMs: found.mtimeMs, sha256 };
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function readMarker(folder: string): Promise<Marker | null> {
  try {
    return markerSchema.parse(JSON.parse(await readFile(join(folder, MARKER), 'utf8')));
  } catch {
    return null;
  }
}

async function writeMarker(folder: string, marker: Marker): Promise<void> {
  const path = join(folder, MARKER);
  const next = `${path}.${process.pid}`;
  await writeFile(next, `${JSON.stringify(marker, null, 2)}\n`);
  await rename(next, path);
}
