import { readCpu } from './child.ts';
import { readCpuTimes } from './machine.ts';

/** More than this, and requests/s and latencies say more about the neighbours than about the system. */
const QUOTABLE_SHARE = 0.1;

export interface Noise {
  readonly cpu_stolen_share: number;
  readonly cpu_of_other_programs_share: number;
}

/** What took the machine's cores away from the benchmark, between this call and the returned function's. */
export function watchNoise(pids: readonly number[]): () => Noise {
  const readOwnUs = (): number => pids.reduce((sum, pid) => sum + readCpu(pid).processUs, 0);
  const before = readCpuTimes();
  const ownBefore = readOwnUs();
  return () => {
    const after = readCpuTimes();
    const all = Math.max(after.allUs - before.allUs, 1);
    const stolen = after.stolenUs - before.stolenUs;
    const others = all - (after.idleUs - before.idleUs) - stolen - (readOwnUs() - ownBefore);
    const share = (us: number): number => Math.round((Math.max(us, 0) / all) * 1000) / 1000;
    return { cpu_stolen_share: share(stolen), cpu_of_other_programs_share: share(others) };
  };
}

export function describeNoise(noise: Noise): string {
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  const { cpu_of_other_programs_share: others, cpu_stolen_share: stolen } = noise;
  const verdict = others + stolen > QUOTABLE_SHARE ? ': TOO NOISY TO QUOTE, compare systems only' : '';
  return `taken from all cores by other programs: ${percent(others)}, by the hypervisor: ${percent(stolen)}${verdict}`;
}
