import type { PoolSpec } from '../spec.ts';
import type { Tokens } from '../units.ts';
import { onlyChoice, readDelta } from './choice.ts';
import { clientError, managedFields } from './dialect.ts';
import { continuedBody } from './resumption.ts';
import { SseReader } from './sse.ts';
import { readWhole, requestTo, type Addressed, type Upstream } from './upstream.ts';

const REPLY_MAX = 256 * 1024;
const WHOLE_TOKENS: Tokens = 24;
const CUT_TOKENS: Tokens = 9;
/** Continuations of different kinds: prose, a list with its blanks and line ends, words that tokens cut in the middle. */
const QUESTIONS: readonly string[] = [
  'Count from one to twenty in words.',
  'Write a list of five fruits, one per line.',
  'Repeat after me: internationalization, electroencephalograph, Donaudampfschiff.',
];

/**
 * Whether a model server goes on with an answer that was cut: asked at temperature 0 for a whole answer, for its beginning,
 * and to go on from there. Null when beginning and rest were the whole at least once and nothing was ever doubled, else
 * what was seen.
 * @throws Error when it does not answer at all
 */
export async function proveResumption(
  upstream: Upstream,
  target: Addressed,
  spec: PoolSpec,
  signal: AbortSignal,
): Promise<string | null> {
  const ask = (body: string): Promise<string> => answerTo(upstream, target, body, signal);
  let proven = false;
  let problem = 'its answers at temperature 0 differ from one time to the next: nothing can be compared';
  for (const question of QUESTIONS) {
    const whole = await ask(bodyOf(spec, question, WHOLE_TOKENS));
    const begun = await ask(bodyOf(spec, question, CUT_TOKENS));
    // Answers that differ by themselves (batches of another size do that), or are too short, prove nothing.
    if (begun === '' || begun.length >= whole.length || !whole.startsWith(begun)) continue;
    const from = { text: begun, maxTokens: WHOLE_TOKENS - CUT_TOKENS };
    const rest = await ask(continuedBody(bodyOf(spec, question, WHOLE_TOKENS), from, spec));
    if (begun + rest === whole) proven = true;
    else if (rest.startsWith(begun)) return 'it began its answer anew';
    else problem = 'the rest did not fit what came before it';
  }
  return proven ? null : problem;
}

function bodyOf(spec: PoolSpec, question: string, maxTokens: Tokens): string {
  const fields = managedFields(spec.engine, { model: spec.model, maxTokens, asked: true, stream: true });
  const members = Object.entries(fields).map(([key, value]) => `${JSON.stringify(key)}:${value}`);
  const messages = JSON.stringify([{ role: 'user', content: question }]);
  return `{"messages":${messages},"temperature":0,"seed":1,${members.join(',')}}`;
}

async function answerTo(upstream: Upstream, target: Addressed, body: string, signal: AbortSignal): Promise<string> {
  const request = requestTo(target, { path: '/v1/chat/completions', body, streamed: true });
  const { status, text } = await readWhole(upstream, request, { bytesMax: REPLY_MAX, signal });
  if (status !== 200) throw new Error(clientError(status, text)?.message ?? `the model server answered ${status}`);
  let said = '';
  const reader = new SseReader((data) => {
    if (data === '[DONE]') return;
    const choice = onlyChoice(JSON.parse(data) as Record<string, unknown>);
    const delta = (choice?.['delta'] ?? {}) as Record<string, unknown>;
    said += readDelta(delta, null, null).text ?? '';
  });
  reader.push(new TextEncoder().encode(text));
  return said;
}
