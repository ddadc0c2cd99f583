import type { Script, Turn } from './model-server.ts';

/** What model servers say, in the shapes of three engines, and what goes wrong with it. */

export type Shape = 'llama.cpp' | 'vllm' | 'openai';

export interface Answer {
  readonly shape?: Shape;
  readonly pieces?: readonly string[];
  /** Deltas in full, for tool calls and the like; beats `pieces`. */
  readonly deltas?: readonly Record<string, unknown>[];
  readonly prompt?: number;
  readonly cached?: number;
  /** Tokens that the server claims to have made; default: one a piece. */
  readonly claims?: number;
  readonly finish?: string | null;
  readonly logprobs?: readonly unknown[];
}

const ID = 'chatcmpl-of-the-server';
const MODEL = 'model-of-the-server';
export const PIECES: readonly string[] = ['Hello', ' wor', 'ld', '!'];

function countsOf(answer: Answer): { prompt: number; cached: number; made: number; deltas: Record<string, unknown>[] } {
  const pieces = answer.pieces ?? PIECES;
  const deltas = [...(answer.deltas ?? pieces.map((content) => ({ content })))];
  return { prompt: answer.prompt ?? 12, cached: answer.cached ?? 0, made: answer.claims ?? deltas.length, deltas };
}

export function usageOf(answer: Answer = {}): Record<string, unknown> {
  const { prompt, cached, made } = countsOf(answer);
  return {
    prompt_tokens: prompt,
    completion_tokens: made,
    total_tokens: prompt + made,
    prompt_tokens_details: { cached_tokens: cached },
  };
}

/** Running counts as each engine gives them; an honest server counts up, a liar says its claim from the start. */
function runningOf(answer: Answer, made: number): Record<string, unknown> {
  const { prompt, cached } = countsOf(answer);
  const claimed = answer.claims ?? made;
  if (answer.shape === 'vllm') {
    return { usage: { prompt_tokens: prompt, completion_tokens: claimed, total_tokens: prompt + claimed } };
  }
  if (answer.shape === 'openai') return { usage: null };
  return { timings: { cache_n: cached, prompt_n: prompt - cached, predicted_n: claimed, predicted_ms: 1.5 } };
}

function chunkOf(choice: Record<string, unknown> | null, more: Record<string, unknown>): string {
  const choices = choice === null ? [] : [{ index: 0, ...choice }];
  const head = { id: ID, object: 'chat.completion.chunk', created: 1_700_000_001, model: MODEL };
  return `data: ${JSON.stringify({ ...head, choices, ...more })}\n\n`;
}

/** One chunk with a delta, as the middle of a stream has it. */
export function deltaEvent(delta: Record<string, unknown>, answer: Answer = {}, made = 1): string {
  // llama.cpp leaves out `logprobs`, vLLM and OpenAI write its null.
  const nulls = (answer.shape ?? 'llama.cpp') === 'llama.cpp' ? {} : { logprobs: null };
  return chunkOf({ delta, ...nulls, finish_reason: null }, runningOf(answer, made));
}

/** Every event of a stream: role, deltas, finish_reason, usage, `[DONE]`. */
export function eventsOf(answer: Answer = {}): string[] {
  const { deltas } = countsOf(answer);
  const opening = { role: 'assistant', content: (answer.shape ?? 'llama.cpp') === 'llama.cpp' ? null : '' };
  const finish = answer.finish === undefined ? 'stop' : answer.finish;
  const events = [deltaEvent(opening, answer, 0)];
  for (const [at, delta] of deltas.entries()) {
    const logprobs = answer.logprobs?.[at];
    if (logprobs === undefined) events.push(deltaEvent(delta, answer, at + 1));
    else {
      const choice = { delta, logprobs: { content: [logprobs] }, finish_reason: null };
      events.push(chunkOf(choice, runningOf(answer, at + 1)));
    }
  }
  if (finish !== null) {
    events.push(chunkOf({ delta: {}, finish_reason: finish }, runningOf(answer, deltas.length)));
  }
  events.push(chunkOf(null, { usage: usageOf(answer) }), 'data: [DONE]\n\n');
  return events;
}

/** A whole answer in one piece. */
export function wholeOf(answer: Answer = {}): Record<string, unknown> {
  const content = (answer.pieces ?? PIECES).join('');
  const delta = answer.deltas?.[0];
  const message = { role: 'assistant', ...(delta ?? { content }) };
  const choice = { index: 0, finish_reason: answer.finish ?? 'stop', message };
  const head = { id: ID, object: 'chat.completion', created: 1_700_000_001, model: MODEL };
  return { ...head, choices: [choice], usage: usageOf(answer) };
}

/** A stream when one is asked for, else a whole answer: what a healthy server does. */
export function answer(options: Answer = {}): Script {
  return (turn) => {
    if (turn.body['stream'] === true) return events(eventsOf(options))(turn);
    return json(200, wholeOf(options))(turn);
  };
}

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Script {
  return (turn) => {
    turn.head(status, { 'content-type': 'application/json', ...headers });
    turn.end(JSON.stringify(body));
  };
}

/** These events, each a write of its own, and then the end of the body. */
export function events(list: readonly string[]): Script {
  return async (turn) => {
    await begin(turn, list);
    turn.end();
  };
}

/** These events and then something else. */
export function eventsThen(list: readonly string[], then: (turn: Turn) => Promise<void> | void): Script {
  return async (turn) => {
    await begin(turn, list);
    await then(turn);
  };
}

async function begin(turn: Turn, list: readonly string[]): Promise<void> {
  turn.streamHead();
  for (const event of list) await turn.write(event);
}

/** The same bytes in pieces of another size: many events in a write, or an event in many. */
export function resliced(list: readonly string[], bytesEach: number): Script {
  return async (turn) => {
    const bytes = Buffer.from(list.join(''), 'utf8');
    turn.streamHead();
    for (let at = 0; at < bytes.length; at += bytesEach) await turn.write(bytes.subarray(at, at + bytesEach));
    turn.end();
  };
}

export const reset: Script = (turn) => turn.reset();

/** Takes the request and says nothing until the client leaves. */
export const silence: Script = (turn) => turn.left;

/** Says so much and then nothing. */
export const stallAfter = (list: readonly string[]): Script => eventsThen(list, (turn) => turn.left);

/** Breaks the connection in the middle. */
export const cutAfter = (list: readonly string[]): Script => eventsThen(list, (turn) => turn.reset());

/** Waits before its first event. */
export function slowFirst(ms: number, list: readonly string[]): Script {
  return async (turn) => {
    turn.streamHead();
    await turn.sleep(ms);
    for (const event of list) await turn.write(event);
    turn.end();
  };
}

/** Goes on and on, as fast as the client reads. */
export function endless(event: string): Script {
  return async (turn) => {
    turn.streamHead();
    while (!turn.hasLeft) await turn.write(event);
  };
}

/** Writes each event when the test says so. */
export function steered(): { readonly script: Script; say(event: string): void; end(): void } {
  const queue: (string | null)[] = [];
  let wake = (): void => undefined;
  const put = (item: string | null): void => {
    queue.push(item);
    wake();
  };
  const script: Script = async (turn) => {
    turn.streamHead();
    for (;;) {
      const item = queue.shift();
      if (item === null) return turn.end();
      if (item !== undefined) await turn.write(item);
      else {
        const more = new Promise<void>((resolve) => {
          wake = resolve;
        });
        await Promise.race([more, turn.left]);
        if (turn.hasLeft) return;
      }
    }
  };
  return { script, say: put, end: () => put(null) };
}
