import { AppError } from '../../errors.ts';
import { coinTreasury, escrow, minting, treasury } from '../../ledger/accounts.ts';
import type { Ledger } from '../../ledger/operations.ts';
import type { Blocks, EpochMs, Ms, NanoUsd } from '../../units.ts';
import type { Alarm } from './alarms.ts';
import { nanoOf, rentMicro, type Micro } from './amounts.ts';
import type { FeeAllowance } from './chain-mint-queries.ts';
import { NodeUnreachable } from './chain-rpc.ts';
import type { MintView } from './minting.ts';
import type { Money } from './money.ts';
import { leaseIdOf } from './names.ts';
import type { OrderRow } from './records.ts';
import { compare, type Compared, type Sides } from './reconciliation.ts';
import { runwayOf, wantedOf, type Runway } from './runway.ts';
import type { SpendingLimit } from './spending-limits.ts';

const MARKET = 'akash';
const COIN = 'AKT';

export interface WalletReport {
  /** `treasury`, or the pool that pays from it. */
  readonly name: string;
  readonly address: string;
  readonly uact: Micro;
  readonly uakt: bigint;
  /** What it may still put into escrows and spend on fees out of the treasury's wallet. Null: nothing. */
  readonly depositGrant: Micro | null;
  readonly feeGrant: FeeAllowance | null;
}

export interface EscrowReport {
  readonly lease: string;
  readonly pool: string;
  readonly provider: string | null;
  readonly ratePerBlock: string;
  readonly runway: Runway;
  readonly settledAt: Blocks;
  /** What it was given when it was made. */
  readonly wanted: Micro;
  readonly endsMs: EpochMs | null;
}

export interface TreasuryReport {
  readonly block: Blocks;
  readonly blockMs: Ms;
  readonly wallets: readonly WalletReport[];
  /** Rent of an hour of all leases. */
  readonly hourly: Micro;
  readonly escrows: readonly EscrowReport[];
  readonly mint: MintView;
  readonly limits: readonly (SpendingLimit & { readonly used: bigint })[];
  readonly accounts: readonly Compared[];
  readonly alarms: readonly Alarm[];
}

/**
 * Everything about the treasury as the chain has it now, and the books beside it.
 * @throws AppError `no_capacity` while no node can be asked
 */
export async function reportTreasury(money: Money, ledger: Ledger): Promise<TreasuryReport> {
  try {
    return await readTreasury(money, ledger);
  } catch (error) {
    if (!(error instanceof NodeUnreachable)) throw error;
    const why = money.options.chain.silence() ?? error.message;
    throw new AppError('no_capacity', `the treasury cannot be read now: ${why}`, { retryAfterS: 10 });
  }
}

async function readTreasury(money: Money, ledger: Ledger): Promise<TreasuryReport> {
  const { chain, orders, blockMs, clock } = money.options;
  const block = (await chain.refresh())?.height ?? 0;
  const posted = async (name: string): Promise<NanoUsd> => (await ledger.ask({ op: 'account', name }))?.posted ?? 0n;
  const held = [await posted(treasury(MARKET).name), await posted(coinTreasury(MARKET, COIN).name)] as const;
  const wallets = await reportWallets(money);
  const queued = (await chain.mintRecords(wallets[0]?.address ?? ''))
    .filter(({ state }) => state === 'pending')
    .reduce((sum, { burnUakt }) => sum + burnUakt, 0n);
  const moving = !orders.quiet || (await money.minting.isOpen());
  const total = (pick: (wallet: WalletReport) => bigint): NanoUsd =>
    nanoOf(wallets.reduce((sum, wallet) => sum + pick(wallet), 0n));
  const sides: Sides[] = [
    { account: treasury(MARKET).name, asset: 'USD', ledger: held[0], chain: total(({ uact }) => uact), moving },
    {
      account: coinTreasury(MARKET, COIN).name,
      asset: COIN,
      ledger: held[1],
      chain: total(({ uakt }) => uakt),
      moving,
    },
    {
      account: minting(MARKET, COIN).name,
      asset: COIN,
      ledger: await posted(minting(MARKET, COIN).name),
      chain: nanoOf(queued),
      moving,
    },
  ];
  const escrows: EscrowReport[] = [];
  for (const row of orders.live().filter(({ created }) => created)) {
    const name = escrow(MARKET, leaseIdOf(row.orderId)).name;
    const booked = await posted(name);
    const deployment = await chain.deployment(row);
    const found = deployment && { ...deployment.escrow, block: Math.max(block, deployment.escrow.settledAt) };
    const runway = found ? runwayOf(found, row.rate, found.block) : { funds: 0n, block, blocksLeft: 0 };
    const changed = orders.known(row.orderId) !== row || row.pending !== null || row.closing !== null;
    sides.push(escrowSides(row, { account: name, booked, runway, moving: changed }));
    if (row.lease?.state !== 'active') continue;
    escrows.push({
      ...{ lease: row.lease.id, pool: row.pool, provider: row.lease.provider, ratePerBlock: row.rate, runway },
      settledAt: found?.settledAt ?? 0,
      wanted: wantedOf(row),
      endsMs: runway.blocksLeft === null ? null : clock.now() + runway.blocksLeft * blockMs(),
    });
  }
  return {
    ...{ block, blockMs: blockMs(), wallets, hourly: money.foresight.hourly(), escrows },
    mint: await money.minting.view(),
    limits: await money.limits.usage(),
    accounts: sides.map(compare),
    alarms: money.alarms.list(),
  };
}

async function reportWallets({ options }: Money): Promise<WalletReport[]> {
  const { chain, wallet, wallets } = options;
  const treasurer = wallet(0).address;
  const reports: WalletReport[] = [];
  for (const { pool, index } of wallets) {
    const { address } = wallet(index);
    const [uact, uakt, deposits, feeGrant] = await Promise.all([
      chain.balance(address),
      chain.balanceUakt(address),
      index === 0 ? null : chain.depositGrant(treasurer, address),
      index === 0 ? null : chain.feeAllowance(treasurer, address),
    ]);
    reports.push({ name: pool ?? 'treasury', address, uact, uakt, depositGrant: deposits?.amount ?? null, feeGrant });
  }
  return reports;
}

/** An escrow in the books holds what was not drawn yet; on the chain the rent runs on. */
function escrowSides(
  { lease, rate }: OrderRow,
  seen: { readonly account: string; readonly booked: NanoUsd; readonly runway: Runway; readonly moving: boolean },
): Sides {
  const { account, booked, runway, moving } = seen;
  const sides = { account, asset: 'USD' as const, ledger: booked, chain: nanoOf(runway.funds), moving };
  if (lease?.state !== 'active') return sides;
  const due = nanoOf(rentMicro(rate, runway.block - lease.openedBlock));
  const undrawn = due > lease.depositNanoUsd ? lease.depositNanoUsd - lease.rentNanoUsd : due - lease.rentNanoUsd;
  const why = `rent of blocks ${lease.settledBlock} to ${runway.block}, booked from time to time`;
  // One unit a settlement; where the rate is a whole number none.
  const roundingMax = /\.\d*[1-9]/.test(rate) ? 10_000n : 0n;
  return { ...sides, expected: [{ amount: -undrawn, why }], roundingMax };
}
