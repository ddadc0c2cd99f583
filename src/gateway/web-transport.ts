import type { Context } from 'hono';
import { AppError } from '../errors.ts';
import { notUtf8, refuseEncoding, type BodyShare } from './body-room.ts';
import type { Exchange, ReplySink, RequestBody } from './transport.ts';

/** Replies over a web stream: workerd, and tests that call the app without a socket. */
export function webTransport(context: Context): Exchange {
  const sink = new WebSink(context.req.raw.signal);
  return {
    sink,
    readBody: (bytesMax, share) => readBody(context.req.raw, bytesMax, share),
    respond: (run) => Promise.race([sink.response, run.then(() => sink.response)]),
  };
}

class WebSink implements ReplySink {
  readonly response: Promise<Response>;
  #gone = false;
  #listener: (() => void) | null = null;
  readonly #encoder = new TextEncoder();
  readonly #stream: ReadableStream<Uint8Array>;
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #resolve: (response: Response) => void = () => undefined;
  #pulled: () => void = () => undefined;
  #started = false;

  constructor(client: AbortSignal | undefined) {
    this.response = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    const gone = (): void => {
      if (this.#gone) return;
      this.#gone = true;
      this.#pulled();
      this.#listener?.();
    };
    this.#stream = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.#pulled(),
        cancel: gone,
      },
      { highWaterMark: 64 },
    );
    if (client?.aborted) gone();
    else client?.addEventListener('abort', gone, { once: true });
  }

  get gone(): boolean {
    return this.#gone;
  }

  onGone(listener: () => void): void {
    this.#listener = listener;
  }

  get started(): boolean {
    return this.#started;
  }

  head(status: number, headers: Readonly<Record<string, string>>): void {
    this.#started = true;
    this.#resolve(new Response(this.#stream, { status, headers }));
  }

  whole(status: number, headers: Readonly<Record<string, string>>, body: string, more = {}): void {
    this.#started = true;
    this.#resolve(new Response(body, { status, headers: { ...headers, ...more } }));
  }

  write(text: string): boolean {
    if (this.#gone) return true;
    this.#controller?.enqueue(this.#encoder.encode(text));
    return (this.#controller?.desiredSize ?? 1) > 0;
  }

  drained(): Promise<void> {
    if ((this.#controller?.desiredSize ?? 1) > 0 || this.#gone) return Promise.resolve();
    return new Promise((resolve) => {
      this.#pulled = resolve;
    });
  }

  end(text?: string): void {
    if (this.#gone) return;
    if (text !== undefined) this.write(text);
    this.#controller?.close();
  }

  /** The platform has it from here. */
  sent(): Promise<void> {
    return Promise.resolve();
  }

  cut(): void {
    // 499 is nginx's: the client that would read it has gone.
    if (!this.#started) this.#resolve(new Response(null, { status: 499 }));
    else if (!this.#gone) this.#controller?.error(new AppError('client_closed', 'the client has gone'));
    this.#gone = true;
  }
}

async function readBody(request: Request, bytesMax: number, share: BodyShare): Promise<RequestBody> {
  refuseEncoding(request.headers.get('content-encoding'));
  const reader = request.body?.getReader();
  if (!reader) return { text: '', bytes: 0 };
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let text = '';
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { text: text + decoder.decode(), bytes: size };
      size += value.length;
      if (size > bytesMax) throw new AppError('request_too_large', `the request body is larger than ${bytesMax} bytes`);
      share.take(value.length);
      text += decoder.decode(value, { stream: true });
    }
  } catch (error) {
    await reader.cancel().catch(() => undefined);
    throw error instanceof TypeError ? notUtf8() : error;
  }
}
