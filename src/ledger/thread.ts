import { hash } from 'node:crypto';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { openSql } from '../store/libsql.ts';
import { bigintOf } from '../store/sql.ts';
import { checkLedger } from './check.ts';
import { sumMargin } from './margin-sums.ts';
import { JournalFile, LEDGER_FILE, unpackBatch, type ThreadMessage } from './journal-file.ts';

/** The thread that has the ledger's disk on Node. Any error here ends the process: memory and disk may no longer agree. */

const CANARY_MS = 250;
/**
 * Pages of the log, 16 MB, that are copied into the file at a time, while everybody waits for the commit. By SQLite's own
 * 1,000 that was seven times a second under load, mostly the same pages.
 */
const CHECKPOINT_PAGES = 4000;

interface Start {
  readonly dataDir: string;
  /** 'check': only run the check, on a connection that cannot write. */
  readonly task: 'write' | 'check' | 'margin';
  readonly fromMs?: number;
  readonly toMs?: number;
  /** Of the book that decides what is written. */
  readonly epoch?: number;
}

const STORED_SEQ =
  'SELECT MAX((SELECT COALESCE(MAX(seq), 0) FROM transfers), (SELECT COALESCE(MAX(seq), 0) FROM usage)) AS seq';

function write({ dataDir, epoch }: Start): void {
  const port = parentPort;
  if (!port) throw new Error('the ledger writer runs as a worker thread');
  const path = join(dataDir, LEDGER_FILE);
  const sql = openSql(path, { busyMs: 5000 });
  sql.exec(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
  const file = new JournalFile(sql, epoch, (bytes) => hash('sha256', bytes, 'buffer'));
  const reader = openSql(path, { readonly: true });
  let seen = file.seq;
  // A statement left open by SQLITE_BUSY makes libSQL acknowledge writes that never reach the file. Another connection sees
  // what is really there.
  const canary = (): void => {
    if (file.seq === seen) return;
    seen = file.seq;
    if (bigintOf(reader.all(STORED_SEQ)[0], 'seq') !== seen)
      throw new Error('the ledger acknowledged rows that are not on disk');
  };
  const watching = setInterval(canary, CANARY_MS);
  port.on('message', (message: ThreadMessage) => {
    if (message !== 'close') {
      file.write(unpackBatch(message));
      port.postMessage('stored');
      return;
    }
    clearInterval(watching);
    canary();
    reader.close();
    sql.close();
    port.close();
  });
  port.postMessage('ready');
}

function check(dataDir: string): void {
  const sql = openSql(join(dataDir, LEDGER_FILE), { readonly: true, busyMs: 5000 });
  const report = checkLedger(sql);
  sql.close();
  parentPort?.postMessage(report);
}

function margin({ dataDir, fromMs = 0, toMs = 0 }: Start): void {
  const sql = openSql(join(dataDir, LEDGER_FILE), { readonly: true, busyMs: 5000 });
  const sums = sumMargin(sql, fromMs, toMs);
  sql.close();
  parentPort?.postMessage(sums);
}

const start = workerData as Start | null;
if (parentPort && start) {
  if (start.task === 'write') write(start);
  else if (start.task === 'margin') margin(start);
  else check(start.dataDir);
}
