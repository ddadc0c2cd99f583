import type { EpochMs, Ms } from './units.ts';

/** The only door to time: everything else is handed one of these, so tests can move it. */
export interface Clock {
  now(): EpochMs;
  /** Milliseconds that never go back, with fractions: for durations, not for dates. */
  monotonic(): Ms;
  /** Rejects with the signal's reason when aborted. */
  sleep(ms: Ms, signal?: AbortSignal): Promise<void>;
  /** Calls once after `ms`; the returned function cancels. Holds no process open. */
  timer(ms: Ms, call: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(abortReason(signal));
        return;
      }
      const onAbort = (): void => {
        clearTimeout(handle);
        reject(abortReason(signal));
      };
      const handle = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      signal?.addEventListener('abort', onAbort, { once: true });
    }),
  timer: (ms, call) => {
    const handle: unknown = setTimeout(call, ms);
    // workerd's timers are numbers and hold nothing open.
    if (typeof handle === 'object' && handle !== null && 'unref' in handle) (handle as { unref(): void }).unref();
    return () => clearTimeout(handle as Parameters<typeof clearTimeout>[0]);
  },
};

function abortReason(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new Error('aborted');
}
