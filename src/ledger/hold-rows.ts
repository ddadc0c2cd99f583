import type { Price } from '../spec.ts';
import { bigintOf, numberOf, textOf, textOrNull, type SqlRow } from '../store/sql.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import type { Key } from './api-keys.ts';
import type { Customer } from './customers.ts';
import type { Account, Journal } from './journal.ts';
import type { UsageDetail } from './operations.ts';
import type { TokenCounts } from './pricing.ts';

/** What a hold reserves in one lot of credit. */
export interface Leg {
  readonly account: Account;
  amount: NanoUsd;
}

export interface Hold {
  readonly request: string;
  readonly customer: Customer;
  readonly key: Key | undefined;
  readonly keyId: string | null;
  readonly model: string;
  readonly priceVersion: number;
  readonly price: Price;
  readonly atMs: EpochMs;
  readonly deadlineMs: EpochMs;
  /** In draw-down order. */
  readonly legs: Leg[];
  amount: NanoUsd;
  /** Of it, for a wake; the rest is for tokens. */
  readonly wakeHeld: NanoUsd;
  progress: TokenCounts;
  /** Of what is held for a wake: due if nobody settles it. */
  wakeDue: NanoUsd;
  /** As of that progress. */
  detail: UsageDetail | undefined;
  /** Whether its row is on disk, and whether that row is behind. */
  journaled: boolean;
  stale: boolean;
}

export function insertHold(journal: Journal, hold: Hold, epoch: number): void {
  const { request, customer, keyId, model, priceVersion, amount, legs, atMs, deadlineMs } = hold;
  const values = [request, customer.record.id, keyId, model, BigInt(priceVersion), amount, writeLegs(legs)];
  const wakeHeld = hold.wakeHeld > 0n ? hold.wakeHeld : null;
  const rest = [writeProgress(hold), BigInt(epoch), BigInt(atMs), BigInt(deadlineMs), wakeHeld];
  journal.write(`INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?)`, [...values, ...rest]);
}

export function updateHold(journal: Journal, hold: Hold): void {
  const { request, amount, legs } = hold;
  const values = [amount, writeLegs(legs), writeProgress(hold), request];
  journal.write('UPDATE holds SET amount = ?, legs = ?, progress = ? WHERE request = ?', values);
}

export interface HoldOwners {
  readonly customer: (id: string) => Customer | undefined;
  readonly key: (id: string | null) => Key | undefined;
  readonly price: (version: number, model: string) => Price | undefined;
  readonly account: (name: string) => Account | undefined;
}

export function readHold(row: SqlRow, owners: HoldOwners): Hold {
  const model = textOf(row, 'model');
  const priceVersion = numberOf(row, 'price_version');
  const customer = owners.customer(textOf(row, 'account'));
  const price = owners.price(priceVersion, model);
  if (!customer || !price) throw new Error('a hold without its account or price');
  const legs = readLegs(textOf(row, 'legs')).map(({ name, amount }) => {
    const account = owners.account(name);
    if (!account) throw new Error('a hold on an unknown account');
    return { account, amount };
  });
  const keyId = textOrNull(row, 'key');
  const { detail, wakeDue, ...progress } = JSON.parse(textOf(row, 'progress')) as Progress;
  return {
    request: textOf(row, 'request'),
    customer,
    key: owners.key(keyId),
    keyId,
    model,
    priceVersion,
    price,
    atMs: numberOf(row, 'at_ms'),
    deadlineMs: numberOf(row, 'deadline_ms'),
    legs,
    amount: bigintOf(row, 'amount'),
    wakeHeld: row['wake_held'] === null ? 0n : bigintOf(row, 'wake_held'),
    progress,
    wakeDue: BigInt(wakeDue ?? '0'),
    detail,
    journaled: true,
    stale: false,
  };
}

/** Rows of earlier versions have the counts alone. */
type Progress = TokenCounts & { readonly detail?: UsageDetail; readonly wakeDue?: string };

function writeProgress({ progress, detail, wakeDue }: Hold): string {
  return JSON.stringify({ ...progress, detail, ...(wakeDue > 0n ? { wakeDue: String(wakeDue) } : {}) });
}

/** JSON, since an account's name may hold any character. */
function writeLegs(legs: readonly Leg[]): string {
  return JSON.stringify(legs.map(({ account, amount }) => [account.spec.name, String(amount)]));
}

export function readLegs(text: string): { readonly name: string; readonly amount: NanoUsd }[] {
  const legs = JSON.parse(text) as readonly (readonly [string, string])[];
  return legs.map(([name, amount]) => ({ name, amount: BigInt(amount) }));
}
