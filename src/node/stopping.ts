import process from 'node:process';
import { systemClock } from '../clock.ts';
import type { Settings } from '../config.ts';
import { AppError } from '../errors.ts';
import type { RunningServer } from './server.ts';

export interface Gateway {
  readonly server: RunningServer;
  readonly settings: Settings;
  readonly log: (line: string) => void;
  /** Turns waiting requests away and refuses new ones. */
  refuse(): void;
  /** Ends everything behind the server. */
  close(): Promise<void>;
}

/** While there is nothing yet to end with care, a signal aborts what is waited for. */
export async function untilSignal<T>(wait: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const early = new AbortController();
  const abort = (): void => early.abort(new AppError('setup_failed', 'stopped while preparing'));
  process.once('SIGINT', abort).once('SIGTERM', abort);
  try {
    return await wait(early.signal);
  } finally {
    process.off('SIGINT', abort).off('SIGTERM', abort);
  }
}

/** The first signal lets answers end, the second ends them; either way money is settled and model servers are gone. */
export function untilStopped(gateway: Gateway): Promise<void> {
  const { server, settings, log } = gateway;
  return new Promise((resolve, reject) => {
    const hurry = new AbortController();
    let stopping = false;
    const stop = (): void => {
      if (stopping) {
        hurry.abort();
        return;
      }
      stopping = true;
      log('stopping: answers in progress may end');
      gateway.refuse();
      server
        .stop(settings.limits.stopMs, hurry.signal)
        // A cut answer is charged for what was delivered: its settlement is on its way to the ledger.
        .then(() => systemClock.sleep(100))
        .then(() => gateway.close())
        .then(resolve, reject);
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
  });
}
