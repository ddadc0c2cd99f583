import { closeSync, fdatasyncSync, openSync, readFileSync, statfsSync, writeSync } from 'node:fs';
import { arch, availableParallelism, cpus, platform, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { median } from './benchmark.ts';

export interface Machine {
  readonly cpu_model: string;
  readonly cores: number;
  readonly memory_gib: number;
  readonly os: string;
  readonly node: string;
  /** fdatasync after an append of 512 bytes, on the disk the data folders are on. */
  readonly fsync_p50_us: number;
}

/** Blocks for about `FSYNCS` times the disk's fsync; writes one file into `folder`. */
export function describeMachine(folder: string): Machine {
  return {
    cpu_model: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memory_gib: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    os: `${platform()} ${release()} ${arch()}`,
    node: process.version,
    fsync_p50_us: Math.round(measureFsync(folder)),
  };
}

const FSYNCS = 200;
const FSYNC_BUDGET_MS = 3000;

function measureFsync(folder: string): number {
  const file = openSync(join(folder, 'fsync-probe'), 'a');
  const bytes = Buffer.alloc(512, 1);
  const took: number[] = [];
  const until = performance.now() + FSYNC_BUDGET_MS;
  try {
    while (took.length < FSYNCS && performance.now() < until) {
      writeSync(file, bytes);
      const start = performance.now();
      fdatasyncSync(file);
      took.push((performance.now() - start) * 1000);
    }
  } finally {
    closeSync(file);
  }
  return median(took);
}

const TMPFS_MAGIC = 0x01021994;

/** Where temporary data folders go: a tmpfs has no fsync to wait for and would flatter a ledger. */
export function temporaryParent(): string {
  for (const folder of [tmpdir(), '/var/tmp']) {
    try {
      if (statfsSync(folder).type !== TMPFS_MAGIC) return folder;
    } catch {
      // Not there: the next one.
    }
  }
  return tmpdir();
}

export interface CpuTimes {
  readonly allUs: number;
  readonly idleUs: number;
  /** Given to other machines by the hypervisor. */
  readonly stolenUs: number;
}

/** All cores' time so far. */
export function readCpuTimes(): CpuTimes {
  try {
    const line = readFileSync('/proc/stat', 'latin1').split('\n')[0] ?? '';
    // man 5 proc: user nice system idle iowait irq softirq steal; what follows is counted in user already.
    const times = line
      .split(/ +/)
      .slice(1, 9)
      .map((ticks) => Number(ticks) * US_PER_TICK);
    const [, , , idle = 0, iowait = 0, , , stolen = 0] = times;
    return { allUs: times.reduce((sum, us) => sum + us, 0), idleUs: idle + iowait, stolenUs: stolen };
  } catch {
    return { allUs: 0, idleUs: 0, stolenUs: 0 };
  }
}

/** USER_HZ is 100 on every architecture Node runs on. */
export const US_PER_TICK = 10_000;
