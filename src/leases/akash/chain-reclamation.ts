import { BinaryReader, BinaryWriter } from 'cosmjs-types/binary';
import type { EpochMs, Ms } from '../../units.ts';

/**
 * Reclamation (AEP-82), which chain-sdk 1.0.0-alpha.25 lacks: a provider that bids with a window may take its machine back,
 * with that much notice. Field numbers: chain-sdk proto/node/akash, deployment/v1beta4/deploymentmsg.proto and
 * market/v1/{lease,reclamation}.proto.
 */
const DELIMITED = 2;
const OF_CREATE = 5;
const OF_LEASE = 7;

/** The least notice that a deployment asks for, to be put behind a MsgCreateDeployment. */
export function encodeReclamation(minWindowMs: Ms): Uint8Array {
  const duration = new BinaryWriter().uint32(8).int64(BigInt(Math.ceil(minWindowMs / 1000)));
  const reclamation = new BinaryWriter().uint32((1 << 3) | DELIMITED).bytes(duration.finish());
  return new BinaryWriter()
    .uint32((OF_CREATE << 3) | DELIMITED)
    .bytes(reclamation.finish())
    .finish();
}

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
