import { join } from 'node:path';
import type { Clock } from '../clock.ts';
import { hashKey, hintOf, newKey, type Keys } from '../gateway/auth.ts';
import { UNLIMITED } from '../ledger/access.ts';
import type { Ledger } from '../ledger/operations.ts';
import type { RandomBytes } from '../random.ts';
import { parseUsd } from '../units.ts';
import { secretFile } from './secrets.ts';

const DEMO = 'demo';

/**
 * The first start's account, with promo credit and a key to copy. Every step can be repeated: a crash in between leaves
 * nothing half done at the next start.
 * @returns the key when it was made now, to be shown once
 */
export async function openDemo(options: {
  readonly ledger: Ledger;
  readonly keys: Keys;
  readonly dataDir: string;
  readonly clock: Clock;
  readonly random: RandomBytes;
}): Promise<string | null> {
  const { ledger, keys, dataDir, clock, random } = options;
  const customers = await ledger.ask({ op: 'customers' });
  if (customers.length > 0 && !customers.some(({ id }) => id === DEMO)) return null;
  const atMs = clock.now();
  await ledger.ask({ op: 'customer', id: DEMO, name: DEMO, atMs });
  const grant = { id: 'grant-demo-welcome', customer: DEMO, kind: 'promo' as const, amount: parseUsd('5.00') };
  await ledger.ask({ op: 'grant', ...grant, expiresMs: null, actor: 'gateway', reason: 'welcome credit', atMs });
  const known = (await ledger.ask({ op: 'keys' })).some(({ id }) => id === 'key-demo');
  if (known) return null;
  const { value } = secretFile(join(dataDir, 'demo.key'), () => newKey(random));
  const record = {
    id: 'key-demo',
    hash: hashKey(value),
    hint: hintOf(value),
    customer: DEMO,
    name: 'first key',
    settings: UNLIMITED,
  };
  await ledger.ask({ op: 'key', ...record, atMs });
  await keys.refresh();
  return value;
}
