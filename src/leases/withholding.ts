import type { Breach } from '../spec/dispute.ts';
import type { Blocks, EpochMs, Ms, NanoUsd } from '../units.ts';
import { noteOf, type Dispute, type Withheld } from './dispute.ts';
import type { Lease } from './market.ts';
import { blockPrice, rentOfBlocks } from './rent.ts';

/** Pure: which blocks of a lease a breach makes bad, what their rent is, and a lease's amounts with its disputes. */

interface Span {
  readonly from: Blocks;
  readonly to: Blocks;
}

/**
 * The blocks that the bad interval touches, of those whose rent was drawn, less those that another dispute of the lease
 * took already; a dispute that was rejected took none.
 */
export function withholdRent(
  lease: Lease,
  breach: Pick<Breach, 'fromMs' | 'toMs'>,
  terms: { readonly blockMs: Ms; readonly takeFeeBp: number; readonly makeFeeBp: number },
  others: readonly Dispute[],
): Withheld {
  const bad = clip(spanOf(breach, terms.blockMs), { from: lease.openedBlock, to: lease.settledBlock });
  const taken = others.flatMap(({ state, withheld }) =>
    withheld === null || state === 'rejected' ? [] : [clip({ from: withheld.fromBlock, to: withheld.toBlock }, bad)],
  );
  const blocks = size(bad) - covered(taken);
  const { rent, takeFee, makeFee } = rentOfBlocks(
    blockPrice(lease.priceNanoUsdPerBlock, terms.takeFeeBp, terms.makeFeeBp),
    blocks,
  );
  const span = { fromBlock: bad.from, toBlock: bad.to };
  return { blocks, ...span, rentNanoUsd: rent, takeFeeNanoUsd: takeFee, makeFeeNanoUsd: makeFee };
}

/** A block that is bad in part is bad. */
function spanOf({ fromMs, toMs }: { readonly fromMs: EpochMs; readonly toMs: EpochMs }, blockMs: Ms): Span {
  return { from: Math.floor(fromMs / blockMs), to: Math.ceil(toMs / blockMs) };
}

function clip({ from, to }: Span, within: Span): Span {
  const begin = Math.min(Math.max(from, within.from), within.to);
  return { from: begin, to: Math.max(begin, Math.min(to, within.to)) };
}

const size = ({ from, to }: Span): Blocks => to - from;

/** Blocks in any of them. */
function covered(spans: readonly Span[]): Blocks {
  let [sum, reached] = [0, -Infinity];
  for (const { from, to } of [...spans].sort((a, b) => a.from - b.from)) {
    sum += Math.max(0, to - Math.max(from, reached));
    reached = Math.max(reached, to);
  }
  return sum;
}

/** What leaves the tenant's side for these blocks: the make fee is in the rent. */
export function withheldTotal({ rentNanoUsd, takeFeeNanoUsd }: Withheld): NanoUsd {
  return rentNanoUsd + takeFeeNanoUsd;
}

/** The lease's amounts as they are with its disputes: deposit = rent + take fee + refund + withheld + what is in escrow. */
export function withDisputes(lease: Lease, disputes: readonly Dispute[]): Lease {
  let seen = lease;
  for (const dispute of [...disputes].sort((a, b) => a.filedMs - b.filedMs)) {
    seen = { ...seen, dispute: noteOf(dispute) };
    const { withheld, state } = dispute;
    if (withheld === null || state === 'rejected') continue;
    const total = withheldTotal(withheld);
    seen = {
      ...seen,
      rentNanoUsd: seen.rentNanoUsd - withheld.rentNanoUsd,
      takeFeeNanoUsd: seen.takeFeeNanoUsd - withheld.takeFeeNanoUsd,
      makeFeeNanoUsd: seen.makeFeeNanoUsd - withheld.makeFeeNanoUsd,
      ...(state === 'upheld'
        ? { refundNanoUsd: seen.refundNanoUsd + total }
        : { withheldNanoUsd: (seen.withheldNanoUsd ?? 0n) + total }),
    };
  }
  return seen;
}
