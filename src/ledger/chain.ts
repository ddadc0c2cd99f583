import { sha256 } from '@noble/hashes/sha2.js';
import type { SqlValue } from '../store/sql.ts';

/** Columns that the chain covers, in its order; a transfer's accounts by name, so that a renamed account shows. */
export const TRANSFER_COLUMNS = [
  'seq',
  'id',
  'type',
  'debit',
  'credit',
  'amount',
  'at_ms',
  'request',
  'actor',
  'reason',
] as const;
export const USAGE_COLUMNS = [
  'seq',
  'request',
  'account',
  'key',
  'model',
  'price_version',
  'input_tokens',
  'cached_tokens',
  'output_tokens',
  'cost_pico',
  'held',
  'charged',
  'status',
  'detail',
  'at_ms',
  'held_ms',
  'wake_held',
  'wake_fee',
] as const;

/** 32 bytes; a runtime that has one of its own gives it, because the portable one takes a tenth of a commit. */
export type Sha256 = (bytes: Uint8Array) => Uint8Array;

/** How a row is linked: a transfer with the names of its two accounts, or a usage row as it is. */
export type Link = readonly [debit: string, credit: string] | 'usage';

const SEPARATOR = '\u001f';
const DEBIT = TRANSFER_COLUMNS.indexOf('debit');
const CREDIT = TRANSFER_COLUMNS.indexOf('credit');
const HELD_MS = USAGE_COLUMNS.indexOf('held_ms');
const encoder = new TextEncoder();
/** Kept between links: a row is some hundred bytes. */
let scratch = new Uint8Array(4096);

export const CHAIN_START = new Uint8Array(32);

/** The next link of the chain: SHA-256 over the link before and the row's values, in the order of its columns. */
export function chain(
  previous: Uint8Array,
  link: Link,
  values: readonly SqlValue[],
  digest: Sha256 = sha256,
): Uint8Array {
  let text = link === 'usage' ? 'u' : 't';
  for (const [at, value] of values.entries()) {
    // What rows of earlier versions have not is in no link: NULL columns at the end are left out.
    if (link === 'usage' && at >= HELD_MS && value === null) continue;
    const named = link === 'usage' ? value : at === DEBIT ? link[0] : at === CREDIT ? link[1] : value;
    text += SEPARATOR + (named === null ? '' : String(named as bigint | string));
  }
  // A UTF-16 unit is at most three bytes of UTF-8.
  const most = previous.length + text.length * 3;
  if (scratch.length < most) scratch = new Uint8Array(most);
  scratch.set(previous);
  const { written } = encoder.encodeInto(text, scratch.subarray(previous.length));
  return digest(scratch.subarray(0, previous.length + written));
}

/** The binding stores a NUL inside a text but reads only up to it, which would break the row's hash. */
export function storable(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '\ufffd') : text;
}
