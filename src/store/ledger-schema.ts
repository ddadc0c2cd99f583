import { KEYS_AND_ADMINS } from './ledger-schema-2.ts';
import { WAKE_FEES } from './ledger-schema-3.ts';
import { REPLAYS } from './replay-schema.ts';

/**
 * Tables of the ledger's file. Hand-written, STRICT, integers only: drizzle-kit has neither STRICT tables nor triggers.
 * `seq` runs through transfers and usage together; their hashes make one chain in its order.
 */
const FIRST = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- posted: on the account's natural side (assets and expenses: debits less credits; the others: credits less debits).
-- held: what pending journaled holds reserve. bounded 1: posted - held never falls below zero.
CREATE TABLE accounts (
  no INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('asset', 'liability', 'income', 'expense', 'equity')),
  asset TEXT NOT NULL,
  bounded INTEGER NOT NULL CHECK (bounded IN (0, 1)),
  posted INTEGER NOT NULL,
  held INTEGER NOT NULL CHECK (held >= 0),
  CHECK (bounded = 0 OR posted - held >= 0)
) STRICT;

CREATE TABLE transfers (
  seq INTEGER PRIMARY KEY,
  id TEXT,
  type TEXT NOT NULL,
  debit INTEGER NOT NULL REFERENCES accounts (no),
  credit INTEGER NOT NULL REFERENCES accounts (no),
  amount INTEGER NOT NULL CHECK (amount > 0),
  at_ms INTEGER NOT NULL,
  request TEXT,
  actor TEXT NOT NULL,
  reason TEXT NOT NULL,
  hash BLOB NOT NULL,
  CHECK (debit <> credit)
) STRICT;
CREATE UNIQUE INDEX transfers_id ON transfers (id) WHERE id IS NOT NULL;

-- One row a request, whatever became of it: cost_pico is exact, charged its rounding up, limited to what was held.
CREATE TABLE usage (
  seq INTEGER PRIMARY KEY,
  request TEXT NOT NULL UNIQUE,
  account TEXT NOT NULL,
  key TEXT,
  model TEXT NOT NULL,
  price_version INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL CHECK (input_tokens >= 0),
  cached_tokens INTEGER NOT NULL CHECK (cached_tokens >= 0 AND cached_tokens <= input_tokens),
  output_tokens INTEGER NOT NULL CHECK (output_tokens >= 0),
  cost_pico INTEGER NOT NULL CHECK (cost_pico >= 0),
  held INTEGER NOT NULL,
  charged INTEGER NOT NULL CHECK (charged >= 0 AND charged <= held),
  status TEXT NOT NULL CHECK (status IN ('done', 'length', 'cancelled', 'failed', 'recovered')),
  detail TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT;
CREATE INDEX usage_at ON usage (at_ms);

CREATE TABLE holds (
  request TEXT PRIMARY KEY,
  account TEXT NOT NULL,
  key TEXT,
  model TEXT NOT NULL,
  price_version INTEGER NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  legs TEXT NOT NULL,
  progress TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'settled')),
  epoch INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  deadline_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX holds_pending ON holds (state) WHERE state = 'pending';

CREATE TABLE price_versions (
  version INTEGER PRIMARY KEY,
  model TEXT NOT NULL,
  input_pico INTEGER NOT NULL CHECK (input_pico >= 0),
  cached_input_pico INTEGER NOT NULL CHECK (cached_input_pico >= 0),
  output_pico INTEGER NOT NULL CHECK (output_pico >= 0),
  at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE customers (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  frozen INTEGER NOT NULL CHECK (frozen IN (0, 1)),
  at_ms INTEGER NOT NULL
) STRICT;

-- A lot of credit: drawn in the order promo before paid, then the earliest expiry, then the earliest grant.
CREATE TABLE lots (
  account_no INTEGER PRIMARY KEY REFERENCES accounts (no),
  customer TEXT NOT NULL REFERENCES customers (id),
  kind TEXT NOT NULL CHECK (kind IN ('paid', 'promo')),
  expires_ms INTEGER,
  at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  hint TEXT NOT NULL,
  customer TEXT NOT NULL REFERENCES customers (id),
  name TEXT NOT NULL,
  settings TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  revoked_ms INTEGER
) STRICT;

CREATE TRIGGER transfers_no_update BEFORE UPDATE ON transfers BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END;
CREATE TRIGGER transfers_no_delete BEFORE DELETE ON transfers BEGIN SELECT RAISE(ABORT, 'transfers are append-only'); END;
CREATE TRIGGER usage_no_update BEFORE UPDATE ON usage BEGIN SELECT RAISE(ABORT, 'usage is append-only'); END;
CREATE TRIGGER usage_no_delete BEFORE DELETE ON usage BEGIN SELECT RAISE(ABORT, 'usage is append-only'); END;
CREATE TRIGGER prices_no_update BEFORE UPDATE ON price_versions BEGIN SELECT RAISE(ABORT, 'prices are append-only'); END;
CREATE TRIGGER prices_no_delete BEFORE DELETE ON price_versions BEGIN SELECT RAISE(ABORT, 'prices are append-only'); END;
CREATE TRIGGER holds_once BEFORE UPDATE ON holds WHEN OLD.state <> 'pending'
  BEGIN SELECT RAISE(ABORT, 'a hold is settled once'); END;
CREATE TRIGGER holds_no_delete BEFORE DELETE ON holds BEGIN SELECT RAISE(ABORT, 'holds are kept'); END;
`;

/**
 * Step n brings a file from version n to n + 1; a new file takes all of them. A step that was released is never changed:
 * files that have taken it would not see the change.
 */
export const LEDGER_STEPS: readonly string[] = [FIRST, KEYS_AND_ADMINS + REPLAYS, WAKE_FEES];

export const LEDGER_SCHEMA_VERSION = LEDGER_STEPS.length;
