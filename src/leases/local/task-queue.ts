import type { Clock } from '../../clock.ts';
import type { TaskMessage } from '../../spec/provider-wire.ts';
import type { Ms } from '../../units.ts';

type Unnumbered<T> = T extends unknown ? Omit<T, 'n'> : never;
export type NewTask = Unnumbered<TaskMessage>;

/** What a provider is still to be told, until it says that it knows; and its one question that waits for more. */
export class TaskQueue {
  readonly #clock: Clock;
  #tasks: TaskMessage[] = [];
  #next = 1;
  #wake: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  list(): readonly TaskMessage[] {
    return [...this.#tasks];
  }

  push(task: NewTask): void {
    this.#tasks.push({ ...task, n: this.#next });
    this.#next += 1;
    this.#wake();
  }

  /** Takes out what need not be told any more. */
  drop(isOver: (task: TaskMessage) => boolean): void {
    this.#tasks = this.#tasks.filter((task) => !isOver(task));
  }

  /** For a new session: empty, numbered from 1. Whoever waits is released. */
  reset(): void {
    this.#tasks = [];
    this.#next = 1;
    this.#wake();
  }

  /** Resolves when there is a task, when `ms` have passed, on the signal, or when another question takes its place. */
  wait(ms: Ms, signal: AbortSignal): Promise<void> {
    this.#wake();
    if (this.#tasks.length > 0 || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        cancel();
        signal.removeEventListener('abort', end);
        if (this.#wake === end) this.#wake = () => undefined;
        resolve();
      };
      const cancel = this.#clock.timer(ms, end);
      signal.addEventListener('abort', end, { once: true });
      this.#wake = end;
    });
  }

  wake(): void {
    this.#wake();
  }
}
