import { AppError } from '../errors.ts';
import type { Pool } from '../scheduler/pool/pools.ts';
import type { PoolSpec } from '../spec.ts';
import type { Ms, Tokens } from '../units.ts';
import { Reservation } from './admission.ts';
import { BodyShare } from './body-room.ts';
import type { Call } from './call.ts';
import type { AppDeps } from './deps.ts';
import { requireModel, type Caller } from './auth.ts';
import { admit, identify } from './caller.ts';
import { MANAGED, managedFields, refuseFields } from './dialect.ts';
import { IdempotencyKey } from './idempotency.ts';
import { imagesOf } from './images.ts';
import { repeatedKey, spliceObject, topLevelMembers, type Member } from './json-splice.ts';
import type { Continuation } from './leg.ts';
import type { Admission } from './limits.ts';
import { parseChat, type ChatRequest } from './openai.ts';
import { Relay } from './relay.ts';
import { continuedBody, isResumable } from './resumption.ts';
import { promptBody } from './tokenizer.ts';

export const CHAT_PATH = '/v1/chat/completions';
/** A hold outlives its request's own limits by so much: nobody else may settle what is still running. */
const HOLD_SLACK_MS = 60_000;

/** POST /v1/chat/completions, to its very end; rejects only before the reply has begun. */
export async function runChat(call: Call, deps: AppDeps): Promise<void> {
  const caller = identify(call, deps);
  const admission = admit(deps, caller);
  call.rateHeaders = () => admission.headers;
  // Of a request's whole life: what is sent to model servers, again after a failure too, is its body.
  const share = new BodyShare(deps.bodyRoom);
  let tokensUsed: Tokens = 0;
  try {
    const work = await prepareChat({ call, deps, caller, admission, share });
    try {
      await work.run();
    } finally {
      tokensUsed = work.tokensUsed();
    }
  } finally {
    share.give();
    admission.end(tokensUsed);
  }
}

interface ChatParts {
  readonly call: Call;
  readonly deps: AppDeps;
  readonly caller: Caller;
  readonly admission: Admission;
  readonly share: BodyShare;
}

interface Work {
  run(): Promise<void>;
  tokensUsed(): Tokens;
}

/** Reads and checks the request, reserves its tokens and its money. */
async function prepareChat(parts: ChatParts): Promise<Work> {
  const { call, deps, caller, admission, share } = parts;
  const { exchange } = call;
  const { clock, ledger, limits } = deps;
  const createdMs = clock.now();
  const scope = { account: caller.customer, route: CHAT_PATH };
  const key = IdempotencyKey.read(call.header('idempotency-key'), scope, deps);
  const { text, bytes } = await exchange.readBody(limits.bodyBytes, share);
  // The key may have been revoked while its body came in.
  deps.keys.authenticate(call.header('authorization'), clock.now());
  const request = parseChat(text);
  refuseFields(request);
  requireModel(caller, request.model);
  const pool = deps.pools.get(request.model);
  if (!pool) throw new AppError('model_not_found', `there is no model ${request.model}`, { param: 'model' });
  const { spec } = pool.router;
  const members = membersOf(text);
  const sizes = boundTokens(request, spec, bytes);
  const maxWaitMs = waitOf(call.header('x-underbid-max-wait'), spec);
  admission.reserve(sizes.inputBound + sizes.held, clock.now());
  const id = deps.newId('chatcmpl-');
  const least = leastTokens(request);
  const reservation = await Reservation.open(ledger, clock, {
    request: id,
    caller,
    model: spec.id,
    price: spec.price,
    priceVersion: pool.priceVersion,
    inputBound: sizes.inputBound,
    inputLeast: Math.min(sizes.inputBound, least),
    outputTokens: sizes.held,
    mayShorten: sizes.mayShorten,
    deadlineMs: createdMs + maxWaitMs + spec.limits.totalMs + HOLD_SLACK_MS,
    countPrompt: () => tokensOfPrompt(deps, pool, members),
    idempotency: key ? await key.claim(text) : null,
  });
  const headers = { ...admission.headers, 'x-request-id': call.requestId };
  if (!(reservation instanceof Reservation)) {
    if (!key) throw new Error('a request without an Idempotency-Key was taken for a repeat');
    const { headers: own, body } = await key.replay(reservation);
    const run = (): Promise<void> => {
      exchange.sink.whole(200, { ...headers, ...own }, body);
      return exchange.sink.sent();
    };
    return { run, tokensUsed: () => 0 };
  }
  const stream = request.stream === true;
  const streamUpstream = stream || sizes.outputMax > spec.sliceTokens || reservation.outputTokens < sizes.held;
  const relay = new Relay(deps, {
    id,
    headers,
    createdMs,
    model: spec.id,
    router: pool.router,
    account: caller.customer,
    path: CHAT_PATH,
    stream,
    includeUsage: request.stream_options?.include_usage === true,
    streamUpstream,
    choices: sizes.choices,
    inputBound: reservation.inputBound,
    inputLeast: Math.min(reservation.inputBound, least),
    outputMax: sizes.outputMax,
    maxWaitMs,
    bodyOf: upstreamBodies(members, request, pool, { ...sizes, stream: streamUpstream }),
    resumable: isResumable(request, spec),
    reservation,
    keep: key?.keeper(id, reservation) ?? null,
    sink: exchange.sink,
  });
  return { run: () => relay.run(), tokensUsed: () => reservation.tokensUsed };
}

