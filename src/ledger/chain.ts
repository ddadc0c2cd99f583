import { sha256 } from '@noble/hashes/sha2.js';
import type { EpochMs, NanoUsd, PicoUsd } from '../units.ts';
import type { UsageStatus } from './operations.ts';
import type { TokenCounts } from './pricing.ts';

/** What of a transfer the chain covers: account names, not numbers, so that a renamed account shows. */
export interface TransferLink {
  readonly id: string | null;
  readonly type: string;
  readonly debit: string;
  readonly credit: string;
  readonly amount: NanoUsd;
  readonly request: string | null;
  readonly actor: string;
  readonly reason: string;
  readonly atMs: EpochMs;
}

export interface UsageLink {
  readonly request: string;
  readonly customer: string;
  readonly key: string | null;
  readonly model: string;
  readonly priceVersion: number;
  readonly tokens: TokenCounts;
  readonly costPico: PicoUsd;
  readonly held: NanoUsd;
  readonly charged: NanoUsd;
  readonly status: UsageStatus;
  readonly detail: string;
  readonly atMs: EpochMs;
  /** When its hold was made; null in rows of version 1, whose links do not have it. */
  readonly heldMs: EpochMs | null;
}

const SEPARATOR = '\u001f';
const encoder = new TextEncoder();

export const CHAIN_START = new Uint8Array(32);

/** What the chain covers of a row, as one text. */
export function linkOf(fields: readonly string[]): string {
  return fields.join(SEPARATOR);
}

/** The next link of the chain: SHA-256 over the link before and the row's fields. */
export function chain(previous: Uint8Array, link: string): Uint8Array {
  const text = encoder.encode(link);
  const bytes = new Uint8Array(previous.length + text.length);
  bytes.set(previous);
  bytes.set(text, previous.length);
  return sha256(bytes);
}

export function transferFields(seq: bigint, row: TransferLink): string[] {
  const { id, type, debit, credit, amount, request, actor, reason, atMs } = row;
  return ['t', String(seq), id ?? '', type, debit, credit, String(amount), String(atMs), request ?? '', actor, reason];
}

export function usageFields(seq: bigint, row: UsageLink): string[] {
  const { request, customer, key, model, priceVersion, tokens, costPico, held, charged } = row;
  const { status, detail, atMs, heldMs } = row;
  const { inputTokens, cachedTokens, outputTokens } = tokens;
  const counts = [inputTokens, cachedTokens, outputTokens, costPico, held, charged].map(String);
  const names = [request, customer, key ?? '', model, String(priceVersion)];
  return [
    'u',
    String(seq),
    ...names,
    ...counts,
    status,
    detail,
    String(atMs),
    ...(heldMs === null ? [] : [String(heldMs)]),
  ];
}

/** The binding stores a NUL inside a text but reads only up to it, which would break the row's hash. */
export function storable(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '\ufffd') : text;
}
