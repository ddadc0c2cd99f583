import type { Clock } from '../clock.ts';
import type { RandomBytes } from '../random.ts';

/** What a command may touch of the process it runs in. */
export interface Surface {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly clock: Clock;
  readonly random: RandomBytes;
  /** Both without the line's end. */
  out(text: string): void;
  err(text: string): void;
  /** Asks the person at the terminal; null when there is none. */
  prompt?(question: string): Promise<string | null>;
  /** Runs the gateway until it is told to stop. */
  serve(options: ServeCommand): Promise<void>;
}

/** Options of `underbid serve`. */
export interface ServeCommand {
  readonly closeLeases?: boolean;
  readonly standby?: boolean;
}

export interface OutputOptions {
  readonly json?: boolean;
}
