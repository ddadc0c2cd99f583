import { AppError } from '../errors.ts';
import { Reservation } from './admission.ts';
import type { Call } from './call.ts';
import type { AppDeps } from './deps.ts';
import { refuseFields } from './dialect.ts';
import { measureInputs, parseEmbeddings, type EmbeddingRequest } from './embedding-input.ts';
import { EmbeddingRelay } from './embedding-relay.ts';
import { spliceObject } from './json-splice.ts';
import {
  HOLD_SLACK_MS,
  membersOf,
  needsOfRequest,
  poolOf,
  readRequest,
  replayOf,
  replyHeaders,
  serve,
  waitOf,
  wakeFeeOfRequest,
  type Work,
  type WorkParts,
} from './serve.ts';

export const EMBEDDINGS_PATH = '/v1/embeddings';

/** POST /v1/embeddings. */
export function runEmbeddings(call: Call, deps: AppDeps): Promise<void> {
  return serve(call, deps, prepareEmbeddings);
}

/** Reads and checks the request, reserves its tokens and its money. */
async function prepareEmbeddings(parts: WorkParts): Promise<Work> {
  const { call, deps, caller, admission } = parts;
  const { clock, ledger } = deps;
  const { createdMs, key, text } = await readRequest(parts, EMBEDDINGS_PATH);
  const request = parseEmbeddings(text);
  refuseOthers(request);
  const { router, priceVersion } = poolOf(parts, request.model, 'embeddings');
  const { spec } = router;
  const needs = needsOfRequest(parts, spec);
  const members = membersOf(text);
  const { count, bound, least } = measureInputs(request.input, spec.contextTokens);
  const maxWaitMs = waitOf(call, spec);
  admission.reserve(bound, clock.now());
  const id = deps.newId('embd-');
  const reservation = await Reservation.open(ledger, clock, {
    request: id,
    caller,
    model: spec.id,
    price: spec.price,
    priceVersion,
    inputBound: bound,
    inputLeast: least,
    outputTokens: 0,
    mayShorten: false,
    wakeFee: wakeFeeOfRequest(parts, router, needs),
    worths: deps.pools.worths,
    deadlineMs: createdMs + maxWaitMs + spec.limits.totalMs + HOLD_SLACK_MS,
    countPrompt: () => Promise.resolve(null),
    idempotency: key ? await key.claim(text) : null,
  });
  if (!(reservation instanceof Reservation)) return replayOf(parts, key, reservation);
  const relay = new EmbeddingRelay(deps, {
    id,
    headers: replyHeaders(parts),
    createdMs,
    model: spec.id,
    router,
    account: caller.customer,
    wish: { request: id, needs },
    path: EMBEDDINGS_PATH,
    count,
    inputBound: bound,
    inputLeast: least,
    maxWaitMs,
    bodyOf: ({ model }) => spliceObject(members, MANAGED, { model: JSON.stringify(model ?? spec.model) }),
    reservation,
    keep: key?.keeper(id, reservation) ?? null,
    sink: call.exchange.sink,
  });
  return { run: () => relay.run(), tokensUsed: () => reservation.tokensUsed };
}

const MANAGED: ReadonlySet<string> = new Set(['model']);
/** What some servers would embed instead of the input or beside it, and what would change the reply's shape. */
const REFUSED: readonly string[] = ['messages', 'content', 'multi_modal_data', 'stream', 'stream_options'];

/** @throws AppError `invalid_request` */
function refuseOthers(request: EmbeddingRequest): void {
  refuseFields(request);
  // A client that says `stream: false` says nothing new.
  const param = REFUSED.find((field) => (request[field] ?? false) !== false);
  if (param !== undefined) throw new AppError('invalid_request', `${param} is not allowed here`, { param });
}
