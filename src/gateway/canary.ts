import { z } from 'zod';
import type { PoolSpec } from '../spec.ts';
import { clientError, managedFields } from './dialect.ts';
import type { ProbeTarget } from './probe.ts';
import { SseReader } from './sse.ts';
import { readWhole, type Upstream } from './upstream.ts';

/** What a canary asks; as the scheduler makes it. */
export interface CanaryQuestion {
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly maxTokens: number;
  readonly stream: boolean;
  readonly topP: number | null;
  readonly topLogprobs: number;
}

export interface CanaryPosition {
  readonly token: string;
  readonly top: readonly { readonly token: string; readonly logprob: number }[];
}

const REPLY_MAX = 256 * 1024;
const TOP_MAX = 20;
const TOKEN_MAX = 400;

const candidate = z.object({ token: z.string().max(TOKEN_MAX), logprob: z.number().finite() });
// llama.cpp, vLLM and SGLang all have OpenAI's shape here; engines may give more candidates than they were asked for.
const content = z.array(candidate.extend({ top_logprobs: z.array(candidate).max(4 * TOP_MAX) })).max(256);
const chunk = z.object({
  choices: z.array(z.object({ logprobs: z.object({ content: content.nullish() }).nullish() })).nullish(),
});

/**
 * Asks a model server at temperature 0 for a few tokens with their log-probabilities. vLLM gives those of the model itself
 * (`raw_logprobs`), llama.cpp those before its samplers: neither depends on the temperature.
 * @throws Error when it does not answer, or without log-probabilities
 */
export async function askCanary(
  upstream: Upstream,
  target: ProbeTarget,
  spec: PoolSpec,
  { question, signal }: { readonly question: CanaryQuestion; readonly signal: AbortSignal },
): Promise<CanaryPosition[]> {
  const { messages, maxTokens, stream, topP, topLogprobs } = question;
  const [engine, model] = [target.engine ?? spec.engine, target.model ?? spec.model];
  const fields = managedFields(engine, { model, maxTokens, asked: true, stream });
  const members = Object.entries(fields).map(([key, value]) => `${JSON.stringify(key)}:${value}`);
  const sampling = `"temperature":0,${topP === null ? '' : `"top_p":${topP},`}"logprobs":true,"top_logprobs":${topLogprobs}`;
  const body = `{"messages":${JSON.stringify(messages)},${sampling},${members.join(',')}}`;
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (target.apiKey !== null) headers['authorization'] = `Bearer ${target.apiKey}`;
  const request = { url: target.url, path: '/v1/chat/completions', method: 'POST' as const, headers, body };
  const { status, text } = await readWhole(upstream, request, { bytesMax: REPLY_MAX, signal });
  if (status !== 200) throw new Error(clientError(status, text)?.message ?? `the model server answered ${status}`);
  const positions = (stream ? streamedPositions(text) : positionsOf(JSON.parse(text))).slice(0, maxTokens);
  if (positions.length === 0) throw new Error('the model server gave no log-probabilities');
  return positions;
}

function streamedPositions(text: string): CanaryPosition[] {
  const positions: CanaryPosition[] = [];
  const reader = new SseReader((data) => {
    if (data !== '[DONE]') positions.push(...positionsOf(JSON.parse(data)));
  });
  reader.push(new TextEncoder().encode(text));
  return positions;
}

/** Both shapes have their log-probabilities at the same place. */
function positionsOf(reply: unknown): CanaryPosition[] {
  const told = chunk.parse(reply).choices?.[0]?.logprobs?.content ?? [];
  return told.map(({ token, top_logprobs: top }) => ({ token, top: top.slice(0, TOP_MAX) }));
}
