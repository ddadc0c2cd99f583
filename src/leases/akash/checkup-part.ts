import type { Dispatcher } from 'undici';
import type { Clock } from '../../clock.ts';
import type { Resolve } from './address.ts';
import type { Micro } from './amounts.ts';
import type { Inspection } from './chain-inspection.ts';

export type Result = 'ok' | 'warn' | 'fail';

/** One line of a check-up. */
export interface Finding {
  readonly name: string;
  readonly result: Result;
  readonly detail: string;
  /** What to do about it; empty when it is well. */
  readonly advice: string;
}

/** Lines in the order in which they were found. */
export class Findings {
  readonly #all: Finding[] = [];

  get all(): readonly Finding[] {
    return this.#all;
  }

  add(result: Result, name: string, detail: string, advice = ''): void {
    this.#all.push({ name, result, detail, advice });
  }

  ok(name: string, detail: string): void {
    this.add('ok', name, detail);
  }

  warn(name: string, detail: string, advice: string): void {
    this.add('warn', name, detail, advice);
  }

  fail(name: string, detail: string, advice: string): void {
    this.add('fail', name, detail, advice);
  }
}

export interface CheckupOptions {
  readonly rpc: readonly string[];
  /** Null: whatever the nodes say. */
  readonly chainId: string | null;
  readonly denom: string;
  /** Whose money is looked at; null: nobody's. */
  readonly address: string | null;
  /** Wallets that pay out of that one's grants. */
  readonly pools: readonly { readonly pool: string; readonly address: string }[];
  readonly auditors: readonly string[];
  readonly allowPrivate: boolean;
  /** How many of the providers are visited. */
  readonly providersMax: number;
  readonly dispatcher: Dispatcher;
  readonly clock: Clock;
  readonly resolve: Resolve;
  readonly signal: AbortSignal;
}

export interface CheckupPart extends CheckupOptions {
  readonly chain: Inspection;
  readonly findings: Findings;
}

/** "12.5 ACT"; a denom of another kind as it is. */
export function formatMicro(amount: Micro, denom: string): string {
  const name = /^u(akt|act)$/.exec(denom)?.[1]?.toUpperCase();
  if (name === undefined) return `${amount} ${denom}`;
  const whole = amount / 1_000_000n;
  const rest = String(amount % 1_000_000n)
    .padStart(6, '0')
    .replace(/0+$/, '');
  return `${whole}${rest === '' ? '' : `.${rest}`} ${name}`;
}
