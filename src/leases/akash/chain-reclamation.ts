import { BinaryWriter } from 'cosmjs-types/binary';
import type { Ms } from '../../units.ts';

/**
 * `reclamation` of MsgCreateDeployment (AEP-82), which chain-sdk 1.0.0-alpha.25 lacks: field 5, a message whose field 1,
 * `min_window`, is a google.protobuf.Duration, whose field 1 has the seconds.
 */
const RECLAMATION = 5;
const INNER = 1;
const DELIMITED = 2;

/** Nothing where none is asked for. */
export function encodeReclamation(windowMs: Ms | null): Uint8Array {
  if (windowMs === null) return new Uint8Array();
  const duration = new BinaryWriter();
  duration.uint32(INNER << 3).int64(BigInt(Math.ceil(windowMs / 1000)));
  const message = new BinaryWriter();
  message.uint32((INNER << 3) | DELIMITED).bytes(duration.finish());
  const field = new BinaryWriter();
  return field
    .uint32((RECLAMATION << 3) | DELIMITED)
    .bytes(message.finish())
    .finish();
}
