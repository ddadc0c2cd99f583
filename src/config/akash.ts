import { formatUsd, parseUsd, type Ms, type NanoUsd } from '../units.ts';
import type { DevnetFile } from './devnet-file.ts';
import type { FileSettings } from './schema.ts';
import type { Secret } from './secret.ts';

export interface AkashMarketSettings {
  readonly rpc: readonly string[];
  /** A mnemonic or a private key; null: a signer has it. */
  readonly key: Secret | null;
  /** A program that holds the key. */
  readonly signer: { readonly url: string; readonly key: Secret | null } | null;
  /** Null: that of the first node that answers. */
  readonly chainId: string | null;
  readonly denom: string;
  /** uakt per unit of gas, in billionths. */
  readonly gasPriceNano: bigint;
  readonly feeMaxUakt: bigint;
  /** Null: the chain's least. */
  readonly orderDepositNanoUsd: NanoUsd | null;
  readonly depositsPerHourNanoUsd: NanoUsd;
  readonly depositsPerDayNanoUsd: NanoUsd;
  /** In billionths of an AKT. */
  readonly feesPerDayNanoAkt: bigint;
  readonly treasury: AkashTreasurySettings;
  readonly transactionMs: Ms;
  readonly pollMs: Ms;
  readonly expose: 'port' | 'ingress' | 'ip';
  readonly ingressTls: boolean;
  readonly auditors: readonly string[];
  readonly allowPrivate: boolean;
  readonly walletPerPool: boolean;
  readonly grantNanoUsd: NanoUsd;
  readonly grantFeesUakt: bigint;
  readonly grantMs: Ms;
  /** The emulated network: its providers look at no image, and are on this machine. */
  readonly devnet: boolean;
}

export interface AkashTreasurySettings {
  readonly mint: boolean;
  readonly hoursMin: number;
  readonly hoursMax: number;
  readonly leastNanoUsdPerHour: NanoUsd;
  readonly stockMaxNanoUsd: NanoUsd;
  readonly mintsPerDayNanoUsd: NanoUsd;
  readonly spreadMaxBp: number;
  /** In billionths of an AKT. */
  readonly reserveNanoAkt: bigint;
}

type AkashFile = NonNullable<FileSettings['markets']['akash']>;

const DAY_MS = 86_400_000;

/** Null when there is no key: a mistake that was reported. */
export function buildAkashMarket(
  akash: AkashFile,
  { secrets, devnet }: { readonly secrets: ReadonlyMap<string, Secret>; readonly devnet: DevnetFile | null },
): AkashMarketSettings | null {
  const reference = akash.key ?? (akash.keyfile === undefined ? null : `file:${akash.keyfile}`);
  const key = devnet?.key ?? (reference === null ? undefined : secrets.get(reference)) ?? null;
  const rpc = devnet?.rpc ?? akash.rpc;
  const { signer } = akash;
  if ((!key && !signer) || !rpc) return null;
  return {
    rpc,
    key,
    signer: signer ? { url: signer.url, key: secrets.get(signer.key ?? '') ?? null } : null,
    chainId: devnet?.chainId ?? akash.chain_id ?? null,
    denom: akash.denom,
    gasPriceNano: parseUsd(akash.gas_price),
    feeMaxUakt: BigInt(akash.fee_max_uakt),
    orderDepositNanoUsd: akash.order_deposit_usd === undefined ? null : parseUsd(akash.order_deposit_usd),
    depositsPerHourNanoUsd: parseUsd(akash.deposits_max_usd_per_hour),
    depositsPerDayNanoUsd: parseUsd(akash.deposits_max_usd_per_day),
    feesPerDayNanoAkt: parseUsd(akash.fees_max_akt_per_day),
    treasury: buildTreasury(akash.treasury, devnet !== null),
    transactionMs: akash.transaction_s * 1000,
    pollMs: devnet ? Math.min(akash.poll_ms, 250) : akash.poll_ms,
    expose: akash.expose,
    ingressTls: akash.ingress_tls && !devnet,
    auditors: devnet?.auditors ?? akash.auditors,
    allowPrivate: akash.allow_private || devnet !== null,
    walletPerPool: akash.wallets === 'per_pool',
    grantNanoUsd: parseUsd(akash.grant_usd),
    grantFeesUakt: BigInt(akash.grant_fees_uakt),
    grantMs: akash.grant_days * DAY_MS,
    devnet: devnet !== null,
  };
}

/** Minting is asked for on a real network: it burns AKT at a price that nobody here has agreed to. */
function buildTreasury(treasury: AkashFile['treasury'], devnet: boolean): AkashTreasurySettings {
  return {
    mint: treasury.mint ?? devnet,
    hoursMin: treasury.hours_min,
    hoursMax: treasury.hours_max,
    leastNanoUsdPerHour: parseUsd(treasury.least_usd_per_hour),
    stockMaxNanoUsd: parseUsd(treasury.act_max_usd),
    mintsPerDayNanoUsd: parseUsd(treasury.mint_max_usd_per_day),
    spreadMaxBp: treasury.spread_max_bp,
    reserveNanoAkt: parseUsd(treasury.akt_reserve),
  };
}

function describeTreasury(treasury: AkashTreasurySettings): unknown {
  return {
    mint: treasury.mint,
    hours_min: treasury.hoursMin,
    hours_max: treasury.hoursMax,
    least_usd_per_hour: formatUsd(treasury.leastNanoUsdPerHour),
    act_max_usd: formatUsd(treasury.stockMaxNanoUsd),
    mint_max_usd_per_day: formatUsd(treasury.mintsPerDayNanoUsd),
    spread_max_bp: treasury.spreadMaxBp,
    akt_reserve: formatUsd(treasury.reserveNanoAkt),
  };
}

/** In the file's shape. */
export function describeAkash(akash: AkashMarketSettings): unknown {
  return {
    rpc: akash.rpc,
    ...(akash.key === null ? {} : { key: String(akash.key) }),
    ...(akash.signer === null
      ? {}
      : { signer: { url: akash.signer.url, ...(akash.signer.key ? { key: String(akash.signer.key) } : {}) } }),
    ...(akash.chainId === null ? {} : { chain_id: akash.chainId }),
    denom: akash.denom,
    gas_price: formatUsd(akash.gasPriceNano),
    fee_max_uakt: Number(akash.feeMaxUakt),
    ...(akash.orderDepositNanoUsd === null ? {} : { order_deposit_usd: formatUsd(akash.orderDepositNanoUsd) }),
    deposits_max_usd_per_hour: formatUsd(akash.depositsPerHourNanoUsd),
    deposits_max_usd_per_day: formatUsd(akash.depositsPerDayNanoUsd),
    fees_max_akt_per_day: formatUsd(akash.feesPerDayNanoAkt),
    treasury: describeTreasury(akash.treasury),
    transaction_s: akash.transactionMs / 1000,
    poll_ms: akash.pollMs,
    expose: akash.expose,
    ingress_tls: akash.ingressTls,
    auditors: akash.auditors,
    allow_private: akash.allowPrivate,
    wallets: akash.walletPerPool ? 'per_pool' : 'one',
    grant_usd: formatUsd(akash.grantNanoUsd),
    grant_fees_uakt: Number(akash.grantFeesUakt),
    grant_days: akash.grantMs / DAY_MS,
  };
}
