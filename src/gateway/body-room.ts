import { AppError } from '../errors.ts';

/** What one key has. */
interface Owner {
  bytes: number;
}

/** Owners of nothing that are kept: requests of one key come one after the other. */
const IDLE_MAX = 1000;

/**
 * Memory for the bodies of all requests that are read or at work: each alone is bounded, but thousands of the largest at once
 * would be more than any machine has. One key has a part of it at most, so that it cannot shut the others out.
 */
export class BodyRoom {
  readonly #bytesMax: number;
  readonly #ownerMax: number;
  readonly #owners = new Map<string, Owner>();
  #taken = 0;

  constructor(bytesMax: number, ownerMax = bytesMax) {
    this.#bytesMax = bytesMax;
    this.#ownerMax = ownerMax;
  }

  get taken(): number {
    return this.#taken;
  }

  /** @throws AppError `queue_full`; nothing is taken then */
  take(name: string, bytes: number): void {
    const owner = this.#owners.get(name) ?? { bytes: 0 };
    if (owner.bytes + bytes > this.#ownerMax || this.#taken + bytes > this.#bytesMax)
      throw new AppError('queue_full', 'too many large requests at once', { retryAfterS: 1 });
    if (owner.bytes === 0) this.#owners.set(name, owner);
    owner.bytes += bytes;
    this.#taken += bytes;
  }

  give(name: string, bytes: number): void {
    const owner = this.#owners.get(name);
    if (!owner) return;
    this.#taken -= bytes;
    owner.bytes -= bytes;
    if (owner.bytes === 0 && this.#owners.size > IDLE_MAX) this.#owners.delete(name);
  }
}

/** What one request has taken of it; given back once, whatever became of it. */
export class BodyShare {
  readonly #room: BodyRoom;
  readonly #owner: string;
  #bytes = 0;

  constructor(room: BodyRoom, owner: string) {
    this.#room = room;
    this.#owner = owner;
  }

  /** @throws AppError `queue_full` */
  take(bytes: number): void {
    this.#room.take(this.#owner, bytes);
    this.#bytes += bytes;
  }

  give(): void {
    this.#room.give(this.#owner, this.#bytes);
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
