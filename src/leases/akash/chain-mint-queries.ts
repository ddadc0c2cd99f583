import { BinaryReader, BinaryWriter } from 'cosmjs-types/binary';
import { PageRequest } from 'cosmjs-types/cosmos/base/query/v1beta1/pagination';
import { BasicAllowance, AllowedMsgAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/feegrant';
import { QueryAllowanceRequest, QueryAllowanceResponse } from 'cosmjs-types/cosmos/feegrant/v1beta1/query';
import type { Micro } from './amounts.ts';
import type { ChainQueries } from './chain-queries.ts';
import type { MintRecord, MintTerms } from './chain-types.ts';

/**
 * Questions about the mint (akash.bme.v1, akash.oracle.v2). Read by field numbers: chain-sdk 1.0.0-alpha.25 lacks the least
 * that may be minted, the spread of a record and its cancellation. Public: chain-sdk proto/node/akash.
 */

const RECORDS_MAX = 1000;
const STATUS_NAMES = ['unspecified', 'healthy', 'warning', 'halt_cr', 'halt_oracle'] as const;
/** Reasons of a cancelled mint, as far as they are known by number. */
const CANCEL_NAMES: Readonly<Record<number, string>> = {
  0: 'unknown',
  1: 'epsilon',
  6: 'minimum_mint',
  9: 'max_attempts',
};

interface Field {
  readonly number: number;
  readonly bytes: Uint8Array;
  readonly value: bigint;
}

const RAW = {
  encode: (bytes: Uint8Array) => ({ finish: () => bytes }),
  decode: (bytes: Uint8Array): Uint8Array => bytes,
};

/** What a mint would meet now. A price that cannot be had is null: then nothing is minted. */
export async function mintTerms(queries: ChainQueries): Promise<MintTerms> {
  const [params, status, price] = await Promise.all([
    queries.ask('/akash.bme.v1.Query/Params', [RAW, new Uint8Array()], RAW),
    queries.ask('/akash.bme.v1.Query/Status', [RAW, new Uint8Array()], RAW),
    aktPrice(queries),
  ]);
  const body = inner(params, 1);
  const least = all(body, 9)
    .map(coinOf)
    .find(({ denom }) => denom === 'uact');
  const code = Number(last(status, 1)?.value ?? 0n);
  return {
    least: least?.amount ?? 0n,
    spreadBp: Number(last(body, 6)?.value ?? 0n),
    allowed: (last(status, 5)?.value ?? 0n) === 1n,
    status: STATUS_NAMES[code] ?? `status ${code}`,
    price,
  };
}

/** USD of one AKT in 1e-18, as the network converts it; the second version of the oracle, else the first. */
async function aktPrice(queries: ChainQueries): Promise<bigint | null> {
  for (const version of ['v2', 'v1']) {
    try {
      const request = new BinaryWriter().uint32(10).string('akt').finish();
      const reply = await queries.ask(`/akash.oracle.${version}.Query/AggregatedPrice`, [RAW, request], RAW);
      const healthy = (last(inner(reply, 2), 2)?.value ?? 0n) === 1n;
      const digits = textOf(last(inner(reply, 1), 3));
      if (reply && healthy && /^[1-9]\d{0,40}$/.test(digits)) return BigInt(digits);
    } catch (error) {
      if (version === 'v1') throw error;
    }
  }
  return null;
}

/** AKT that `owner` gave to be minted into ACT, oldest first. */
export async function mintRecords(queries: ChainQueries, owner: string): Promise<MintRecord[]> {
  const filters = new BinaryWriter();
  filters.uint32(10).string(owner).uint32(18).string('uakt').uint32(26).string('uact');
  const page = PageRequest.encode(PageRequest.fromPartial({ limit: BigInt(RECORDS_MAX) })).finish();
  const request = new BinaryWriter().uint32(10).bytes(filters.finish()).uint32(18).bytes(page).finish();
  const reply = await queries.ask('/akash.bme.v1.Query/LedgerRecords', [RAW, request], RAW);
  return all(reply ?? new Uint8Array(), 1)
    .map(({ bytes }) => recordOf(bytes))
    .sort((a, b) => a.height - b.height);
}

function recordOf(bytes: Uint8Array): MintRecord {
  const height = Number(last(inner(bytes, 1), 4)?.value ?? 0n);
  const [pending, executed, cancelled] = [last(bytes, 3), last(bytes, 4), last(bytes, 5)];
  const base = { height, minted: 0n, spread: 0n, reason: '' };
  if (cancelled) {
    const code = Number(last(cancelled.bytes, 2)?.value ?? 0n);
    const reason = CANCEL_NAMES[code] ?? `reason ${code}`;
    return { ...base, state: 'cancelled', burnUakt: coinAt(cancelled.bytes, 4), reason };
  }
  if (executed) {
    const burnUakt = coinAt(inner(executed.bytes, 5), 1);
    const minted = coinAt(inner(executed.bytes, 6), 1);
    return { ...base, state: 'executed', burnUakt, minted, spread: coinAt(executed.bytes, 7) };
  }
  return { ...base, state: 'pending', burnUakt: pending ? coinAt(pending.bytes, 3) : 0n };
}

export interface FeeAllowance {
  /** Null: without a limit. */
  readonly uakt: bigint | null;
  readonly untilMs: number | null;
}

/** What `granter` still pays of the fees of `grantee`. Null: nothing. */
export async function feeAllowance(
  queries: ChainQueries,
  granter: string,
  grantee: string,
): Promise<FeeAllowance | null> {
  const message = QueryAllowanceRequest.fromPartial({ granter, grantee });
  const path = '/cosmos.feegrant.v1beta1.Query/Allowance';
  const reply = await queries.ask(path, [QueryAllowanceRequest, message], QueryAllowanceResponse);
  let any = reply?.allowance?.allowance;
  if (any?.typeUrl === AllowedMsgAllowance.typeUrl) any = AllowedMsgAllowance.decode(any.value).allowance;
  if (any?.typeUrl !== BasicAllowance.typeUrl) return null;
  const { spendLimit, expiration } = BasicAllowance.decode(any.value);
  const limit = spendLimit.find(({ denom }) => denom === 'uakt');
  const untilMs = expiration ? Number(expiration.seconds) * 1000 : null;
  return { uakt: limit ? BigInt(limit.amount) : null, untilMs };
}

function fields(bytes: Uint8Array | null): Field[] {
  const reader = new BinaryReader(bytes ?? new Uint8Array());
  const found: Field[] = [];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    const [number, type] = [tag >>> 3, tag & 7];
    if (type === 0) found.push({ number, bytes: new Uint8Array(), value: reader.uint64() });
    else if (type === 2) found.push({ number, bytes: reader.bytes(), value: 0n });
    else reader.skipType(type);
  }
  return found;
}

function all(bytes: Uint8Array, number: number): Field[] {
  return fields(bytes).filter((field) => field.number === number);
}

function last(bytes: Uint8Array | null, number: number): Field | undefined {
  return fields(bytes).findLast((field) => field.number === number);
}

function inner(bytes: Uint8Array | null, number: number): Uint8Array {
  return last(bytes, number)?.bytes ?? new Uint8Array();
}

function textOf(field: Field | undefined): string {
  return new TextDecoder().decode(field?.bytes);
}

function coinOf({ bytes }: Field): { readonly denom: string; readonly amount: Micro } {
  const digits = textOf(last(bytes, 2));
  return { denom: textOf(last(bytes, 1)), amount: /^\d{1,40}$/.test(digits) ? BigInt(digits) : 0n };
}

function coinAt(bytes: Uint8Array, number: number): Micro {
  const field = last(bytes, number);
  return field ? coinOf(field).amount : 0n;
}
