import { AppError } from '../errors.ts';
import type { EarlierRequest } from '../ledger/operations.ts';
import type { Pool } from '../scheduler/pool/pools.ts';
import type { PoolRouter } from '../scheduler/pool/router.ts';
import type { PoolKind, PoolSpec } from '../spec.ts';
import type { Needs } from '../spec/trust.ts';
import type { EpochMs, Ms, NanoUsd, Tokens } from '../units.ts';
import { requireModel, type Caller } from './auth.ts';
import { BodyShare } from './body-room.ts';
import type { Call } from './call.ts';
import { admit, identify } from './caller.ts';
import type { AppDeps } from './deps.ts';
import { IdempotencyKey } from './idempotency.ts';
import { repeatedKey, topLevelMembers, type Member } from './json-splice.ts';
import type { Admission } from './limits.ts';
import { needsOf } from './needs.ts';
import { offeredFee } from './wake-fee.ts';

/** What every request for a model goes through, whatever it asks of it. */

/** A hold outlives its request's own limits by so much: nobody else may settle what is still running. */
export const HOLD_SLACK_MS = 60_000;
/** Text has three to five letters a token: with eight, the count stays below the true one. */
export const LETTERS_PER_TOKEN = 8;

export interface WorkParts {
  readonly call: Call;
  readonly deps: AppDeps;
  readonly caller: Caller;
  readonly admission: Admission;
  readonly share: BodyShare;
}

export interface Work {
  run(): Promise<void>;
  tokensUsed(): Tokens;
}

/** A request to its very end; `prepare` reads it and reserves its money. Rejects only before the reply has begun. */
export async function serve(call: Call, deps: AppDeps, prepare: (parts: WorkParts) => Promise<Work>): Promise<void> {
  const caller = identify(call, deps);
  const admission = admit(deps, caller);
  call.rateHeaders = () => admission.headers;
  // Of a request's whole life: what is sent to model servers, again after a failure too, is its body.
  const share = new BodyShare(deps.bodyRoom, caller.meter);
  let tokensUsed: Tokens = 0;
  try {
    const work = await prepare({ call, deps, caller, admission, share });
    try {
      await work.run();
    } finally {
      tokensUsed = work.tokensUsed();
    }
    // So long it is one of the requests that its key may have at a time: replies that nobody reads would fill our memory.
    await call.exchange.sink.sent();
  } finally {
    share.give();
    admission.end(tokensUsed);
  }
}

export interface ReadRequest {
  readonly createdMs: EpochMs;
  readonly key: IdempotencyKey | null;
  readonly text: string;
  readonly bytes: number;
}

export async function readRequest({ call, deps, caller, share }: WorkParts, route: string): Promise<ReadRequest> {
  const createdMs = deps.clock.now();
  const scope = { account: caller.customer, route };
  const key = IdempotencyKey.read(call.header('idempotency-key'), scope, deps);
  const body = await call.exchange.readBody(deps.limits.bodyBytes, share);
  // The key may have been revoked while its body came in.
  deps.keys.authenticate(call.header('authorization'), deps.clock.now());
  return { createdMs, key, ...body };
}

const MAKES: Record<PoolKind, string> = {
  chat: 'answers chats: ask it at /v1/chat/completions',
  embeddings: 'makes embeddings: ask it at /v1/embeddings',
};

/** @throws AppError `permission_denied`, `model_not_found`, or `invalid_request` for a model that does something else */
export function poolOf({ caller, deps }: WorkParts, model: string, kind: PoolKind): Pool {
  requireModel(caller, model);
  const pool = deps.pools.get(model);
  if (!pool) throw new AppError('model_not_found', `there is no model ${model}`, { param: 'model' });
  const { spec } = pool.router;
  if (spec.kind === kind) return pool;
  throw new AppError('invalid_request', `${model} ${MAKES[spec.kind]}`, { param: 'model' });
}

/** What this request's machine has to be. @throws AppError as `needsOf` does */
export function needsOfRequest({ call, caller, deps }: WorkParts, spec: PoolSpec): Needs | undefined {
  return needsOf({ header: (name) => call.header(name), settings: caller.settings, spec, reach: deps.reach });
}

/** What this request pays to have its pool woken. @throws AppError as `offeredFee` does */
export function wakeFeeOfRequest({ call, caller }: WorkParts, router: PoolRouter, needs: Needs | undefined): NanoUsd {
  return offeredFee({ header: (name) => call.header(name), settings: caller.settings, router, needs });
}

/** The kept reply of the request that had this Idempotency-Key before. */
export async function replayOf(
  { call, admission }: WorkParts,
  key: IdempotencyKey | null,
  earlier: EarlierRequest,
): Promise<Work> {
  if (!key) throw new Error('a request without an Idempotency-Key was taken for a repeat');
  const { headers: own, body } = await key.replay(earlier);
  const headers = { ...replyHeaders({ call, admission }), ...own };
  return { run: async () => call.exchange.sink.whole(200, headers, body), tokensUsed: () => 0 };
}

/** Of every reply. */
export function replyHeaders({ call, admission }: Pick<WorkParts, 'call' | 'admission'>): Record<string, string> {
  return { ...admission.headers, 'x-request-id': call.requestId };
}

/** Seconds in `x-underbid-max-wait`, at most the pool's; 0 takes only a machine that is free now. */
export function waitOf(call: Call, spec: PoolSpec): Ms {
  const header = call.header('x-underbid-max-wait');
  const { maxWaitMs } = spec.limits;
  if (header === undefined) return maxWaitMs;
  const seconds = Number(header);
  if (header.trim() === '' || !Number.isFinite(seconds) || seconds < 0) {
    throw new AppError('invalid_request', 'x-underbid-max-wait is a number of seconds', {
      param: 'x-underbid-max-wait',
    });
  }
  return Math.min(maxWaitMs, Math.round(seconds * 1000));
}

/** @throws AppError `invalid_request` for a key that stands there twice */
export function membersOf(text: string): readonly Member[] {
  const members = topLevelMembers(text);
  const twice = repeatedKey(members)?.slice(0, 64);
  if (twice !== undefined) throw new AppError('invalid_request', `${twice}: is given twice`, { param: twice });
  return members;
}
