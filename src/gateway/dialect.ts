import { AppError } from '../errors.ts';
import type { Engine, PoolSpec } from '../spec.ts';
import type { Tokens } from '../units.ts';

/** What differs between model servers: the fields we set, those we refuse, and where running counts stand. */

/**
 * Fields that change what a request costs or what shape its answer has, past the limits we hold money for. llama.cpp, given
 * max_tokens 5 and n_predict 60, made 60 tokens.
 */
const REFUSED: ReadonlySet<string> = new Set([
  'n_predict',
  'n_cmpl',
  'best_of',
  'chat_template',
  'mm_processor_kwargs',
  'use_beam_search',
  'prompt_logprobs',
  'prompt',
  'prompt_token_ids',
  'n_indent',
  'id_slot',
  'echo',
  'continue_final_message',
  'add_generation_prompt',
  'return_tokens_as_token_ids',
  'return_token_ids',
  'kv_transfer_params',
  'priority',
  'max_new_tokens',
  'n_probs',
  'return_tokens',
  'return_hidden_states',
  // Code, adapters, addresses and ids that a stranger would choose on the model server.
  'logits_processors',
  'custom_logit_processor',
  'lora',
  'lora_path',
  'bootstrap_host',
  'bootstrap_port',
  'bootstrap_room',
  'request_id',
  'rid',
]);

/** Fields that the gateway sets itself, whatever the client wrote. */
export const MANAGED: ReadonlySet<string> = new Set([
  'model',
  'n',
  'stream',
  'stream_options',
  'max_tokens',
  'max_completion_tokens',
  'timings_per_token',
  'return_progress',
]);

/** Fields that we read and leave as they are: what a prompt comes to hangs on them. */
const READ: ReadonlySet<string> = new Set(['messages', 'tools', 'functions', 'response_format', 'logprobs']);

/**
 * Model servers written in Go take a field in any letters, `N` for `n` and `\u017ftream` for `stream`, and the last one
 * counts: none of ours may stand there twice.
 */
function fold(key: string): string {
  return key.toUpperCase().toLowerCase();
}

/** @throws AppError `invalid_request` */
export function refuseFields(request: Readonly<Record<string, unknown>>): void {
  for (const key in request) {
    // As it is to be written: most are.
    if (MANAGED.has(key) || READ.has(key)) continue;
    const plain = fold(key);
    const other = plain !== key && (MANAGED.has(plain) || READ.has(plain));
    if (REFUSED.has(plain) || other)
      throw new AppError('invalid_request', `${key} is not allowed here`, { param: key });
  }
}

/** Our fields of one upstream request, as JSON texts. */
export function managedFields(
  engine: Engine,
  options: {
    readonly model: string;
    readonly maxTokens: Tokens;
    /** Whether the client named a maximum. */
    readonly asked: boolean;
    readonly stream: boolean;
  },
): Record<string, string> {
  const { model, maxTokens, asked, stream } = options;
  const max = String(maxTokens);
  const fields: Record<string, string> = { model: JSON.stringify(model), stream: String(stream) };
  // vLLM and SGLang refuse a maximum that does not fit beside the prompt; without one they fill what the context has left.
  if (asked || engine === 'llama.cpp') fields['max_tokens'] = max;
  // Every alias of the maximum, so that none of them can say something else. Others refuse to have both.
  if (engine === 'llama.cpp') fields['n_predict'] = max;
  if (!stream) return fields;
  if (engine === 'llama.cpp') fields['timings_per_token'] = 'true';
  const continuous = engine === 'vllm' || engine === 'sglang';
  fields['stream_options'] = continuous
    ? '{"include_usage":true,"continuous_usage_stats":true}'
    : '{"include_usage":true}';
  return fields;
}

/** How this pool's model servers go on with an answer; null: they do not. */
export function resumeModeOf({ engine, resume }: PoolSpec): 'prefill' | 'continue_final_message' | null {
  if (resume === 'off') return null;
  if (resume !== 'auto') return resume;
  // llama.cpp continues a last message of the assistant's, vLLM and SGLang answer it unless they are told to.
  if (engine === 'llama.cpp') return 'prefill';
  return engine === 'openai' ? null : 'continue_final_message';
}

/** Fields of a request that goes on with its last message. */
export function continuationFields(spec: PoolSpec): Record<string, string> {
  if (resumeModeOf(spec) !== 'continue_final_message') return {};
  return { continue_final_message: 'true', add_generation_prompt: 'false' };
}

/** What a reply or a chunk says of tokens; null where it says nothing. */
export interface ReportedCounts {
  readonly input: Tokens | null;
  readonly cached: Tokens | null;
  readonly output: Tokens | null;
}

const countOf = (value: unknown): number | null =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : null;

const objectOf = (value: unknown): Record<string, unknown> | null =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;

/** Reads `usage`, or llama.cpp's `timings` when there is none. Lenient: a stranger wrote this. */
export function reportedCounts(reply: Readonly<Record<string, unknown>>): ReportedCounts | null {
  const usage = objectOf(reply['usage']);
  if (usage) {
    const details = objectOf(usage['prompt_tokens_details']);
    return {
      input: countOf(usage['prompt_tokens']),
      cached: countOf(details?.['cached_tokens']),
      output: countOf(usage['completion_tokens']),
    };
  }
  const timings = objectOf(reply['timings']);
  if (!timings) return null;
  const fresh = countOf(timings['prompt_n']);
  const cached = countOf(timings['cache_n']);
  return {
    input: fresh === null ? null : fresh + (cached ?? 0),
    cached,
    output: countOf(timings['predicted_n']),
  };
}

/** llama.cpp's, with status 500, of an input to be embedded. */
const INPUT_TOO_LONG = /input \(\d+ tokens\) is too large to process/;
const CONTEXT_WORDS = /context (length|size|window)|exceed_context_size|maximum context|too many tokens/i;

/** What a model server's refusal of the request means to the client; null when it is the server that is at fault. */
export function clientError(status: number, body: string, secrets: readonly string[] = []): AppError | null {
  if (status === 500 && INPUT_TOO_LONG.test(body)) {
    return new AppError('context_length_exceeded', 'the input is longer than the context', { param: 'input' });
  }
  if (![400, 404, 413, 422].includes(status)) return null;
  let said = '';
  try {
    const parsed = objectOf(JSON.parse(body));
    const error = objectOf(parsed?.['error']) ?? parsed;
    const told = error?.['message'] ?? error?.['detail'];
    said = typeof told === 'string' ? told : '';
  } catch {
    // Not JSON: there is nothing to pass on.
  }
  // A server may quote the request it got, our key for it and its address with it.
  let clean = said.replaceAll(/[\u0000-\u001f]+/g, ' ');
  for (const secret of secrets) if (secret !== '') clean = clean.replaceAll(secret, '[hidden]');
  clean = clean.slice(0, 500);
  if (CONTEXT_WORDS.test(body)) {
    return new AppError('context_length_exceeded', clean || 'the request is longer than the context', {
      param: 'messages',
    });
  }
  // 404: the server does not know the model it was started for. That is no fault of the client's.
  if (status === 404) return null;
  return new AppError('invalid_request', clean || 'the model server refused the request');
}
