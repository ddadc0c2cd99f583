import { AppError } from '../errors.ts';

/**
 * Memory for the bodies of all requests that are read or at work: each alone is bounded, but thousands of the largest at once
 * would be more than any machine has.
 */
export class BodyRoom {
  readonly #bytesMax: number;
  #taken = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get taken(): number {
    return this.#taken;
  }

  /** @throws AppError `queue_full`; nothing is taken then */
  take(bytes: number): void {
    if (this.#taken + bytes > this.#bytesMax)
      throw new AppError('queue_full', 'too many large requests at once', { retryAfterS: 1 });
    this.#taken += bytes;
  }

  give(bytes: number): void {
    this.#taken -= bytes;
  }
}

/** What one request has taken of it; given back once, whatever became of it. */
export class BodyShare {
  readonly #room: BodyRoom;
  #bytes = 0;

  constructor(room: BodyRoom) {
    this.#room = room;
  }

  /** @throws AppError `queue_full` */
  take(bytes: number): void {
    this.#room.take(bytes);
    this.#bytes += bytes;
  }

  give(): void {
    this.#room.give(this.#bytes);
    this.#bytes = 0;
  }
}

/** @throws AppError `invalid_request` for a body that is packed: it would be read as it is */
export function refuseEncoding(encoding: string | null | undefined): void {
  if (encoding === null || encoding === undefined || encoding === '' || encoding.toLowerCase() === 'identity') return;
  throw new AppError('invalid_request', 'send the body as it is: a Content-Encoding is not understood here');
}

/** A model server would read a character of three bytes for each bad one: more than was counted. */
export function notUtf8(): AppError {
  return new AppError('invalid_request', 'the request body is not valid UTF-8');
}
