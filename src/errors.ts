/**
 * The one error type. Every failure a stranger may see has one of these codes; the gateway maps a code to a status in
 * `gateway/openai.ts`. `message` is shown to the caller, so it never carries a secret, a path or another tenant's data;
 * what went wrong inside goes into `cause`, which only logs see.
 */
export const ERROR_CODES = [
  // What an app can meet (contract: the table of statuses).
  'invalid_request',
  'context_length_exceeded',
  'invalid_api_key',
  'permission_denied',
  'insufficient_credits',
  'model_not_found',
  'not_found',
  'request_too_large',
  'idempotency_in_flight',
  'idempotency_completed',
  'idempotency_mismatch',
  'rate_limit_exceeded',
  'upstream_error',
  'upstream_timeout',
  'no_capacity',
  'queue_full',
  'internal_error',
  // What an operator can meet besides.
  'conflict',
  'pool_read_only',
  'invalid_config',
  'setup_failed',
  'data_in_use',
  'client_closed',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

export interface AppErrorOptions {
  /** The request's field that is at fault, as OpenAI's `param`. */
  param?: string | undefined;
  /** Seconds until a retry makes sense; becomes Retry-After. */
  retryAfterS?: number | undefined;
  /** Overrides OpenAI clients' own rule; becomes `x-should-retry`. */
  shouldRetry?: boolean | undefined;
  /** Shown as `error.metadata`. */
  metadata?: Record<string, unknown> | undefined;
  cause?: unknown;
}

export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly param: string | null;
  readonly retryAfterS: number | undefined;
  readonly shouldRetry: boolean | undefined;
  readonly metadata: Record<string, unknown> | undefined;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.param = options.param ?? null;
    this.retryAfterS = options.retryAfterS;
    this.shouldRetry = options.shouldRetry;
    this.metadata = options.metadata;
  }
}

/** The message of anything thrown, for logs and causes; never for strangers. */
export function describeError(error: unknown): string {
  if (error instanceof Error) {
    const cause = error.cause === undefined ? '' : ` (${describeError(error.cause)})`;
    return `${error.message}${cause}`;
  }
  return String(error);
}
