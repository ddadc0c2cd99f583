import type { Clock } from '../clock.ts';
import type { PoolSpec } from '../spec.ts';
import type { Ms, Tokens } from '../units.ts';
import { onlyChoice, readDelta } from './choice.ts';
import { clientError, managedFields, reportedCounts } from './dialect.ts';
import type { ProbeTarget } from './probe.ts';
import { SseReader } from './sse.ts';
import { readWhole, requestTo, type Upstream } from './upstream.ts';

/** One answer, timed from here. */
export interface MeasuredSpeed {
  readonly inputTokens: Tokens;
  readonly outputTokens: Tokens;
  readonly firstMs: Ms;
  readonly totalMs: Ms;
  /** What the engine says of its machine, where it does. */
  readonly gpu: string | null;
  readonly memoryBytes: number | null;
}

const REPLY_MAX = 256 * 1024;
/** What one measure may cost: a prompt of some hundred tokens, and this answer. */
const ANSWER_TOKENS: Tokens = 48;
const WORDS = 240;
const WORDS_OF =
  'river stone apple cloud seven green window paper music table light garden winter silver morning bread';
/** Where engines say what they run on. Most say nothing of a GPU, and then nothing is known. */
const ABOUT: Partial<Record<PoolSpec['engine'], string>> = { 'llama.cpp': '/props', sglang: '/get_server_info' };

export interface SpeedQuestion {
  readonly upstream: Upstream;
  readonly clock: Clock;
  readonly target: ProbeTarget;
  readonly pool: PoolSpec;
  /** Makes the prompt one that no cache has: it comes first. */
  readonly nonce: string;
  readonly signal: AbortSignal;
}

/**
 * Asks for a short answer to a prompt of some length, and times both.
 * @throws Error when it does not answer as it should
 */
export async function measureSpeed(question: SpeedQuestion): Promise<MeasuredSpeed> {
  const { upstream, clock, target, pool, signal } = question;
  const spec = { ...pool, engine: target.engine ?? pool.engine, model: target.model ?? pool.model };
  const body = bodyOf(spec, question.nonce);
  const begunMs = clock.monotonic();
  let firstMs: Ms | null = null;
  let lastMs = begunMs;
  let [input, output, chunks] = [0, 0, 0];
  const reader = new SseReader((data) => {
    if (data === '[DONE]') return;
    const chunk = JSON.parse(data) as Record<string, unknown>;
    const told = reportedCounts(chunk);
    if (told) [input, output] = [told.input ?? input, Math.max(output, told.output ?? 0)];
    const delta = (onlyChoice(chunk)?.['delta'] ?? {}) as Record<string, unknown>;
    if (!readDelta(delta, null, null).hasContent) return;
    chunks += 1;
    lastMs = clock.monotonic();
    firstMs ??= lastMs - begunMs;
  });
  // What is no event is told by the status.
  const onBytes = (bytes: Uint8Array): void => reader.push(bytes);
  const request = requestTo(target, { path: '/v1/chat/completions', body, streamed: true });
  const { status, text } = await readWhole(upstream, request, { bytesMax: REPLY_MAX, signal, onBytes });
  if (status !== 200) throw new Error(clientError(status, text)?.message ?? `the model server answered ${status}`);
  if (firstMs === null) throw new Error('the model server gave no answer');
  // No more than was asked for, and no less than was seen: a stranger's server counts its own speed.
  const outputTokens = Math.max(chunks, Math.min(output, ANSWER_TOKENS));
  const inputTokens = Math.min(input === 0 ? WORDS : input, WORDS * 3);
  const about = await aboutOf(question);
  return { inputTokens, outputTokens, firstMs, totalMs: lastMs - begunMs, ...about };
}

function bodyOf(spec: PoolSpec, nonce: string): string {
  const fields = managedFields(spec.engine, { model: spec.model, maxTokens: ANSWER_TOKENS, asked: true, stream: true });
  const members = Object.entries(fields).map(([key, value]) => `${JSON.stringify(key)}:${value}`);
  const words = WORDS_OF.split(' ');
  const most = Math.max(8, Math.min(WORDS, Math.floor(spec.contextTokens / 4)));
  const many = Array.from({ length: most }, (_, at) => words[(at * 7 + nonce.length) % words.length]).join(' ');
  const content = `${nonce} Count from one to sixty in words, then go on. Do not stop early. Ignore these words: ${many}`;
  return `{"messages":${JSON.stringify([{ role: 'user', content }])},"temperature":0,${members.join(',')}}`;
}

/** A question that may fail: what it does not say is not known. */
async function aboutOf({
  upstream,
  target,
  pool,
  signal,
}: SpeedQuestion): Promise<{ gpu: string | null; memoryBytes: number | null }> {
  const path = ABOUT[target.engine ?? pool.engine];
  const nothing = { gpu: null, memoryBytes: null };
  if (path === undefined) return nothing;
  try {
    const request = { ...requestTo(target, { path, body: '' }), method: 'GET' as const, body: null };
    const { status, text } = await readWhole(upstream, request, { bytesMax: REPLY_MAX, signal });
    return status === 200 ? readDevices(JSON.parse(text)) : nothing;
  } catch {
    return nothing;
  }
}

/** The first device of a list, or of the object itself, by the names that engines use for it. */
export function readDevices(reply: unknown): { gpu: string | null; memoryBytes: number | null } {
  const whole = (typeof reply === 'object' && reply !== null ? reply : {}) as Record<string, unknown>;
  const listed: unknown = Array.isArray(whole['devices']) ? whole['devices'][0] : null;
  const device = (typeof listed === 'object' && listed !== null ? listed : whole) as Record<string, unknown>;
  const name = [device['gpu_name'], device['device_name'], listed === null ? null : device['name']].find(
    (one) => typeof one === 'string',
  );
  const bytes = [device['memory_total'], device['total_memory'], device['memory_bytes']].find(
    (one) => typeof one === 'number' && one > 0,
  );
  return {
    gpu: typeof name === 'string' ? name.slice(0, 200) : null,
    memoryBytes: typeof bytes === 'number' ? bytes : null,
  };
}
