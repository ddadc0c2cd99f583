import { parseDec } from '../leases/akash/amounts.ts';
import type { MintRow } from '../leases/akash/treasury-records.ts';
import type { TreasuryReport } from '../leases/akash/treasury-report.ts';
import { formatUsd } from '../units.ts';
import { iso } from './views.ts';

/** The Akash treasury as the admin API shows it: AKT and ACT as decimal strings; 1 ACT is 1 USD. */
export function viewAkashTreasury(report: TreasuryReport): Record<string, unknown> {
  const { block, blockMs, wallets, hourly, mint, limits, escrows, accounts, alarms } = report;
  const [treasurer] = wallets;
  const perHour = hourly > 0n ? hourly : null;
  return {
    market: 'akash',
    block,
    act: coin(treasurer?.uact ?? 0n),
    akt: coin(treasurer?.uakt ?? 0n),
    rent_usd_per_hour: coin(hourly),
    stock_hours: perHour === null ? null : hours((treasurer?.uact ?? 0n) * 10n, perHour),
    alarms: alarms.map(({ name, reason, sinceMs }) => ({ alarm: name, since: iso(sinceMs), reason })),
    wallets: wallets.map(({ name, address, uact, uakt, depositGrant, feeGrant }) => ({
      wallet: name,
      address,
      act: coin(uact),
      akt: coin(uakt),
      deposit_grant_left_act: depositGrant === null ? null : coin(depositGrant),
      fee_grant_left_akt: feeGrant ? (feeGrant.uakt === null ? 'unlimited' : coin(feeGrant.uakt)) : null,
      grants_until: iso(feeGrant?.untilMs ?? null),
    })),
    escrows: escrows.map(({ lease, pool, provider, ratePerBlock, runway, settledAt, wanted, endsMs }) => ({
      lease,
      pool,
      provider,
      rate_act_per_block: coinOfDec(ratePerBlock),
      left_act: coin(runway.funds),
      wanted_act: coin(wanted),
      blocks_left: runway.blocksLeft,
      runway_s: runway.blocksLeft === null ? null : Math.floor((runway.blocksLeft * blockMs) / 1000),
      ends_at: iso(endsMs),
      settled_block: settledAt,
    })),
    mint: {
      on: mint.on,
      stock_min_act: coin(mint.range.low),
      stock_max_act: coin(mint.range.high),
      status: mint.terms?.status ?? null,
      allowed: mint.terms?.allowed ?? null,
      least_act: mint.terms ? coin(mint.terms.least) : null,
      spread_bp: mint.terms?.spreadBp ?? null,
      usd_per_akt: mint.terms?.price ? formatUsd(mint.terms.price / 1_000_000_000n) : null,
      plan: mint.plan,
    },
    mints: mint.recent.map(viewMint),
    limits: limits.map(({ setting, windowMs, max, used }) => ({
      setting,
      window: windowMs > 3_600_000 ? 'day' : 'hour',
      used: coin(used),
      max: coin(max),
    })),
    accounts: accounts.map(({ account, asset, ledger, chain, difference, explained, why }) => ({
      account,
      asset,
      ledger: formatUsd(ledger),
      chain: formatUsd(chain),
      difference: formatUsd(difference),
      ok: explained,
      why,
    })),
  };
}

function viewMint({ seq, state, worth, burnUakt, minted, spread, atMs, endedMs, reason, why, tx }: MintRow): unknown {
  return {
    mint: seq,
    state,
    at: iso(atMs),
    ended_at: iso(endedMs),
    burnt_akt: coin(burnUakt),
    worth_act: coin(worth),
    minted_act: state === 'executed' ? coin(minted - spread) : null,
    spread_act: state === 'executed' ? coin(spread) : null,
    transaction: tx?.hash ?? null,
    why,
    reason,
  };
}

/** Millionths of a coin as a decimal. */
function coin(micro: bigint): string {
  return formatUsd(micro * 1000n);
}

/** A rate per block in ACT, parts of a millionth kept. */
function coinOfDec(rate: string): string {
  return formatUsd(parseDec(rate) / 1_000_000_000_000_000n);
}

/** Tenths of hours. */
function hours(tenfold: bigint, perHour: bigint): number {
  return Number(tenfold / perHour) / 10;
}
