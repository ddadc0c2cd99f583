import { NEW_PROVIDER, type MarketRecords, type ProviderRecord } from '../records.ts';

/** What each provider of the embedded market did: read once, written with every change. */
export class ProviderRecords {
  readonly #records: MarketRecords;
  #known = new Map<string, ProviderRecord>();

  constructor(records: MarketRecords) {
    this.#records = records;
  }

  async open(): Promise<void> {
    this.#known = await this.#records.providers();
  }

  find(provider: string): ProviderRecord {
    return this.#known.get(provider) ?? NEW_PROVIDER;
  }

  async count(provider: string, what: keyof ProviderRecord): Promise<void> {
    const before = this.find(provider);
    const record = { ...before, [what]: before[what] + 1 };
    this.#known.set(provider, record);
    await this.#records.saveProvider(provider, record);
  }
}
