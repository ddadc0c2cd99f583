import type { Client } from '@libsql/client';

/**
 * The fence of the records' file. Each opening to write raises its epoch and arms this connection: every write then checks,
 * within its own transaction, that no later opening has raised it again. Triggers of the connection (TEMP) do it, so no
 * statement can forget to, and whoever opens the file later is not bound by them.
 */
const FENCED = 'a later gateway leads: this write was fenced off';

const RAISE = `INSERT INTO leader VALUES (1, 1, '{}', 0) ON CONFLICT DO UPDATE SET epoch = epoch + 1, body = '{}', beat_ms = 0`;

/** @returns the epoch of this opening */
export async function raiseFence(client: Client): Promise<number> {
  const [, read] = await client.batch([RAISE, 'SELECT epoch FROM leader'], 'write');
  const epoch = Number(read?.rows[0]?.[0]);
  const { rows } = await client.execute(
    `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'`,
  );
  for (const table of rows.map((row) => row['name'])) {
    if (typeof table !== 'string') continue;
    for (const write of ['INSERT', 'UPDATE', 'DELETE']) {
      await client.execute(
        `CREATE TEMP TRIGGER fence_${table}_${write} BEFORE ${write} ON main.${table}
           WHEN (SELECT epoch FROM leader) IS NOT ${epoch} BEGIN SELECT RAISE(ABORT, '${FENCED}'); END`,
      );
    }
  }
  return epoch;
}

/** Whether a write failed because another gateway leads by now. */
export function isFenced(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause.message.includes(FENCED)) return true;
  return false;
}
