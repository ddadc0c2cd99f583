import { PageRequest, PageResponse } from 'cosmjs-types/cosmos/base/query/v1beta1/pagination';
import { bytesField, concatBytes, lastField } from './protobuf.ts';
import type { State } from './state.ts';
import type { TxResult } from './chain.ts';

export interface QueryContext {
  readonly state: State;
  readonly height: number;
  readonly mintsHalted: boolean;
  readonly simulate: (tx: Uint8Array) => TxResult;
}

export type Query = (context: QueryContext, request: Uint8Array) => Uint8Array;
export type Queries = Readonly<Record<string, Query>>;

/** What a module's query hands to gRPC: the node makes a code of its own of it. */
export class StatusError extends Error {
  readonly kind: 'NotFound' | 'Internal' | 'Unknown';

  constructor(kind: StatusError['kind'], text: string) {
    super(text);
    this.kind = kind;
  }
}

const PAGE = { size: 100, most: 1_000 };

export const fieldText = (message: Uint8Array, number: number): string =>
  new TextDecoder().decode(lastField(message, number)?.bytes ?? new Uint8Array());

/** The request's page, where it names one. */
export function readPage(request: Uint8Array, field: number): PageRequest {
  return PageRequest.decode(lastField(request, field)?.bytes ?? new Uint8Array());
}

/** Rows of one page and where the next one begins; by offset, which a key stands for too. */
export function list<R>(
  field: number,
  rows: readonly R[],
  page: PageRequest,
  bytesOf: (row: R) => Uint8Array,
): Uint8Array {
  const { from, to } = pageBounds(rows.length, page);
  const next = to < rows.length ? new TextEncoder().encode(String(to)) : new Uint8Array();
  const response = PageResponse.encode({ nextKey: next, total: BigInt(rows.length) }).finish();
  return concatBytes(
    ...rows.slice(from, to).map((row) => bytesField(field, bytesOf(row))),
    bytesField(field + 1, response),
  );
}

export function pageBounds(total: number, page: PageRequest): { readonly from: number; readonly to: number } {
  const size = page.limit === 0n ? PAGE.size : Math.min(Number(page.limit), PAGE.most);
  const key = Number(new TextDecoder().decode(page.key));
  const from = Math.max(0, page.key.length > 0 && Number.isSafeInteger(key) ? key : Number(page.offset));
  return { from, to: Math.min(total, from + size) };
}
