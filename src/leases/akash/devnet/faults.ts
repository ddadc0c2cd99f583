/** What can be made to go wrong, by name, at any time; what providers do, also with one of them alone. */
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

/** Those that can be one provider's alone. */
const OF_PROVIDERS: ReadonlySet<FaultName> = new Set([
  'no-bids',
  'slow-bids',
  'wrong-gpu',
  'manifest-refused',
  'dark-provider',
  'provider-gone',
  'wrong-certificate',
  'lease-closed',
  'reclamation-started',
]);

export interface Fault {
  readonly name: FaultName;
  /** Null: of the network, or of all providers. */
  readonly provider: string | null;
}

/** `provider-gone` or `provider-gone=prairie`; null when there is no such fault, or no provider can have it alone. */
export function readFault(text: string): Fault | null {
  const [name = '', provider = null] = text.split('=', 2);
  if (!isFault(name) || (provider !== null && (provider === '' || !OF_PROVIDERS.has(name)))) return null;
  return { name, provider };
}

const keyOf = ({ name, provider }: Fault): string => (provider === null ? name : `${name}=${provider}`);

/** The switches as they stand. */
export class Faults {
  readonly #on = new Map<string, Fault>();
  readonly #listeners: ((fault: Fault, on: boolean) => void)[] = [];

  /** Whether it is on for all, or for that provider. */
  has(name: FaultName, provider: string | null = null): boolean {
    return this.#on.has(name) || (provider !== null && this.#on.has(`${name}=${provider}`));
  }

  set(name: FaultName, on: boolean, provider: string | null = null): void {
    const fault = { name, provider };
    const key = keyOf(fault);
    if (on === this.#on.has(key)) return;
    if (on) this.#on.set(key, fault);
    else this.#on.delete(key);
    for (const listener of this.#listeners) listener(fault, on);
  }

  onChange(listener: (fault: Fault, on: boolean) => void): void {
    this.#listeners.push(listener);
  }

  /** As they are written: `no-bids`, `provider-gone=prairie`. */
  list(): string[] {
    return [...this.#on.keys()];
  }
}
