/** What can be made to go wrong, by name, at any time. A provider's fault may be limited to one provider. */
export const FAULTS = {
  'no-bids': 'providers see orders and make no bid',
  'slow-bids': 'bids come 60 s late',
  'wrong-gpu': 'bids offer another GPU than the order asks for',
  'manifest-refused': 'providers refuse every manifest: 422, "manifest version validation failed"',
  'dark-provider': 'lease and container are up and TCP connects, but no answer ever comes',
  'provider-gone': 'providers refuse connections, and so do their model servers',
  'wrong-certificate': 'providers show a certificate that is not the one on chain',
  'lease-closed': 'providers close each lease right after it was made, with the reason "unstable"',
  'reclamation-started': 'providers start to reclaim each lease that allows it',
  'out-of-gas': 'messages need three times the gas that a simulation says: seen only after inclusion',
  'already-in-cache': 'a broadcast is accepted, but its reply says "tx already exists in cache"',
  'stale-rpc': 'the node answers, its height and all its queries stay where they were',
  'chain-stalled': 'no block comes',
  'mint-cancelled': 'queued mints are cancelled and refunded, while the status says healthy',
  'mint-halted': 'the collateral ratio is too low: mints are refused',
  'escrow-overdrawn': 'escrows of leases lose what they hold, and the provider finds out at once',
} as const;

export type FaultName = keyof typeof FAULTS;

export const FAULT_NAMES = Object.keys(FAULTS) as readonly FaultName[];

export const isFault = (name: string): name is FaultName => Object.hasOwn(FAULTS, name);

/** The switches as they stand. */
export class Faults {
  readonly #on = new Set<FaultName>();
  readonly #listeners: ((name: FaultName, on: boolean) => void)[] = [];

  constructor(on: readonly FaultName[] = []) {
    for (const name of on) this.#on.add(name);
  }

  has(name: FaultName): boolean {
    return this.#on.has(name);
  }

  set(name: FaultName, on: boolean): void {
    if (on === this.#on.has(name)) return;
    if (on) this.#on.add(name);
    else this.#on.delete(name);
    for (const listener of this.#listeners) listener(name, on);
  }

  onChange(listener: (name: FaultName, on: boolean) => void): void {
    this.#listeners.push(listener);
  }

  list(): FaultName[] {
    return FAULT_NAMES.filter((name) => this.#on.has(name));
  }
}
