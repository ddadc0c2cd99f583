import { z } from 'zod';
import { describeError } from '../../errors.ts';
import {
  offerReplySchema,
  tasksReplySchema,
  type BidMessage,
  type DisputeAnswerMessage,
  type OfferMessage,
  type OfferReply,
  type ReportMessage,
  type TasksReply,
} from '../../spec/provider-wire.ts';
import type { Ms } from '../../units.ts';

export interface MarketCall {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  /** Below the market's address: `/provider/v1/offer`. */
  readonly path: string;
  readonly body?: unknown;
  readonly timeoutMs: Ms;
  readonly signal: AbortSignal;
}

/** One exchange with the market, our key in it; rejects when there was none. `body` is undefined when it is no JSON. */
export type CallMarket = (call: MarketCall) => Promise<{ readonly status: number; readonly body: unknown }>;

/** An exchange that did not go well. */
export class MarketFailure extends Error {
  /** Null: no answer came. */
  readonly status: number | null;
  /** What answered speaks another language than ours. */
  readonly foreign: boolean;

  constructor(message: string, status: number | null, foreign = false) {
    super(message);
    this.status = status;
    this.foreign = foreign;
  }
}

const CALL_MS = 10_000;
/** Nobody waits long for a goodbye. */
const LEAVE_MS = 3_000;
/** On top of the time that a question may wait. */
const SLACK_MS = 8_000;
const errorSchema = z.object({ error: z.object({ message: z.string() }) });

/** The market's routes for one session of a provider. Every call rejects with a MarketFailure. */
export class MarketConnection {
  readonly #call: CallMarket;
  readonly #session: string;

  constructor({ call, session }: { readonly call: CallMarket; readonly session: string }) {
    this.#call = call;
    this.#session = session;
  }

  offer(offer: Omit<OfferMessage, 'session'>, signal: AbortSignal): Promise<OfferReply> {
    const body = { session: this.#session, ...offer };
    return this.#ask({ method: 'PUT', path: '/provider/v1/offer', body, signal }, offerReplySchema);
  }

  tasks(
    { after, waitS }: { readonly after: number; readonly waitS: number },
    signal: AbortSignal,
  ): Promise<TasksReply> {
    const path = `/provider/v1/tasks?session=${this.#session}&after=${after}&wait_s=${waitS}`;
    return this.#ask({ method: 'GET', path, signal, timeoutMs: waitS * 1000 + SLACK_MS }, tasksReplySchema);
  }

  async bid(bid: Omit<BidMessage, 'session'>, signal: AbortSignal): Promise<void> {
    const body = { session: this.#session, ...bid };
    await this.#ask({ method: 'POST', path: '/provider/v1/bids', body, signal }, z.unknown());
  }

  async report(lease: string, report: Omit<ReportMessage, 'session'>, signal = new AbortController().signal) {
    const path = `/provider/v1/leases/${encodeURIComponent(lease)}`;
    await this.#ask({ method: 'POST', path, body: { session: this.#session, ...report }, signal }, z.unknown());
  }

  async answerDispute(id: string, answer: DisputeAnswerMessage, signal = new AbortController().signal): Promise<void> {
    const path = `/provider/v1/disputes/${encodeURIComponent(id)}`;
    await this.#ask({ method: 'POST', path, body: answer, signal }, z.unknown());
  }

  async leave(): Promise<void> {
    const { signal } = new AbortController();
    const path = `/provider/v1/offer?session=${this.#session}`;
    await this.#ask({ method: 'DELETE', path, signal, timeoutMs: LEAVE_MS }, z.unknown());
  }

  async #ask<T>(call: Omit<MarketCall, 'timeoutMs'> & { timeoutMs?: Ms }, schema: z.ZodType<T>): Promise<T> {
    let reply;
    try {
      reply = await this.#call({ timeoutMs: CALL_MS, ...call });
    } catch (error) {
      throw new MarketFailure(describeError(error), null);
    }
    const { status, body } = reply;
    if (status < 200 || status > 299) {
      const said = errorSchema.safeParse(body);
      if (said.success) throw new MarketFailure(`${said.data.error.message} (${status})`, status);
      // Proxies say 5xx while the market is away.
      throw new MarketFailure(`what answers there is no market that takes providers (${status})`, status, status < 500);
    }
    const parsed = schema.safeParse(body);
    if (!parsed.success) throw new MarketFailure('what answers there is no market that takes providers', status, true);
    return parsed.data;
  }
}
