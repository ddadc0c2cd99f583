import type { Context } from 'hono';

/** Where a reply goes: Node's raw response, or a web stream on workerd and in `app.request` tests. */
export interface ReplySink {
  /** Aborts when the client has gone before the end. */
  readonly signal: AbortSignal;
  /** Whether the status line has been sent: after that a failure can only be told within the body. */
  readonly started: boolean;
  head(status: number, headers: Readonly<Record<string, string>>): void;
  /** False when the client reads slower than we write: wait for `drained` before sending much more. */
  write(text: string): boolean;
  drained(): Promise<void>;
  end(text?: string): void;
}

/** One request and its reply. */
export interface Exchange {
  readonly sink: ReplySink;
  /** The whole body as text. Throws AppError `request_too_large` or `client_closed`. */
  readBody(bytesMax: number): Promise<string>;
  /** What the handler returns to Hono. */
  response(): Response | Promise<Response>;
}

export type Transport = (context: Context) => Exchange;
