import type { IncomingMessage, ServerResponse } from 'node:http';
import { describeError } from '../errors.ts';
import { failureHeaders, type Call, type Gate } from './call.ts';
import { CHAT_PATH, runChat } from './chat.ts';
import type { AppDeps } from './deps.ts';
import { nodeExchange } from './node-transport.ts';
import { errorBody, errorStatus, toAppError } from './openai.ts';
import type { Exchange } from './transport.ts';

/**
 * The busiest route without a framework in between: Hono and its request object took a tenth of what a chat costs here. The
 * same handler, the same gate and the same errors as over the app, which serves everything else.
 * Returns whether the request was taken.
 */
export function createDirectChat(
  deps: AppDeps,
  gate: Gate,
): (incoming: IncomingMessage, outgoing: ServerResponse) => boolean {
  return (incoming, outgoing) => {
    if (incoming.url !== CHAT_PATH || incoming.method !== 'POST') return false;
    void serve(new DirectCall(incoming, outgoing, deps.newId('req-')), deps, gate);
    return true;
  };
}

class DirectCall implements Call {
  readonly requestId: string;
  readonly exchange: Exchange;
  readonly #incoming: IncomingMessage;
  rateHeaders: Call['rateHeaders'] = undefined;

  constructor(incoming: IncomingMessage, outgoing: ServerResponse, requestId: string) {
    this.#incoming = incoming;
    this.exchange = nodeExchange(incoming, outgoing);
    this.requestId = requestId;
  }

  header(name: string): string | undefined {
    const value = this.#incoming.headers[name];
    return Array.isArray(value) ? value.join(', ') : value;
  }
}

/** Never rejects: whatever happened, there is a reply or a connection that was cut. */
async function serve(call: DirectCall, deps: AppDeps, gate: Gate): Promise<void> {
  let counted = false;
  try {
    gate.enter();
    counted = true;
    await runChat(call, deps);
  } catch (error) {
    const failure = toAppError(error);
    if (failure.code === 'internal_error') deps.log(`${call.requestId}: ${describeError(failure)}`);
    const { sink } = call.exchange;
    if (sink.started) sink.cut();
    else {
      const headers = { ...call.rateHeaders?.(), ...failureHeaders(failure, call.requestId) };
      sink.whole(errorStatus(failure), headers, errorBody(failure));
    }
  } finally {
    if (counted) gate.leave();
  }
}
