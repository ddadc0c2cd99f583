import type { EpochMs } from '../../units.ts';
import type { Micro } from './amounts.ts';
import { formatMicro, type CheckupPart } from './checkup-part.ts';
import type { DepositGrant, FeeGrant } from './chain-types.ts';

const DAY_MS = 86_400_000;
const GRANT_DAYS_WARN = 3;
/** Some hundred transactions. */
const UAKT_WARN = 1_000_000n;
/** So many orders at the chain's least deposit. */
const ORDERS_WARN = 10n;

/** Whose money it is: what an address holds, and what others let it spend. */
export async function checkAccount(part: CheckupPart, depositMin: Micro | null): Promise<void> {
  const { chain, findings, address, denom, pools } = part;
  if (address === null) {
    findings.warn('account', 'no address to look at', 'name one with --address, or the key of markets.akash');
    return;
  }
  const known = await chain.queries.accountNumber(address);
  if (known === null) {
    findings.fail('account', `${address} is not known to the chain`, 'send it some AKT: that makes the account');
    return;
  }
  findings.ok('account', address);
  const deposits = await chain.depositGrants(address, denom);
  const fees = await chain.feeGranters(address);
  await checkFees(part, address, fees.length > 0);
  await checkDeposits(part, address, { depositMin, granted: deposits.reduce((sum, { amount }) => sum + amount, 0n) });
  for (const grant of deposits) tellGrant(part, `deposits paid by ${grant.granter}`, grant);
  for (const grant of fees) tellGrant(part, `fees paid by ${grant.granter}`, grant);
  for (const { pool, address: to } of pools) await checkPool(part, { pool, from: address, to });
}

async function checkFees({ chain, findings }: CheckupPart, address: string, granted: boolean): Promise<void> {
  const uakt = await chain.queries.balance(address, 'uakt');
  const detail = `${formatMicro(uakt, 'uakt')} for fees`;
  if (uakt === 0n && !granted)
    findings.fail('balance AKT', detail, 'send it AKT: every transaction costs some thousandths');
  else if (uakt < UAKT_WARN && !granted) findings.warn('balance AKT', detail, 'send it more AKT');
  else findings.ok('balance AKT', detail);
}

async function checkDeposits(
  { chain, findings, denom }: CheckupPart,
  address: string,
  { depositMin, granted }: { readonly depositMin: Micro | null; readonly granted: Micro },
): Promise<void> {
  const held = await chain.queries.balance(address, denom);
  const least = depositMin ?? 1n;
  const name = `balance ${formatMicro(0n, denom).replace(/^0 /, '')}`;
  const detail = `${formatMicro(held, denom)} for deposits${granted > 0n ? `, and ${formatMicro(granted, denom)} of grants` : ''}`;
  if (held + granted < least)
    findings.fail(name, detail, 'no order can be paid: mint ACT from AKT, or have deposits granted');
  else if (held + granted < least * ORDERS_WARN)
    findings.warn(name, detail, `enough for ${(held + granted) / least} orders`);
  else findings.ok(name, detail);
}

/** A pool's wallet that holds nothing: what the treasury lets it spend. The gateway renews both while it runs. */
async function checkPool(
  part: CheckupPart,
  { pool, from, to }: { readonly pool: string; readonly from: string; readonly to: string },
): Promise<void> {
  const { chain, denom } = part;
  const [deposits, fees] = [await chain.queries.depositGrant(from, to, denom), await chain.queries.feeGrant(from, to)];
  const missing = 'the gateway makes it when it starts';
  if (deposits) tellGrant(part, `pool ${pool}: deposits of ${to}`, deposits);
  else part.findings.warn(`pool ${pool}`, `${to} may pay no deposits out of the treasury`, missing);
  if (fees) tellGrant(part, `pool ${pool}: fees of ${to}`, fees);
  else part.findings.warn(`pool ${pool}`, `nobody pays the fees of ${to}`, missing);
}

function tellGrant({ findings, clock, denom }: CheckupPart, name: string, grant: DepositGrant | FeeGrant): void {
  const unit = name.includes('fees') ? 'uakt' : denom;
  const amount = grant.amount === null ? 'no limit' : formatMicro(grant.amount, unit);
  const detail = `${amount}, ${describeEnd(grant.untilMs)}`;
  const leftMs = grant.untilMs === null ? Infinity : grant.untilMs - clock.now();
  if (leftMs <= 0) findings.warn(name, detail, 'it has ended: have it granted again');
  else if (grant.amount === 0n) findings.warn(name, detail, 'it is used up: have it granted again');
  else if (leftMs < GRANT_DAYS_WARN * DAY_MS) findings.warn(name, detail, 'it ends soon: have it granted again');
  else findings.ok(name, detail);
}

function describeEnd(untilMs: EpochMs | null): string {
  return untilMs === null ? 'without end' : `until ${new Date(untilMs).toISOString().slice(0, 16)}Z`;
}
