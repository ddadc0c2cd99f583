import {
  EMPTY_FLEET,
  quarantineMs,
  scoreProvider,
  type ExplainedScore,
  type ScoreInput,
} from '../../src/scheduler/reputation.ts';
import {
  newRecord,
  withFailure,
  withService,
  withStart,
  type FailureCause,
  type StartUp,
  type TrackRecord,
} from '../../src/scheduler/track-record.ts';

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

export function startAt(atMs: number, startMs = 30_000, pool = 'tiny'): StartUp {
  return { pool, atMs, bidMs: 1000, choiceMs: 2000, imageMs: 10_000, weightsMs: 5000, loadMs: 15_000, startMs };
}

export function fail(record: TrackRecord, cause: FailureCause, atMs: number, servedMs = 0): TrackRecord {
  return withFailure(record, { cause, atMs, reason: 'a test', servedMs }, quarantineMs);
}

/** Start-ups that went well, those that did not, and hours of service with losses, all at once. */
export function recordWith(of: {
  started?: number;
  failed?: number;
  hours?: number;
  lost?: number;
  atMs?: number;
}): TrackRecord {
  const { started = 0, failed = 0, hours = 0, lost = 0, atMs = 0 } = of;
  let record: TrackRecord = { ...newRecord('akash', 'someone', atMs), won: started + failed };
  for (let n = 0; n < started; n += 1) record = withStart(record, startAt(atMs));
  for (let n = 0; n < failed; n += 1) record = fail(record, 'not_ready', atMs);
  record = withService(record, hours * HOUR, atMs);
  for (let n = 0; n < lost; n += 1) record = fail(record, 'silent', atMs, HOUR);
  return record;
}

export function scoreOf(record: TrackRecord | null, change: Partial<ScoreInput> = {}): ExplainedScore {
  return scoreProvider({
    record,
    fleet: EMPTY_FLEET,
    pool: 'tiny',
    poolStartMs: null,
    nowMs: record?.atMs ?? 0,
    ...change,
  });
}
