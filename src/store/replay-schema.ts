/**
 * Part of version 2. Requests under an Idempotency-Key: in flight with their journaled hold, completed with their charge.
 * `sealed` is the reply, encrypted with a key that is derived from the client's and stored nowhere.
 */
export const REPLAYS = `
CREATE TABLE replays (
  hash TEXT PRIMARY KEY,
  account TEXT NOT NULL,
  body_hash TEXT NOT NULL,
  request TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('in_flight', 'completed')),
  expires_ms INTEGER NOT NULL,
  sealed BLOB
) STRICT;
CREATE INDEX replays_expiry ON replays (expires_ms) WHERE state = 'completed';
CREATE INDEX replays_kept ON replays (expires_ms) WHERE sealed IS NOT NULL;
CREATE INDEX replays_account ON replays (account);
`;
