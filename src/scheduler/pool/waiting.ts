import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type { Ms } from '../../units.ts';
import type { Line } from './line.ts';
import type { Replica, Slot, TakeOptions, Waiter } from './slot.ts';

/** What a router lends to those who wait. */
export interface WaitingRoom {
  readonly clock: Clock;
  readonly line: Line<Waiter>;
  /** Everybody in line, the first to come first. */
  readonly since: Set<Waiter>;
  readonly give: (replica: Replica, waitedMs: Ms) => Slot;
  readonly tooLate: () => AppError;
  readonly onLeave: () => void;
}

/** Stands in line until a slot is given, the time is over, or the client has gone. */
export function waitInLine(options: TakeOptions, room: WaitingRoom): Promise<Slot> {
  const { account, maxWaitMs, signal, exclude, needs, wake } = options;
  const { clock, line, since } = room;
  return new Promise((resolve, reject) => {
    const sinceMs = clock.now();
    const leave = (): void => {
      cancelTimer();
      signal.removeEventListener('abort', onAbort);
      since.delete(waiter);
      room.onLeave();
    };
    const waiter: Waiter = {
      ...{ account, sinceMs, untilMs: sinceMs + maxWaitMs, exclude, needs, wake },
      give: (replica) => {
        leave();
        resolve(room.give(replica, clock.now() - sinceMs));
      },
      fail: (error) => {
        leave();
        reject(error);
      },
    };
    const onAbort = (): void => {
      if (line.remove(account, waiter)) waiter.fail(new AppError('client_closed', 'the client has gone'));
    };
    const cancelTimer = clock.timer(maxWaitMs, () => {
      if (line.remove(account, waiter)) waiter.fail(room.tooLate());
    });
    signal.addEventListener('abort', onAbort, { once: true });
    line.push(account, waiter);
    since.add(waiter);
  });
}
