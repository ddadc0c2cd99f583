import type { Context } from 'hono';
import type { BodyShare } from './body-room.ts';

type Headers = Readonly<Record<string, string>>;

/** Where a reply goes: Node's raw response, or a web stream on workerd and in `app.request` tests. */
export interface ReplySink {
  /** The client left before the end. */
  readonly gone: boolean;
  /** Called once when that happens; one listener, no event machinery: this is on every request's path. */
  onGone(listener: () => void): void;
  /** Whether the status line has been sent: after that a failure can only be told within the body. */
  readonly started: boolean;
  head(status: number, headers: Readonly<Record<string, string>>): void;
  /** A reply in one piece, with its length. */
  whole(status: number, headers: Headers, body: string, more?: Headers): void;
  /** False when the client reads slower than we write: wait for `drained` before sending much more. */
  write(text: string): boolean;
  drained(): Promise<void>;
  end(text?: string): void;
  /** Resolves when an ended reply is no longer in our memory: the network has it, or the client has gone. */
  sent(): Promise<void>;
  /** Breaks the reply off: for a client that has left or reads no more. */
  cut(): void;
}

/** A reply in one piece, without what every reply carries. */
export interface WholeReply {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface RequestBody {
  readonly text: string;
  readonly bytes: number;
}

/** One request and its reply. */
export interface Exchange {
  readonly sink: ReplySink;
  /**
   * The whole body as text, and its size; its bytes are taken from the share as they come.
   * @throws AppError `request_too_large`, `queue_full`, `invalid_request` or `client_closed`
   */
  readBody(bytesMax: number, share: BodyShare): Promise<RequestBody>;
  /**
   * What the handler returns to Hono: on Node when `run` is over, on the web as soon as the reply has begun, since the
   * client reads it from there. Rejects with `run` before that.
   */
  respond(run: Promise<void>): Promise<Response>;
}

export type Transport = (context: Context) => Exchange;
