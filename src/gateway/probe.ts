import { AppError } from '../errors.ts';
import type { Target } from '../scheduler/pool/slot.ts';
import type { Engine, PoolSpec } from '../spec.ts';
import { managedFields, clientError } from './dialect.ts';
import { readEmbeddings } from './embedding-reply.ts';
import { readWhole, type Upstream } from './upstream.ts';

export type ProbeTarget = Pick<Target, 'url' | 'apiKey' | 'engine' | 'model'>;

const REPLY_MAX = 256 * 1024;

/**
 * Asks a model server for one token, or for one vector: it is ready when the model answers, not when its port opens.
 * @throws Error with what it said instead; AppError `queue_full` when it has too much to do
 */
export async function probeModelServer(
  upstream: Upstream,
  target: ProbeTarget,
  spec: PoolSpec,
  signal: AbortSignal,
): Promise<void> {
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (target.apiKey !== null) headers['authorization'] = `Bearer ${target.apiKey}`;
  const model = target.model ?? spec.model;
  const { path, body, check } = spec.kind === 'chat' ? chatQuestion(target.engine, model) : embeddingQuestion(model);
  const request = { url: target.url, path, method: 'POST' as const, headers, body };
  const { status, text } = await readWhole(upstream, request, { bytesMax: REPLY_MAX, signal });
  if (status === 429) throw new AppError('queue_full', 'the model server answered 429');
  if (status !== 200) throw new Error(clientError(status, text)?.message ?? `the model server answered ${status}`);
  check(text);
}

interface Question {
  readonly path: string;
  readonly body: string;
  readonly check: (reply: string) => void;
}

function chatQuestion(engine: Engine, model: string): Question {
  const fields = managedFields(engine, { model, maxTokens: 1, asked: true, stream: false });
  const members = Object.entries(fields).map(([key, value]) => `${JSON.stringify(key)}:${value}`);
  const body = `{"messages":[{"role":"user","content":"Say yes."}],${members.join(',')}}`;
  const check = (text: string): void => {
    const reply = JSON.parse(text) as { choices?: unknown[] };
    if (!Array.isArray(reply.choices) || reply.choices.length === 0) throw new Error('the model server gave no answer');
  };
  return { path: '/v1/chat/completions', body, check };
}

function embeddingQuestion(model: string): Question {
  const body = JSON.stringify({ model, input: ['yes'] });
  return { path: '/v1/embeddings', body, check: (text) => void readEmbeddings(text, 1) };
}
