import { request, type IncomingMessage } from 'node:http';
import { request as secureRequest } from 'node:https';

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
export async function sendHttp(url: string, { method, headers, body, signal }: HttpCall): Promise<HttpReply> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const send = url.startsWith('https:') ? secureRequest : request;
    const outgoing = send(url, { method, headers: { ...headers }, agent: false, signal });
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
    outgoing.end(body);
  });
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
