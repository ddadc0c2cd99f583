import type { AppError } from '../errors.ts';
import type { Outcome } from '../scheduler/pool/slot.ts';
import type { EpochMs } from '../units.ts';
import { AttemptFailure } from './attempt.ts';

/** Attempts in a row that may bring nothing, and attempts of one answer in all. */
const FRUITLESS_MAX = 3;
const ATTEMPTS_MAX = 8;
/** Model servers that may break off while they read one request: a request that kills them is not passed on for ever. */
const KILLED_MAX = 2;

export interface Failed {
  readonly error: AppError;
  /** Something of the answer has reached the client. */
  readonly delivered: boolean;
  /** What was delivered can be continued elsewhere. */
  readonly resumable: boolean;
  /** It brought something before it failed. */
  readonly fruitful: boolean;
  /** There is, or will be, a replica to go on with: another, a new one, or this one once it has answered a probe. */
  readonly hope: boolean;
}

/** The replicas that one choice has tried, and whether it may try again. */
export class Attempts {
  readonly #failed = new Map<string, EpochMs>();
  #count = 0;
  #fruitless = 0;
  #killed = 0;
  #last: AppError | null = null;

  /** Replicas not to be taken, with the time of their failure: one that has answered a probe since is no dead one. */
  get failed(): ReadonlyMap<string, EpochMs> {
    return this.#failed;
  }

  /** What the client is told when no other replica is free in time: the failure, not that. */
  get last(): AppError | null {
    return this.#last;
  }

  /** Takes note of a failure, before `hope` can be known. */
  note(replica: string, error: AppError, nowMs: EpochMs): void {
    if (!(error instanceof AttemptFailure)) return;
    this.#last = error;
    if (error.kind !== 'busy') this.#failed.set(replica, nowMs);
    if (error.kind === 'cut' && !error.answered) this.#killed += 1;
  }

  again({ error, delivered, resumable, fruitful, hope }: Failed): boolean {
    if (!(error instanceof AttemptFailure) || error.kind === 'deadline') return false;
    // Its request asked for so much: another machine would make it all anew, for nothing.
    if (error.kind === 'large') return false;
    this.#count += 1;
    this.#fruitless = fruitful ? 1 : this.#fruitless + 1;
    if (this.#count >= ATTEMPTS_MAX || this.#fruitless >= FRUITLESS_MAX) return false;
    if (delivered && !resumable) return false;
    if (error.kind === 'cut' && this.#killed > KILLED_MAX) return false;
    return hope || error.kind === 'busy' || error.kind === 'lost';
  }
}

/** What a server refuses of an answer that is gone on with is no fault of the client's, whose request was taken before. */
export function notTheClients(error: AppError): AppError {
  const refused = error.code === 'invalid_request' || error.code === 'context_length_exceeded';
  return refused ? new AttemptFailure('refused', { cause: error.message, answered: true }) : error;
}

/** What an attempt's end says of its replica. */
export function outcomeOf(error: AppError, begun: boolean): Outcome {
  if (!(error instanceof AttemptFailure)) return 'cancelled';
  if (error.kind === 'busy') return 'busy';
  // A request can be made that any machine fails on: a probe says whether it is the machine.
  if (error.kind === 'refused' || error.kind === 'large') return 'refused';
  // A long answer that ran into the request's own end is no fault of the machine's.
  return error.kind === 'deadline' && begun ? 'cancelled' : 'failed';
}
