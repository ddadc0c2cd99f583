import { z } from 'zod';
import { AppError, type ErrorCode } from '../errors.ts';
import { refuseStructure } from './json-splice.ts';
import { isPlainChat } from './plain-chat.ts';

/** The OpenAI wire: error bodies, statuses, and the request schema of chat completions (OpenAPI 2.3.0). */

const WIRE: Record<ErrorCode, { readonly status: number; readonly type: string }> = {
  invalid_request: { status: 400, type: 'invalid_request_error' },
  context_length_exceeded: { status: 400, type: 'invalid_request_error' },
  invalid_api_key: { status: 401, type: 'authentication_error' },
  permission_denied: { status: 403, type: 'permission_error' },
  insufficient_credits: { status: 402, type: 'insufficient_credits' },
  model_not_found: { status: 404, type: 'invalid_request_error' },
  not_found: { status: 404, type: 'invalid_request_error' },
  request_too_large: { status: 413, type: 'invalid_request_error' },
  idempotency_in_flight: { status: 409, type: 'idempotency_error' },
  idempotency_completed: { status: 409, type: 'idempotency_error' },
  idempotency_mismatch: { status: 422, type: 'idempotency_error' },
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error' },
  upstream_error: { status: 502, type: 'api_error' },
  upstream_timeout: { status: 504, type: 'api_error' },
  no_capacity: { status: 503, type: 'api_error' },
  queue_full: { status: 503, type: 'api_error' },
  internal_error: { status: 500, type: 'api_error' },
  conflict: { status: 409, type: 'invalid_request_error' },
  pool_read_only: { status: 409, type: 'invalid_request_error' },
  invalid_config: { status: 400, type: 'invalid_request_error' },
  setup_failed: { status: 500, type: 'api_error' },
  data_in_use: { status: 503, type: 'api_error' },
  client_closed: { status: 499, type: 'api_error' },
};

/** Anything thrown as an AppError: what we did not foresee becomes a constant message, its cause only for logs. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  return new AppError('internal_error', 'an internal error happened', { cause: error });
}

export function errorStatus(error: AppError): number {
  return WIRE[error.code].status;
}

export function errorBody(error: AppError): string {
  const { message, param, code, metadata } = error;
  return JSON.stringify({ error: { message, type: WIRE[code].type, param, code, ...(metadata ? { metadata } : {}) } });
}

export function errorHeaders(error: AppError): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (error.retryAfterS !== undefined) headers['retry-after'] = String(error.retryAfterS);
  const status = errorStatus(error);
  const conflict = (status === 409 || status === 422) && error.shouldRetry === undefined;
  if (conflict) headers['x-should-retry'] = 'false';
  else if (error.shouldRetry !== undefined) headers['x-should-retry'] = String(error.shouldRetry);
  return headers;
}

const text = z.string();
const part = z
  .looseObject({ type: z.string() })
  .refine((value) => value.type !== 'text' || typeof value['text'] === 'string', 'needs its text');
const message = z.looseObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function']),
  content: z.union([text, z.array(part).max(10_000), z.null()]).optional(),
});

/** By hand: zod would report each of a million bad entries. */
function isLogitBias(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const entries = Object.values(value);
  return entries.length <= 1024 && entries.every((bias) => typeof bias === 'number' && Math.abs(bias) <= 100);
}

function isGrammar(value: unknown): boolean {
  if (typeof value !== 'string' || value.length > 65_536) return false;
  let depth = 0;
  for (const letter of value) {
    if (letter === '(') depth += 1;
    else if (letter === ')') depth = Math.max(0, depth - 1);
    if (depth > 64) return false;
  }
  return true;
}

export const chatSchema = z
  .looseObject({
    model: z.string().min(1).max(128),
    messages: z.array(message).min(1).max(10_000),
    stream: z.boolean().nullish(),
    stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
    n: z.number().int().min(1).max(128).nullish(),
    max_tokens: z.number().int().min(1).nullish(),
    max_completion_tokens: z.number().int().min(1).nullish(),
    temperature: z.number().min(0).max(2).nullish(),
    top_p: z.number().min(0).max(1).nullish(),
    presence_penalty: z.number().min(-2).max(2).nullish(),
    frequency_penalty: z.number().min(-2).max(2).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.number().int().min(0).max(20).nullish(),
    stop: z.union([text, z.array(text).max(4)]).nullish(),
    // int64: a double may not hold it, so only its kind is checked and its text is passed on as it came.
    seed: z.number().nullish(),
    user: text.nullish(),
    safety_identifier: text.max(64).nullish(),
    metadata: z
      .record(z.string().max(64), z.string().max(512))
      .refine((pairs) => Object.keys(pairs).length <= 16, 'has more than 16 pairs')
      .nullish(),
    logit_bias: z
      .custom<Record<string, number>>(isLogitBias, 'is an object of at most 1024 numbers from -100 to 100')
      .nullish(),
    // llama.cpp's: its parser recurses, so a deep one kills the model server.
    grammar: z.custom<string>(isGrammar, 'is a text of at most 64 KiB, nested at most 64 deep').nullish(),
    tools: z
      .array(z.looseObject({ type: text }))
      .max(1024)
      .nullish(),
    response_format: z.looseObject({ type: text }).nullish(),
  })
  .check((context) => {
    const { stream, stream_options: options, logprobs, top_logprobs: top } = context.value;
    const fail = (path: string, why: string): void => {
      context.issues.push({ code: 'custom', path: [path], message: why, input: context.value });
    };
    if (options && stream !== true) fail('stream_options', 'is only allowed when stream is true');
    if (top !== null && top !== undefined && logprobs !== true) fail('top_logprobs', 'needs logprobs to be true');
  });

export type ChatRequest = z.output<typeof chatSchema>;

/** `messages[0].role`, as OpenAI writes a param. */
function paramOf(path: readonly PropertyKey[]): string {
  return path
    .map((part, at) => (typeof part === 'number' ? `[${part}]` : `${at > 0 ? '.' : ''}${String(part)}`))
    .join('');
}

/** @throws AppError `invalid_request` naming the first bad field */
export function parseJsonBody<T>(body: string, schema: z.ZodType<T>): T {
  return checked(parseBody(body), schema);
}

/** Of a query string. @throws AppError `invalid_request` naming the first bad field */
export function parseQuery<T>(query: Readonly<Record<string, string>>, schema: z.ZodType<T>): T {
  return checked(query, schema);
}

/** @throws AppError `invalid_request` naming the first bad field */
export function parseChat(body: string): ChatRequest {
  const value = parseBody(body);
  return isPlainChat(value) ? (value as ChatRequest) : checked(value, chatSchema);
}

function parseBody(body: string): unknown {
  const refused = refuseStructure(body);
  if (refused !== null) throw new AppError('invalid_request', `the request body ${refused}`);
  try {
    return JSON.parse(body);
  } catch {
    throw new AppError('invalid_request', 'the request body is not valid JSON');
  }
}

function checked<T>(value: unknown, schema: z.ZodType<T>): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const param = paramOf(issue?.path ?? []);
  throw new AppError(
    'invalid_request',
    param === ''
      ? 'the request body is not a JSON object of this route'
      : `${param}: ${issue?.message.replace(/^.*, received undefined$/, 'is required') ?? 'is invalid'}`,
    {
      ...(param === '' ? {} : { param }),
    },
  );
}
