import { AppError } from '../errors.ts';
import type { Engine, PoolSpec } from '../spec.ts';
import { managedFields, clientError } from './dialect.ts';
import { readEmbeddings } from './embedding-reply.ts';
import { readWhole, requestTo, type Addressed, type Upstream } from './upstream.ts';

export interface ProbeTarget extends Addressed {
  /** What it was started with, where its pool says something else by now. */
  readonly engine?: Engine;
  readonly model?: string;
}

const REPLY_MAX = 256 * 1024;

/**
 * Asks a model server for one token, or for one vector: it is ready when the model answers, not when its port opens.
 * @throws Error with what it said instead; AppError `queue_full` when it has too much to do
 */
export async function probeModelServer(
  upstream: Upstream,
  target: ProbeTarget,
  pool: PoolSpec,
  signal: AbortSignal,
): Promise<void> {
  const spec = { ...pool, engine: target.engine ?? pool.engine, model: target.model ?? pool.model };
  const { path, body, check } = spec.kind === 'chat' ? chatQuestion(spec) : embeddingQuestion(spec);
  const { status, text } = await readWhole(upstream, requestTo(target, { path, body }), {
    bytesMax: REPLY_MAX,
    signal,
  });
  if (status === 429) throw new AppError('queue_full', 'the model server answered 429');
  // It said something: not what it should, but its port is open.
  if (status !== 200) {
    throw new AppError('upstream_error', clientError(status, text)?.message ?? `the model server answered ${status}`);
  }
  check(text);
}

interface Question {
  readonly path: string;
  readonly body: string;
  readonly check: (reply: string) => void;
}

function chatQuestion({ engine, model }: PoolSpec): Question {
  const fields = managedFields(engine, { model, maxTokens: 1, asked: true, stream: false });
  const members = Object.entries(fields).map(([key, value]) => `${JSON.stringify(key)}:${value}`);
  const body = `{"messages":[{"role":"user","content":"Say yes."}],${members.join(',')}}`;
  const check = (text: string): void => {
    const reply = JSON.parse(text) as { choices?: unknown[] };
    if (!Array.isArray(reply.choices) || reply.choices.length === 0) throw new Error('the model server gave no answer');
  };
  return { path: '/v1/chat/completions', body, check };
}

function embeddingQuestion({ model }: PoolSpec): Question {
  const body = JSON.stringify({ model, input: ['yes'] });
  return { path: '/v1/embeddings', body, check: (text) => void readEmbeddings(text, 1) };
}
