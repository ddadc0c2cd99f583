import type { Clock } from '../../clock.ts';
import type { EpochMs } from '../../units.ts';
import type { ProviderView } from '../market.ts';
import { NEW_PROVIDER, type MarketRecords, type ProviderRecord } from '../records.ts';
import type { Chain } from './chain.ts';
import type { ChainProvider } from './chain-types.ts';
import type { OrderRow } from './records.ts';

const KEPT_MS = 300_000;
const KEPT = 500;

interface Known {
  readonly provider: ChainProvider;
  readonly untilMs: EpochMs;
}

/** Providers that bid for orders of ours: what the chain says of them, and what they did. */
export class AkashProviders {
  readonly #chain: Chain;
  readonly #records: MarketRecords;
  readonly #clock: Clock;
  readonly #known = new Map<string, Known>();
  #did = new Map<string, ProviderRecord>();

  constructor(chain: Chain, records: MarketRecords, clock: Clock) {
    this.#chain = chain;
    this.#records = records;
    this.#clock = clock;
  }

  async open(): Promise<void> {
    this.#did = await this.#records.providers();
  }

  /** Null: the chain has no such provider. */
  async find(owner: string): Promise<ChainProvider | null> {
    const known = this.#known.get(owner);
    if (known && known.untilMs > this.#clock.now()) return known.provider;
    const provider = await this.#chain.provider(owner);
    if (!provider) return known?.provider ?? null;
    this.#known.delete(owner);
    this.#known.set(owner, { provider, untilMs: this.#clock.now() + KEPT_MS });
    const [oldest] = this.#known.keys();
    if (this.#known.size > KEPT && oldest !== undefined) this.#known.delete(oldest);
    return provider;
  }

  /** Those of them that can be had without asking. */
  get known(): ReadonlyMap<string, ChainProvider> {
    return new Map([...this.#known].map(([owner, { provider }]) => [owner, provider]));
  }

  async count(owner: string, what: keyof ProviderRecord): Promise<void> {
    const before = this.#did.get(owner) ?? NEW_PROVIDER;
    const record = { ...before, [what]: before[what] + 1 };
    await this.#records.saveProvider(owner, record);
    this.#did.set(owner, record);
  }

  /** @param live orders of ours, some of them leases that take up their providers' room */
  views(live: readonly OrderRow[], auditors: readonly string[]): ProviderView[] {
    const used = new Map<string, number>();
    for (const { lease } of live) {
      if (lease?.state === 'active') used.set(lease.provider, (used.get(lease.provider) ?? 0) + 1);
    }
    return [...this.#known.values()].map(({ provider }) => ({
      id: provider.owner,
      market: 'akash' as const,
      hardware: { cpu: 0, memoryBytes: 0, gpus: gpusOf(provider) },
      // How much is free, a provider says only by bidding.
      capacity: (used.get(provider.owner) ?? 0) + 1,
      used: used.get(provider.owner) ?? 0,
      policy: 'its own',
      audited: provider.auditors.some((auditor) => auditors.includes(auditor)),
      ...(this.#did.get(provider.owner) ?? NEW_PROVIDER),
    }));
  }
}

function gpusOf({ attributes }: ChainProvider): string[] {
  const models = Object.keys(attributes).map(
    (key) => /^capabilities\/gpu\/vendor\/[^/]+\/model\/([^/]+)/.exec(key)?.[1],
  );
  return [...new Set(models.filter((model) => model !== undefined))].slice(0, 24);
}
