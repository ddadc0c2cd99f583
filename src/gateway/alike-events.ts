import { stringEnd, valueEnd } from './json-splice.ts';

/** An event that differs from one before it in its text, and in what it says of tokens, alone. */
export interface AlikeEvent {
  readonly text: string;
  /** `usage` or `timings`, by its name; null where events of this stream have none. */
  readonly counts: Readonly<Record<string, unknown>> | null;
}

interface Shape {
  /** Up to the text, from there to the counts or to the end, and after the counts. */
  readonly head: string;
  readonly middle: string;
  readonly end: string;
  readonly counts: 'usage' | 'timings' | null;
}

/** Streams whose events are never alike cost no more than so many looks at them. */
const LEARN_MAX = 3;
const CONTENT = '"content":';
// What JSON writes as it is: most texts of a token.
// eslint-disable-next-line no-control-regex
const PLAIN = /^[^"\\\u0000-\u001f]*$/;
const PROBE = '\u2063probe';

type Json = Readonly<Record<string, unknown>>;

/**
 * The events of one stream are all but the same text: to parse each of them whole was a tenth of what a streamed token
 * costs here. What surrounds the text is learnt from one that was parsed, and compared from then on; an event that differs
 * in anything else is no such event and has to be parsed.
 */
export class AlikeEvents {
  #shape: Shape | null = null;
  #learnt = 0;

  /** What an event says that is like one that was learnt; null: it has to be parsed. */
  read(data: string): AlikeEvent | null {
    const shape = this.#shape;
    if (shape === null || !data.startsWith(shape.head)) return null;
    const { head, middle, end, counts } = shape;
    if (data.charCodeAt(head.length) !== 34) return null;
    const textEnd = stringEnd(data, head.length);
    if (!data.startsWith(middle, textEnd)) return null;
    const countsAt = textEnd + middle.length;
    if (counts === null && countsAt !== data.length) return null;
    if (!data.endsWith(end)) return null;
    try {
      const text = textOf(data, head.length, textEnd);
      if (counts === null) return { text, counts: null };
      const told: unknown = JSON.parse(data.slice(countsAt, data.length - end.length));
      return { text, counts: { [counts]: told } };
    } catch {
      return null;
    }
  }

  /** Takes note of an event that was parsed and says nothing but a text of one choice. */
  learn(data: string, chunk: Json): void {
    if (this.#learnt >= LEARN_MAX) return;
    this.#learnt += 1;
    this.#shape = shapeOf(data, chunk);
  }
}

/** Throws SyntaxError for what is no string in JSON. */
function textOf(data: string, at: number, end: number): string {
  const inner = data.slice(at + 1, end - 1);
  return PLAIN.test(inner) ? inner : (JSON.parse(data.slice(at, end)) as string);
}

function shapeOf(data: string, chunk: Json): Shape | null {
  const at = data.indexOf(`${CONTENT}"`) + CONTENT.length;
  if (at < CONTENT.length) return null;
  const textEnd = stringEnd(data, at);
  const [head, rest] = [data.slice(0, at), data.slice(textEnd)];
  const counts = isObject(chunk['usage']) ? 'usage' : isObject(chunk['timings']) ? 'timings' : null;
  let shape: Shape = { head, middle: rest, end: '', counts };
  if (counts !== null) {
    const name = `"${counts}":`;
    const named = rest.lastIndexOf(`${name}{`);
    if (named < 0) return null;
    const from = named + name.length;
    const to = valueEnd(rest, from);
    shape = { head, middle: rest.slice(0, from), end: rest.slice(to), counts };
  }
  return isSound(shape) ? shape : null;
}

/** Whether what stands in its gaps is the text and the counts, whatever else bears these names. */
function isSound({ head, middle, end, counts }: Shape): boolean {
  const probe = JSON.stringify(PROBE);
  try {
    const made = JSON.parse(head + probe + middle + (counts === null ? '' : probe) + end) as Json;
    const choice = (made['choices'] as readonly { readonly delta?: Json }[] | undefined)?.[0];
    return choice?.delta?.['content'] === PROBE && (counts === null || made[counts] === PROBE);
  } catch {
    return false;
  }
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null;
