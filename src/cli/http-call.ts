import { request, type IncomingMessage } from 'node:http';
import { request as secureRequest } from 'node:https';
import { createInterface } from 'node:readline';

export interface HttpCall {
  readonly method: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | undefined;
  readonly signal: AbortSignal;
}

export interface HttpReply {
  readonly status: number;
  readonly text: string;
}

const REPLY_BYTES_MAX = 64_000_000;

/**
 * One exchange on a connection of its own. Not `fetch`, which refuses a list of ports that a gateway may well have (6000,
 * 10080). Follows no redirect: the operator's key is meant for one address.
 */
export async function sendHttp(url: string, call: HttpCall): Promise<HttpReply> {
  return readWhole(await open(url, call));
}

/** A reply that goes on: its lines as they come. One that is refused is handed over whole. */
export async function* streamHttp(url: string, call: HttpCall): AsyncGenerator<string, HttpReply | null> {
  const response = await open(url, call);
  if (response.statusCode !== 200) return readWhole(response);
  const lines = createInterface({ input: response, crlfDelay: Infinity });
  // A broken connection is the reply's to tell: `readline` would end as if all were said.
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => undefined);
  response.once('error', broken.reject);
  const reader = lines[Symbol.asyncIterator]();
  for (;;) {
    const { done, value } = await Promise.race([reader.next(), broken.promise]);
    if (done) break;
    yield value;
  }
  if (!response.complete) throw new Error('the reply was cut');
  return null;
}

function open(url: string, { method, headers, body, signal }: HttpCall): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const send = url.startsWith('https:') ? secureRequest : request;
    const outgoing = send(url, { method, headers: { ...headers }, agent: false, signal });
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

async function readWhole(response: IncomingMessage): Promise<HttpReply> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of response) {
    const bytes = part as Buffer;
    length += bytes.length;
    if (length > REPLY_BYTES_MAX) throw new Error('the reply is too large');
    parts.push(bytes);
  }
  return { status: response.statusCode ?? 0, text: Buffer.concat(parts).toString('utf8') };
}
