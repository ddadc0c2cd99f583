/**
 * Edits the top level of a JSON object as text. Parsing and writing a request anew would change numbers that a double
 * cannot hold (an int64 `seed`) and the form of others (1.0); so what is not ours stays byte for byte.
 */

/** End of the JSON string that starts at `at` (a quote): the index after its closing quote. */
export function stringEnd(text: string, at: number): number {
  let from = at + 1;
  for (;;) {
    const quote = text.indexOf('"', from);
    if (quote < 0) return text.length;
    let slashes = 0;
    while (text.charCodeAt(quote - 1 - slashes) === 92) slashes += 1;
    if (slashes % 2 === 0) return quote + 1;
    from = quote + 1;
  }
}

function skipBlanks(text: string, at: number): number {
  let index = at;
  for (;;) {
    const code = text.charCodeAt(index);
    if (code !== 32 && code !== 10 && code !== 13 && code !== 9) return index;
    index += 1;
  }
}

/** End of the JSON value that starts at `at`, which is well formed. */
export function valueEnd(text: string, at: number): number {
  let depth = 0;
  let index = at;
  while (index < text.length) {
    const code = text.charCodeAt(index);
    if (code === 34) {
      index = stringEnd(text, index);
      if (depth === 0) return index;
      continue;
    }
    if (code === 123 || code === 91) depth += 1;
    else if (code === 125 || code === 93) {
      if (depth === 0) return index;
      depth -= 1;
      if (depth === 0) return index + 1;
    } else if (code === 44 && depth === 0) return index;
    index += 1;
  }
  return index;
}

/** How much structure a request may have: parsing is done on the one thread that serves everybody. */
const DEPTH_MAX = 128;
const ITEMS_MAX = 200_000;

/**
 * Why a body's structure is refused, or null: one pass over its text, before anything is built from it. Deeply nested
 * schemas also kill model servers, whose parsers recurse.
 */
export function refuseStructure(text: string): string | null {
  let depth = 0;
  let items = 0;
  let at = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === 34) {
      at = stringEnd(text, at);
      continue;
    }
    if (code === 44) items += 1;
    else if (code === 123 || code === 91) {
      depth += 1;
      items += 1;
    } else if (code === 125 || code === 93) depth -= 1;
    if (depth > DEPTH_MAX) return `is nested more than ${DEPTH_MAX} deep`;
    if (items > ITEMS_MAX) return `has more than ${ITEMS_MAX} members and items`;
    at += 1;
  }
  return null;
}

export interface Member {
  readonly key: string;
  /** The member as written, key and value. */
  readonly text: string;
  readonly value: string;
  /** Where its value begins in the object's text. */
  readonly valueAt: number;
}

/** Members of the top-level object, in order, duplicates too. `text` must be JSON that `JSON.parse` accepted. */
export function topLevelMembers(text: string): Member[] {
  const members: Member[] = [];
  let at = skipBlanks(text, skipBlanks(text, 0) + 1);
  while (at < text.length && text.charCodeAt(at) === 34) {
    const keyEnd = stringEnd(text, at);
    const raw = text.slice(at, keyEnd);
    const valueAt = skipBlanks(text, skipBlanks(text, keyEnd) + 1);
    const end = valueEnd(text, valueAt);
    const key = raw.includes('\\') ? (JSON.parse(raw) as string) : raw.slice(1, -1);
    members.push({ key, text: text.slice(at, end), value: text.slice(valueAt, end).trimEnd(), valueAt });
    at = skipBlanks(text, end);
    if (text.charCodeAt(at) === 44) at = skipBlanks(text, at + 1);
  }
  return members;
}

const FEW = 16;

/** A key that stands in the object twice: which of the two counts, one reader decides so and another otherwise. */
export function repeatedKey(members: readonly Member[]): string | null {
  if (members.length > FEW) {
    const seen = new Set<string>();
    for (const { key } of members) {
      if (seen.has(key)) return key;
      seen.add(key);
    }
    return null;
  }
  // Most requests have so few that to compare them all is less than to make a set.
  for (const [at, { key }] of members.entries()) {
    for (let other = 0; other < at; other += 1) if (members[other]?.key === key) return key;
  }
  return null;
}

/** The object without the given keys, and with `added` (already JSON) in their place. */
export function spliceObject(
  object: string | readonly Member[],
  removed: ReadonlySet<string>,
  added: Readonly<Record<string, string | undefined>>,
): string {
  const members = typeof object === 'string' ? topLevelMembers(object) : object;
  let text = '';
  for (const member of members) {
    if (!removed.has(member.key)) text += `${text === '' ? '{' : ','}${member.text.trimEnd()}`;
  }
  for (const key in added) {
    const value = added[key];
    if (value !== undefined) text += `${text === '' ? '{' : ','}${JSON.stringify(key)}:${value}`;
  }
  return text === '' ? '{}' : `${text}}`;
}
