import type { Context } from 'hono';
import { AppError } from '../errors.ts';
import type { AppDeps, AppEnv } from './deps.ts';
import { errorHeaders } from './openai.ts';
import type { Exchange } from './transport.ts';

/** One request of an app, through whatever server it came. */
export interface Call {
  readonly requestId: string;
  readonly exchange: Exchange;
  header(name: string): string | undefined;
  /** `x-ratelimit-*` of its reply, as they stand when it is made; set as soon as the caller is known. */
  rateHeaders: (() => Readonly<Record<string, string>>) | undefined;
}

/** The same through Hono. */
export class HonoCall implements Call {
  readonly exchange: Exchange;
  readonly #context: Context<AppEnv>;

  constructor(context: Context<AppEnv>, deps: AppDeps) {
    this.#context = context;
    this.exchange = deps.transport(context as unknown as Context);
  }

  get requestId(): string {
    return this.#context.get('requestId');
  }

  get rateHeaders(): Call['rateHeaders'] {
    return this.#context.get('rateHeaders');
  }

  set rateHeaders(headers: Call['rateHeaders']) {
    this.#context.set('rateHeaders', headers);
  }

  header(name: string): string | undefined {
    return this.#context.req.header(name);
  }
}

export interface GateOptions {
  /** Why requests cannot be taken now, or null. */
  readonly notReady: () => string | null;
  readonly limits: { readonly requestsMax: number };
}

/** Counts the requests at work, over every way in. */
export class Gate {
  readonly #deps: GateOptions;
  #inFlight = 0;

  constructor(deps: GateOptions) {
    this.#deps = deps;
  }

  /** @throws AppError `no_capacity` while no requests are taken, `queue_full`; nothing is counted then */
  enter(): void {
    const why = this.#deps.notReady();
    if (why !== null) throw new AppError('no_capacity', why, { retryAfterS: 5 });
    if (this.#inFlight >= this.#deps.limits.requestsMax)
      throw new AppError('queue_full', 'too many requests at once', { retryAfterS: 1 });
    this.#inFlight += 1;
  }

  leave(): void {
    this.#inFlight -= 1;
  }
}

/** Bodies that we stop reading: the connection cannot be used again. */
const CUT: ReadonlySet<string> = new Set(['request_too_large', 'client_closed']);

/** Headers of an error's reply. */
export function failureHeaders(error: AppError, requestId: string): Record<string, string> {
  const headers = { ...errorHeaders(error), 'x-request-id': requestId };
  return CUT.has(error.code) ? { ...headers, connection: 'close' } : headers;
}
