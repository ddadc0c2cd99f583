import process from 'node:process';
import { statfsSync } from 'node:fs';

/** Linux' magic numbers (statfs(2)) of file systems whose locks two machines, or one and its guest, may both come to hold. */
const REMOTE: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x01021997, '9p'],
]);

/** The name of the network file system that a folder lies on; null for a local one, or one that is not known. */
export function remoteFileSystem(folder: string): string | null {
  // Elsewhere the numbers mean other things.
  if (process.platform !== 'linux') return null;
  // As libuv has it, the number may come with its sign spread over 64 bits.
  return REMOTE.get(Number(BigInt.asUintN(32, statfsSync(folder, { bigint: true }).type))) ?? null;
}
