import { Hono } from 'hono';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config.ts';
import { AppError } from '../errors.ts';
import { failureHeaders } from '../gateway/call.ts';
import type { AppEnv } from '../gateway/deps.ts';
import { errorBody, errorStatus } from '../gateway/openai.ts';
import { remoteFileSystem } from '../store/file-system.ts';
import { awaitDataFolder } from '../store/lock.ts';
import { readLeader } from './leadership.ts';
import { startServer, type RunningServer } from './server.ts';

/** A leader gives a sign of life every two seconds; taking over takes about one. */
const RETRY_AFTER_S = 1;

export interface Standby {
  readonly server: RunningServer;
  /** Resolves with what unlocks the data folder, once whoever had it is gone; null when `signal` ends the wait. */
  lead(signal: AbortSignal): Promise<(() => void) | null>;
}

/**
 * A gateway in waiting: it opens nothing of the data but the lock, answers 503 to everybody, and takes over writer and
 * scheduler together.
 * @throws AppError `setup_failed` where the folder's lock could be had twice
 */
export async function standBy({
  settings,
  clock,
  newId,
}: {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly newId: (prefix: string) => string;
}): Promise<Standby> {
  const { dataDir, host, port, limits } = settings;
  const remote = remoteFileSystem(dataDir);
  if (remote !== null) {
    const why = `a standby needs a local file system, and ${dataDir} is on ${remote}, where two machines may both get a lock`;
    throw new AppError('setup_failed', why);
  }
  let takingOver = false;
  const describe = (): string =>
    takingOver ? 'this gateway is taking over' : 'this gateway stands by while another one leads';
  const server = await startServer(createStandbyApp(dataDir, clock, newId, describe), { host, port, clock, limits });
  const lead = async (signal: AbortSignal): Promise<(() => void) | null> => {
    try {
      const unlock = await awaitDataFolder(dataDir, clock, signal);
      takingOver = true;
      return unlock;
    } catch (error) {
      if (signal.aborted) return null;
      throw error;
    }
  };
  return { server, lead };
}

function createStandbyApp(
  dataDir: string,
  clock: Clock,
  newId: (prefix: string) => string,
  describe: () => string,
): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get('/healthz', (context) => {
    context.header('x-request-id', newId('req-'));
    return context.json({ status: 'ok' });
  });
  app.get('/readyz', (context) => {
    context.header('x-request-id', newId('req-'));
    const leader = readLeader(dataDir);
    // Anybody may ask: where the leader runs is not for them.
    const seenS = leader && Math.max(0, Math.round((clock.now() - Date.parse(leader.beat)) / 1000));
    const known = leader && { leader: { epoch: leader.epoch, seen_s: seenS } };
    context.header('retry-after', String(RETRY_AFTER_S));
    return context.json({ status: 'standby', reason: describe(), ...known }, 503);
  });
  app.all('*', () => {
    const error = new AppError('no_capacity', describe(), { retryAfterS: RETRY_AFTER_S });
    return new Response(errorBody(error), {
      status: errorStatus(error),
      headers: failureHeaders(error, newId('req-')),
    });
  });
  return app;
}
