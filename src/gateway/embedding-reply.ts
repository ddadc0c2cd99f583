import type { NanoUsd, Tokens } from '../units.ts';
import { usdNumber } from '../units.ts';
import { reportedCounts } from './dialect.ts';
import { repeatedKey, spliceObject, topLevelMembers, type Member } from './json-splice.ts';
import { costDetails } from './wake-fee.ts';

/** A model server's embeddings, checked; kept as text, since numbers parsed and written anew would not be its own. */
export interface Embeddings {
  readonly members: readonly Member[];
  /** What the server says that its inputs were; null when it does not. */
  readonly claimed: Tokens | null;
}

/** What we write ourselves. */
const OWN: ReadonlySet<string> = new Set(['id', 'object', 'model', 'usage', 'timings']);

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** @throws RangeError, SyntaxError when these are not as many vectors as there were inputs, in their order */
export function readEmbeddings(text: string, count: number): Embeddings {
  const reply: unknown = JSON.parse(text);
  if (!isObject(reply)) throw new RangeError('the reply is no object');
  const { data } = reply;
  if (!Array.isArray(data) || data.length !== count) throw new RangeError(`the reply has not ${count} vectors`);
  for (const [index, entry] of (data as readonly unknown[]).entries()) {
    if (!isObject(entry) || entry['index'] !== index) throw new RangeError(`vector ${index} is not in its place`);
    const { embedding } = entry;
    if (typeof embedding !== 'string' && !Array.isArray(embedding)) throw new RangeError(`${index} is no vector`);
    if (embedding.length === 0) throw new RangeError(`vector ${index} is empty`);
  }
  const members = topLevelMembers(text);
  // One reader takes the first of two, another the last.
  if (repeatedKey(members) !== null) throw new RangeError('the reply has a key twice');
  return { members, claimed: reportedCounts(reply)?.input ?? null };
}

/** The reply as the client gets it: the server's, with our id, the public model, and what it cost. */
export function composeEmbeddings(
  { members }: Embeddings,
  own: {
    readonly id: string;
    readonly model: string;
    readonly tokens: Tokens;
    readonly cost: NanoUsd;
    readonly wakeFee: NanoUsd;
  },
): string {
  const { id, model, tokens, cost, wakeFee } = own;
  return spliceObject(members, OWN, {
    object: '"list"',
    id: JSON.stringify(id),
    model: JSON.stringify(model),
    usage: JSON.stringify({
      ...{ prompt_tokens: tokens, total_tokens: tokens, cost: usdNumber(cost) },
      ...costDetails(cost, wakeFee),
    }),
  });
}