/** By the tokenizer of a replica that is there; a cold pool has none to ask. */
function tokensOfPrompt(deps: AppDeps, { router }: Pool, members: readonly Member[]): Promise<Tokens | null> {
  const { anyTarget: target, spec } = router;
  if (target === null) return Promise.resolve(null);
  return deps.promptCounter.count(target, spec, promptBody(members, spec.model));
}

interface Sizes {
  readonly choices: number;
  readonly inputBound: Tokens;
  /** Per choice. */
  readonly outputMax: Tokens;
  /** Over all choices, at first. */
  readonly held: Tokens;
  readonly mayShorten: boolean;
}

/**
 * What a request can come to. A token is at least a byte, and the template adds a known number, so the prompt is at most
 * the body's bytes and that number; where a template may write more than it reads (tools, schemas), the whole context.
 * @throws AppError `invalid_request`
 */
export function boundTokens(request: ChatRequest, spec: PoolSpec, bodyBytes: number): Sizes {
  const choices = request.n ?? 1;
  if (choices > spec.nMax)
    throw new AppError('invalid_request', `n: is at most ${spec.nMax} for this model`, { param: 'n' });
  const images = imagesOf(request, spec);
  const rendersMore = request.tools?.length || request['functions'] !== undefined || request.response_format;
  const textBytes = bodyBytes - images.bytes + images.count * spec.imageTokensMax;
  const bytesBound = rendersMore ? spec.contextTokens : textBytes + spec.templateTokens;
  const inputBound = Math.min(spec.contextTokens, bytesBound);
  const asked = request.max_completion_tokens ?? request.max_tokens ?? null;
  const outputMax = Math.min(asked ?? spec.contextTokens, spec.contextTokens);
  const held = choices * (asked === null ? Math.min(outputMax, spec.sliceTokens) : outputMax);
  return { choices, inputBound, outputMax, held, mayShorten: asked === null };
}

/** Text has three to five letters a token: with eight, the count stays below the true one. */
const LETTERS_PER_TOKEN = 8;

/** What the texts of a request come to at least. */
function leastTokens({ messages }: ChatRequest): Tokens {
  let letters = 0;
  for (const { content } of messages) {
    if (typeof content === 'string') letters += content.length;
    else if (content) for (const part of content) letters += typeof part['text'] === 'string' ? part['text'].length : 0;
  }
  return Math.floor(letters / LETTERS_PER_TOKEN);
}

/** Seconds in `x-underbid-max-wait`, at most the pool's; 0 takes only a machine that is free now. */
function waitOf(header: string | undefined, spec: PoolSpec): Ms {
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

const SEED: ReadonlySet<string> = new Set(['seed']);

/** @throws AppError `invalid_request` for a key that stands there twice */
function membersOf(text: string): readonly Member[] {
  const members = topLevelMembers(text);
  const twice = repeatedKey(members)?.slice(0, 64);
  if (twice !== undefined) throw new AppError('invalid_request', `${twice}: is given twice`, { param: twice });
  return members;
}

/** What each choice's model server is sent: the same but for the seed, or all choices would be one and the same answer. */
function upstreamBodies(
  members: readonly Member[],
  request: ChatRequest,
  { router: { spec } }: Pool,
  sizes: { readonly outputMax: Tokens; readonly mayShorten: boolean; readonly stream: boolean },
): (choice: number, from: Continuation | null) => string {
  const { outputMax, mayShorten, stream } = sizes;
  const options = { model: spec.model, maxTokens: outputMax, asked: !mayShorten, stream };
  const body = spliceObject(members, MANAGED, managedFields(spec.engine, options));
  return (choice, from) => {
    if (from !== null) return continuedBody(body, from, spec);
    if (choice === 0 || typeof request.seed !== 'number') return body;
    const seed = topLevelMembers(body).findLast(({ key }) => key === 'seed')?.value ?? '';
    if (!/^-?\d{1,19}$/.test(seed)) return body;
    return spliceObject(body, SEED, { seed: String(BigInt.asIntN(64, BigInt(seed) + BigInt(choice))) });
  };
}
