import { readdirSync, readFileSync } from 'node:fs';
import { readCpu, type CpuUse } from './child.ts';

/** A program and all it has started that still runs: some gateways are several processes. */
export function processTree(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const [child, parent] of readParents()) children.set(parent, [...(children.get(parent) ?? []), child]);
  const tree = [pid];
  for (const member of tree) tree.push(...(children.get(member) ?? []));
  return tree;
}

/** Of all of them together; `mainThreadUs` is the first one's. */
export function readCpuOf(pids: readonly number[]): CpuUse {
  const uses = pids.map((pid) => readCpu(pid));
  return {
    processUs: uses.reduce((sum, use) => sum + use.processUs, 0),
    mainThreadUs: uses[0]?.mainThreadUs ?? 0,
  };
}

/** Resident memory of all of them; what processes share is counted for each. 0 where there is no /proc. */
export function readRssMib(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + readRssKib(pid), 0) / 1024;
}

function readRssKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readProc(`/proc/${pid}/status`))?.[1] ?? 0);
}

function readParents(): [number, number][] {
  return listProc().flatMap((name) => {
    const parent = /^PPid:\s+(\d+)/m.exec(readProc(`/proc/${name}/status`))?.[1];
    return parent === undefined ? [] : [[Number(name), Number(parent)]];
  });
}

function listProc(): string[] {
  try {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
}

function readProc(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // Ended since it was listed.
    return '';
  }
}
