import { PageRequest } from 'cosmjs-types/cosmos/base/query/v1beta1/pagination';
import { pageBounds } from './query.ts';

export interface RestReply {
  readonly status: number;
  readonly body: unknown;
}

/** `pagination.limit`, `.offset` and `.key`. */
export function pageOf(query: URLSearchParams): PageRequest {
  const number = (name: string): bigint => {
    const text = query.get(`pagination.${name}`) ?? '';
    return /^\d{1,18}$/.test(text) ? BigInt(text) : 0n;
  };
  return PageRequest.fromPartial({
    key: Buffer.from(query.get('pagination.key') ?? '', 'base64'),
    offset: number('offset'),
    limit: number('limit'),
  });
}

export function restList<R>(
  name: string,
  rows: readonly R[],
  page: PageRequest,
  jsonOf: (row: R) => unknown,
): Record<string, unknown> {
  const { from, to } = pageBounds(rows.length, page);
  const next = to < rows.length ? Buffer.from(String(to)).toString('base64') : null;
  return { [name]: rows.slice(from, to).map(jsonOf), pagination: { next_key: next, total: String(rows.length) } };
}
