import { lookup } from 'node:dns/promises';
import { dirname } from 'node:path';
import process from 'node:process';
import { Agent } from 'undici';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config.ts';
import type { AkashMarketSettings } from '../config/akash.ts';
import { resolveSecret } from '../config/secret-references.ts';
import type { Ledger } from '../ledger/operations.ts';
import { microUp, NANO_PER_MICRO } from '../leases/akash/amounts.ts';
import type { MintRules } from '../leases/akash/mint-plan.ts';
import { Chain } from '../leases/akash/chain.ts';
import { AkashMarket } from '../leases/akash/market.ts';
import { AkashRecords } from '../leases/akash/records.ts';
import { TreasuryRecords } from '../leases/akash/treasury-records.ts';
import type { DisputeRecords } from '../leases/dispute-records.ts';
import { MarketRecords } from '../leases/records.ts';
import { systemRandom } from '../random.ts';
import type { Store } from '../store/open.ts';
import { openKeyring } from './akash-keyring.ts';
import { leaseKeys } from './secrets.ts';

export interface AkashDeps {
  readonly settings: Settings;
  readonly store: Store;
  readonly disputes: DisputeRecords;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly log: (line: string) => void;
}

/** Providers of the emulated network start their own model server, whatever the image. */
const DEVNET_IMAGE = `devnet@sha256:${'0'.repeat(64)}`;

/**
 * Without a node of its chain it is opened all the same, and joins later.
 * @throws AppError `setup_failed` with a sentence that says what to do
 */
export async function openAkash(deps: AkashDeps, akash: AkashMarketSettings): Promise<AkashMarket> {
  const { settings, store, ledger, clock, log } = deps;
  const pools = settings.pools.filter(({ markets }) => markets?.includes('akash') ?? true).map(({ id }) => id);
  const keyring = await openKeyring(akash, pools, clock);
  const market = new AkashMarket({
    newChain: (signal) =>
      new Chain({
        rpc: akash.rpc,
        chainId: akash.chainId,
        denom: akash.denom,
        gasPriceNano: akash.gasPriceNano,
        feeMaxUakt: akash.feeMaxUakt,
        lifeMs: akash.transactionMs,
        pollMs: akash.pollMs,
        dispatcher: new Agent({ connect: { timeout: CONNECT_MS } }),
        ...{ clock, random: systemRandom, signal, log },
      }),
    pollMs: akash.pollMs,
    rules: {
      denom: akash.denom,
      orderDeposit: akash.orderDepositNanoUsd === null ? null : microUp(akash.orderDepositNanoUsd),
      depositsPerHour: microUp(akash.depositsPerHourNanoUsd),
      depositsPerDay: microUp(akash.depositsPerDayNanoUsd),
      feesPerDayUakt: akash.feesPerDayNanoAkt / NANO_PER_MICRO,
      mintsPerDay: microUp(akash.treasury.mintsPerDayNanoUsd),
      mint: mintRules(akash),
      moneyMs: akash.devnet ? 2000 : 30_000,
      sendingMs: akash.transactionMs,
      expose: akash.expose,
      ingressTls: akash.ingressTls,
      auditors: akash.auditors,
      defaultImage: akash.devnet ? DEVNET_IMAGE : null,
      allowPrivate: akash.allowPrivate,
      walletPerPool: akash.walletPerPool,
    },
    grants: { deposits: microUp(akash.grantNanoUsd), feesUakt: akash.grantFeesUakt, lifeMs: akash.grantMs },
    keyring,
    pools,
    records: new AkashRecords(store),
    treasuryRecords: new TreasuryRecords(store),
    disputes: deps.disputes,
    marketRecords: new MarketRecords(store),
    ledger,
    clock,
    resolve: (hostname) => lookup(hostname, { all: true }),
    leaseKey: leaseKeys(settings.dataDir),
    secretOf: (reference) => readSecret(reference, settings),
    log,
  });
  await market.open();
  return market;
}

/** Read for each order: what was put in a secret's place meanwhile goes with the next lease. */
export function readSecret(reference: string, { configFile }: Settings): string | null {
  const folder = configFile === null ? process.cwd() : dirname(configFile);
  const found = resolveSecret(reference, { env: process.env, folder });
  return typeof found === 'string' ? null : found.reveal();
}

const CONNECT_MS = 5000;

function mintRules({ treasury }: AkashMarketSettings): MintRules {
  return {
    on: treasury.mint,
    hoursMin: treasury.hoursMin,
    hoursMax: treasury.hoursMax,
    leastPerHour: microUp(treasury.leastNanoUsdPerHour),
    stockMax: microUp(treasury.stockMaxNanoUsd),
    spreadMaxBp: treasury.spreadMaxBp,
    reserveUakt: treasury.reserveNanoAkt / NANO_PER_MICRO,
  };
}
