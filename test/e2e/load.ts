import { request as httpRequest, type IncomingMessage } from 'node:http';
import { systemClock } from '../../src/clock.ts';

/** What the client of one answer knows of it when the connection has ended, in whatever way. */
export interface Told {
  /** Of the first chunk, or of the whole answer. */
  readonly id: string | null;
  /** Nano-USD in `usage.cost` of an answer that came to its end; null for one that did not. */
  readonly acknowledged: bigint | null;
  /** Tokens of text that arrived. */
  readonly tokens: number;
  readonly status: number;
}

export interface LoadOptions {
  /** Where the gateway is now; null while there is none. */
  readonly url: () => string | null;
  readonly key: string;
  readonly model: string;
  readonly clients: number;
  /** The body's fields for the answer with this number of this client. */
  readonly fieldsOf: (client: number, count: number) => Record<string, unknown>;
}

/** Clients that ask one question after another, across deaths of the gateway, until they are told to stop. */
export function startLoad(options: LoadOptions): { readonly told: readonly Told[]; stop(): Promise<void> } {
  const told: Told[] = [];
  let going = true;
  const client = async (number: number): Promise<void> => {
    for (let count = 0; going; count += 1) {
      const url = options.url();
      if (url === null) await systemClock.sleep(20);
      else {
        const fields = { model: options.model, ...options.fieldsOf(number, count) };
        const heard = await ask(url, options.key, fields);
        told.push(heard);
        if (heard.status === 0 || heard.status === 503) await systemClock.sleep(20);
      }
    }
  };
  const clients = Array.from({ length: options.clients }, (_, number) => client(number));
  return {
    told,
    stop: async () => {
      going = false;
      await Promise.all(clients);
    },
  };
}

/** Over `node:http`, whose data events come before the error: what was received counts, whatever came after it. */
function ask(url: string, key: string, fields: Record<string, unknown>): Promise<Told> {
  return new Promise((resolve) => {
    let text = '';
    let status = 0;
    const end = (): void => resolve(describe(text, status, fields['stream'] === true));
    const request = httpRequest(`${url}/v1/chat/completions`, {
      method: 'POST',
      agent: false,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    });
    request.on('response', (response: IncomingMessage) => {
      status = response.statusCode ?? 0;
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('error', () => undefined).on('close', end);
    });
    request.on('error', end);
    request.end(JSON.stringify({ messages: [{ role: 'user', content: 'Count.' }], ...fields }));
  });
}

interface Said {
  readonly id?: string;
  readonly choices?: readonly { readonly delta?: { readonly content?: string } }[];
  readonly usage?: { readonly cost: number; readonly completion_tokens: number } | null;
}

function describe(text: string, status: number, stream: boolean): Told {
  const payloads = stream ? eventsOf(text) : [text];
  const said = payloads.map(parse);
  const id = said.find((one) => one?.id !== undefined)?.id ?? null;
  const usage = said.findLast((one) => one?.usage)?.usage;
  const whole =
    status === 200 && usage !== undefined && usage !== null && (!stream || text.endsWith('data: [DONE]\n\n'));
  const streamed = said.filter((one) => (one?.choices?.[0]?.delta?.content ?? '') !== '').length;
  return {
    id,
    status,
    acknowledged: whole ? BigInt(Math.round(usage.cost * 1e9)) : null,
    tokens: stream ? streamed : (usage?.completion_tokens ?? 0),
  };
}

function eventsOf(text: string): string[] {
  const blocks = text.split('\n\n').slice(0, -1);
  return blocks.filter((block) => block.startsWith('data: {')).map((block) => block.slice('data: '.length));
}

function parse(text: string): Said | null {
  try {
    return JSON.parse(text) as Said;
  } catch {
    return null;
  }
}
