import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, visit, type Document, type Node } from 'yaml';

/** A setting's place: names of keys, numbers of list entries. */
export type Path = readonly (string | number)[];

export interface Place {
  readonly line: number;
  readonly column: number;
}

export interface Mistake extends Place {
  readonly path: Path;
  readonly message: string;
}

/** A file's values, and where each of them stands. */
export interface ConfigDocument {
  readonly data: unknown;
  /** What is wrong with the text itself. With any of them `data` is not worth checking. */
  readonly syntax: readonly Mistake[];
  /** Well-formed, yet surely not meant: keys that are set twice. */
  readonly duplicates: readonly Mistake[];
  /** Of the value; of its key when the value is empty; of the nearest key above when nothing is there. */
  placeOf(path: Path): Place;
  placeOfKey(path: Path): Place;
  /** A number as it was typed (1.0 is 1 in `data`); null for anything else. */
  numberText(path: Path): string | null;
}

const ALIASES_MAX = 100;
const DUPLICATES_MAX = 200;

/**
 * The YAML library's own messages repeat what they stumbled over, and that may be half a password; these don't.
 */
const SYNTAX: Partial<Record<string, string>> = {
  ALIAS_PROPS: 'an alias takes no anchor or tag',
  BAD_ALIAS: 'this alias has no name',
  BAD_DQ_ESCAPE: 'there is no such escape in a double-quoted text',
  BAD_INDENT: 'the indentation does not fit, or a bracket is not closed',
  BAD_SCALAR_START: 'a text that starts so needs quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a second key on this line: quote the text, or start a new line',
  MISSING_CHAR: 'something is missing here: a closing quote, a comma or a colon',
  MULTIPLE_DOCS: 'only one document is allowed: remove the ---',
  NON_STRING_KEY: 'a key must be text',
  RESOURCE_EXHAUSTION: 'is nested too deeply',
  TAB_AS_INDENT: 'tabs cannot indent: use blanks',
  TAG_RESOLVE_FAILED: 'tags (!name) are not supported',
};

/** Reads YAML (and so JSON), with positions. Never throws. */
export function readDocument(text: string): ConfigDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    // Done by findDuplicates, which can name the path and the first place.
    uniqueKeys: false,
    // Else `3.10:` becomes the pool "3.1".
    stringKeys: true,
    // With 'silent' a second document is no error.
    logLevel: 'error',
  });
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const findings = [...document.errors, ...document.warnings].map((error) => ({
    ...place(error.pos[0]),
    path: [],
    message: SYNTAX[error.code] ?? `is not valid YAML (${error.code})`,
  }));
  const values = findings.length > 0 ? { data: null, syntax: firstOfEachLine(findings) } : readValues(document);
  return {
    ...values,
    duplicates: values.syntax.length > 0 ? [] : findDuplicates(document, place),
    placeOf: (path) => place(offsetOf(document, path)),
    placeOfKey: (path) => place(offsetOfKey(document, path)),
    numberText: (path) => {
      const node = resolve(document, walk(document, path).node);
      return isScalar(node) && typeof node.value === 'number' ? (node.source ?? String(node.value)) : null;
    },
  };
}

function readValues(document: Document): { data: unknown; syntax: Mistake[] } {
  try {
    return { data: document.toJS({ maxAliasCount: ALIASES_MAX }), syntax: [] };
  } catch {
    const message = `its aliases (*name) cannot be followed: at most ${ALIASES_MAX}, each to an anchor above it`;
    return { data: null, syntax: [{ line: 1, column: 1, path: [], message }] };
  }
}

/** After the first error of a line the rest of it is guesswork. */
function firstOfEachLine(mistakes: Mistake[]): Mistake[] {
  const seen = new Set<number>();
  return mistakes
    .sort((a, b) => a.line - b.line || a.column - b.column)
    .filter((mistake) => !seen.has(mistake.line) && seen.add(mistake.line));
}

function findDuplicates(document: Document, place: (offset: number) => Place): Mistake[] {
  const found: Mistake[] = [];
  visit(document, {
    Map(_, map, ancestors) {
      const first = new Map<string, Place>();
      const report = (name: string, at: Place, message: string): void => {
        found.push({ ...at, path: [...pathOf([...ancestors, map]), name], message });
      };
      for (const { key } of map.items) {
        if (!isScalar(key)) continue;
        const name = String(key.value);
        const at = place(key.range?.[0] ?? 0);
        const earlier = first.get(name);
        if (earlier !== undefined) report(name, at, `is set twice, first on line ${earlier.line}`);
        if (name === '__proto__') report(name, at, 'is not a possible key');
        first.set(name, earlier ?? at);
        if (found.length >= DUPLICATES_MAX) return visit.BREAK;
      }
      return undefined;
    },
  });
  return found;
}

function pathOf(ancestors: readonly unknown[]): Path {
  return ancestors.flatMap((node, index): (string | number)[] => {
    const child = ancestors[index + 1];
    if (isSeq(node)) return [node.items.indexOf(child)];
    if (!isMap(node)) return [];
    const pair = node.items.find((item) => item === child);
    return pair !== undefined && isScalar(pair.key) ? [String(pair.key.value)] : [];
  });
}

interface Reached {
  /** Null when the path leads nowhere. */
  readonly node: Node | null;
  /** The offset of the last key (or list entry) that was found on the way. */
  readonly keyOffset: number;
}

function walk(document: Document, path: Path): Reached {
  let node: Node | null = document.contents;
  let keyOffset = node?.range?.[0] ?? 0;
  for (const step of path) {
    const parent = resolve(document, node);
    if (isMap<Node, Node>(parent)) {
      const pair = parent.items.findLast((item) => isScalar(item.key) && item.key.value === step);
      if (pair === undefined) return { node: null, keyOffset };
      keyOffset = pair.key.range?.[0] ?? keyOffset;
      node = pair.value;
    } else if (isSeq<Node>(parent) && typeof step === 'number') {
      node = parent.items[step] ?? null;
      if (node === null) return { node: null, keyOffset };
      keyOffset = node.range?.[0] ?? keyOffset;
    } else {
      return { node: null, keyOffset };
    }
  }
  return { node, keyOffset };
}

function resolve(document: Document, node: Node | null): Node | null {
  return isAlias(node) ? (node.resolve(document) ?? null) : node;
}

function offsetOf(document: Document, path: Path): number {
  const { node, keyOffset } = walk(document, path);
  const range = node?.range;
  // An empty value stands nowhere in particular.
  return range === null || range === undefined || range[0] === range[1] ? keyOffset : range[0];
}

function offsetOfKey(document: Document, path: Path): number {
  return walk(document, path).keyOffset;
}
