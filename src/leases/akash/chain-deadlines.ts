import { BinaryReader } from 'cosmjs-types/binary';
import type { EpochMs } from '../../units.ts';

/**
 * Leases that their providers take back (AEP-82), which chain-sdk 1.0.0-alpha.25 does not read: field 7 of a lease is its
 * reclamation, whose field 3 is the deadline in seconds since 1970. chain-sdk proto/node/akash/market/v1.
 */
const DELIMITED = 2;
const OF_LEASE = 7;

/** Of each lease of a QueryLeasesResponse, in its order: when it ends, or null when nobody takes it back. */
export function readDeadlines(response: Uint8Array): (EpochMs | null)[] {
  return delimited(response, 1).map((row) => {
    const [lease = NONE] = delimited(row, 1);
    const reclamation = delimited(lease, OF_LEASE).at(-1);
    const deadlineS = reclamation === undefined ? 0n : varint(reclamation, 3);
    return deadlineS > 0n ? Number(deadlineS) * 1000 : null;
  });
}

const NONE = new Uint8Array();

function delimited(message: Uint8Array, number: number): Uint8Array[] {
  const reader = new BinaryReader(message);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === ((number << 3) | DELIMITED)) found.push(reader.bytes());
    else reader.skipType(tag & 7);
  }
  return found;
}

function varint(message: Uint8Array, number: number): bigint {
  const reader = new BinaryReader(message);
  let value = 0n;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === number << 3) value = reader.int64();
    else reader.skipType(tag & 7);
  }
  return value;
}
