import type { Clock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { FleetOperations } from '../gateway/deps.ts';
import type { Dispute, Withheld } from '../leases/dispute.ts';
import type { DisputeRecords } from '../leases/dispute-records.ts';
import type { Market } from '../leases/market.ts';
import { withheldTotal } from '../leases/withholding.ts';
import type { CreditRows } from '../scheduler/sla/credit-rows.ts';
import type { SchedulerRecords } from '../scheduler/records.ts';
import type { MarketName } from '../spec.ts';
import { formatUsd, usdNumber } from '../units.ts';
import { found } from './lease-view.ts';
import { iso } from './views.ts';

const LISTED = 500;

export interface DisputeOperationsDeps {
  readonly clock: Clock;
  readonly disputes: DisputeRecords;
  readonly creditRows: CreditRows;
  readonly records: SchedulerRecords;
  readonly markets: ReadonlyMap<MarketName, Market>;
}

/** What an operator sees of disputes, and how one is decided. */
export function disputeOperations(
  deps: DisputeOperationsDeps,
): Pick<FleetOperations, 'disputes' | 'dispute' | 'judgeDispute'> {
  const { clock, disputes, records, markets } = deps;
  const find = async (id: string): Promise<Dispute> => found(await disputes.find(id), `there is no dispute ${id}`);
  return {
    disputes: async () => (await disputes.list(LISTED)).map(line),
    dispute: async (id) => ({ ...view(await find(id)), credits: await creditsOf(deps.creditRows, id) }),
    judgeDispute: async (id, { upheld, reason }) => {
      const { market: name, lease, pool, provider } = await find(id);
      const market = markets.get(name);
      if (!market) throw new AppError('conflict', `the market ${name} is not configured`);
      const outcome = await market.judge(id, { upheld, reason });
      if (outcome.kind !== 'done') throw new AppError('conflict', outcome.reason);
      const kind = upheld ? 'dispute.upheld' : 'dispute.rejected';
      const detail = { dispute: id, lease, provider };
      await records.decide({ atMs: clock.now(), pool, kind, reason, detail });
      return view(await find(id));
    },
  };
}

function line(dispute: Dispute): Record<string, unknown> {
  const { id, state, lease, provider, market, pool, breach, filedMs, dueMs, withheld, local } = dispute;
  return {
    ...{ id, state, kind: breach.kind, pool, market, provider, lease },
    withheld_usd: withheld === null ? null : formatUsd(withheldTotal(withheld)),
    filed_at: iso(filedMs),
    due_at: iso(dueMs),
    ...{ local, reason: breach.reason },
  };
}

function view(dispute: Dispute): Record<string, unknown> {
  const { breach, withheld, answer, verdict, local, paidOut } = dispute;
  const { fromMs, toMs, measured, requests, certain } = breach;
  return {
    ...line(dispute),
    from: iso(fromMs),
    to: iso(toMs),
    evidence: { certain, measured: measured.map(({ atMs, ...rest }) => ({ ...rest, at: iso(atMs) })), requests },
    note: local ? 'its market has no say in disputes: it counts on our own record of the provider only' : null,
    withheld: withheld === null ? null : viewWithheld(withheld),
    withheld_is:
      withheld === null ? null : verdict === null || !paidOut ? 'withheld' : verdict.upheld ? 'returned' : 'paid',
    answer: answer && {
      ...{ accepts: answer.accepts, text: answer.text, at: iso(answer.atMs) },
      measured: answer.measured.map(({ atMs, ...rest }) => ({ ...rest, at: iso(atMs) })),
    },
    verdict: verdict && { upheld: verdict.upheld, by: verdict.by, reason: verdict.reason, at: iso(verdict.atMs) },
  };
}

function viewWithheld(withheld: Withheld): Record<string, unknown> {
  const { blocks, fromBlock, toBlock, rentNanoUsd, takeFeeNanoUsd, makeFeeNanoUsd } = withheld;
  return {
    ...{ blocks, from_block: fromBlock, to_block: toBlock },
    rent_usd: formatUsd(rentNanoUsd),
    take_fee_usd: formatUsd(takeFeeNanoUsd),
    make_fee_usd: formatUsd(makeFeeNanoUsd),
  };
}

/** What accounts got for it by their pool's promise; null: nothing is planned yet, or ever. */
async function creditsOf(rows: CreditRows, dispute: string): Promise<unknown> {
  const run = await rows.find(dispute);
  if (run === null) return null;
  return run.credits.map(({ account, amountNanoUsd, requests }) => {
    return { account, usd: formatUsd(amountNanoUsd), requests, kind: run.kind, at: iso(run.atMs) };
  });
}

/** An account's own: what it got, for what. */
export async function viewCredits(rows: CreditRows, account: string): Promise<Record<string, unknown>[]> {
  const runs = await rows.ofAccount(account);
  return runs.flatMap(({ dispute, pool, kind, reason, atMs, expiresMs, credits }) =>
    credits
      .filter((credit) => credit.account === account)
      .map(({ amountNanoUsd, requests }) => ({
        ...{ amount: usdNumber(amountNanoUsd), kind, model: pool, dispute, reason, requests },
        created_at: iso(atMs),
        expires_at: iso(expiresMs),
      })),
  );
}
