import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../clock.ts';
import { openSql } from '../store/libsql.ts';
import { bigintOf } from '../store/sql.ts';
import { Book } from './book.ts';
import { checkLedger } from './check.ts';
import { Writer, type Question } from './writer.ts';

/** The writer's own thread on Node. Any error here ends the process: memory and disk may no longer agree. */

export const LEDGER_FILE = 'ledger.db';
const TICK_MS = 250;

interface Start {
  readonly dataDir: string;
  /** 'check': only run the check, on a connection that cannot write. */
  readonly task: 'write' | 'check';
}

function write(dataDir: string): void {
  const port = parentPort;
  if (!port) throw new Error('the ledger writer runs as a worker thread');
  const path = join(dataDir, LEDGER_FILE);
  const sql = openSql(path, { busyMs: 5000 });
  const book = new Book(sql, systemClock.now());
  const reader = openSql(path, { readonly: true });
  const writer = new Writer({
    book,
    clock: systemClock,
    answer: (answers) => port.postMessage(answers),
    later: (work) => void setImmediate(work),
    storedSeq: () =>
      bigintOf(
        reader.all(
          'SELECT MAX((SELECT COALESCE(MAX(seq), 0) FROM transfers), (SELECT COALESCE(MAX(seq), 0) FROM usage)) AS seq',
        )[0],
        'seq',
      ),
  });
  const ticking = setInterval(() => writer.tick(), TICK_MS);
  port.on('message', (message: readonly Question[] | 'close') => {
    if (message !== 'close') {
      writer.push(message);
      return;
    }
    clearInterval(ticking);
    writer.drain();
    writer.tick();
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

const start = workerData as Start | null;
if (parentPort && start) {
  if (start.task === 'write') write(start.dataDir);
  else check(start.dataDir);
}
