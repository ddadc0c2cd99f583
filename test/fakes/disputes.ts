import type { Clock } from '../../src/clock.ts';
import type { Ledger } from '../../src/ledger/operations.ts';
import { WINDOWS } from '../../src/leases/dispute.ts';
import { DisputeRecords } from '../../src/leases/dispute-records.ts';
import type { DisputeParts } from '../../src/leases/local/market.ts';
import { WithheldRent } from '../../src/leases/local/withheld-rent.ts';
import type { Store } from '../../src/store/open.ts';

/** Disputes of an embedded market, with the windows that an operator gets who sets none. */
export function disputeParts(store: Store, ledger: Ledger, clock: Clock): DisputeParts {
  return { records: new DisputeRecords(store), money: new WithheldRent(ledger, clock, 'local'), windows: WINDOWS };
}
