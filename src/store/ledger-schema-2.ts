/** Version 2: spend windows, projects, rotation, freezing, admin keys with roles, the audit log, deposits. */
export const KEYS_AND_ADMINS = `
-- When the request's hold was made: the window of a spend limit that it counts into. NULL in rows of version 1.
ALTER TABLE usage ADD COLUMN held_ms INTEGER;

ALTER TABLE customers ADD COLUMN frozen_reason TEXT;
ALTER TABLE customers ADD COLUMN frozen_ms INTEGER;

-- root: the first key of a chain of rotations, whose spending all of them share; NULL: the key itself.
ALTER TABLE api_keys ADD COLUMN root TEXT REFERENCES api_keys (id);
-- A key that was rotated works until ends_ms; replaced_by took its place.
ALTER TABLE api_keys ADD COLUMN ends_ms INTEGER;
ALTER TABLE api_keys ADD COLUMN replaced_by TEXT;

CREATE TABLE projects (
  customer TEXT NOT NULL REFERENCES customers (id),
  name TEXT NOT NULL,
  spend_limit INTEGER CHECK (spend_limit >= 0),
  reset TEXT NOT NULL CHECK (reset IN ('none', 'day', 'week', 'month')),
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (customer, name)
) STRICT;

CREATE TABLE admin_keys (
  id TEXT PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  hint TEXT NOT NULL,
  name TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('operator', 'finance', 'read-only')),
  at_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  revoked_ms INTEGER
) STRICT;

-- Who did what: outcome is 'ok' or the code of the refusal. Its own numbering, without gaps; no secrets in detail.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  admin TEXT NOT NULL,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT,
  detail TEXT NOT NULL,
  request TEXT NOT NULL,
  outcome TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- INSERT OR REPLACE fires no delete trigger: this also keeps a row from being replaced.
CREATE TRIGGER audit_in_order BEFORE INSERT ON audit WHEN NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit)
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- A deposit's transfer has the id deposit:REFERENCE, its way out of suspense assign:REFERENCE.
CREATE INDEX transfers_deposits ON transfers (type) WHERE type IN ('deposit', 'deposit_assign');
`;
