import type { BidId } from './state.ts';

/** What lists may be narrowed to; empty and zero mean anything. */
export interface Filter extends BidId {
  readonly state: string;
}

export function fits(filter: Filter, id: Partial<BidId>, state: string): boolean {
  return (
    (filter.owner === '' || filter.owner === id.owner) &&
    (filter.dseq === 0n || filter.dseq === id.dseq) &&
    (filter.gseq === 0 || filter.gseq === id.gseq) &&
    (filter.oseq === 0 || filter.oseq === id.oseq) &&
    (filter.provider === '' || filter.provider === id.provider) &&
    (filter.state === '' || filter.state === state)
  );
}

/** The filter is the id with or without its scope in front, or a part of it up to a slash. */
export function xidFits(scope: string, xid: string, wanted: string): boolean {
  const bare = wanted.startsWith(`${scope}/`) ? wanted.slice(scope.length + 1) : wanted;
  return bare === '' || xid === bare || xid.startsWith(`${bare}/`) || bare === scope;
}
