/**
 * As much of protobuf's wire format as chain-sdk's types leave out: fields that it does not know yet (reclamation,
 * spend_limits, reasons of cancelled mints). Public: https://protobuf.dev/programming-guides/encoding/
 */
export interface WireField {
  readonly number: number;
  /** Of length-delimited fields. */
  readonly bytes: Uint8Array;
  /** Of varints; unsigned. */
  readonly value: bigint;
}

export function readFields(message: Uint8Array): WireField[] {
  const fields: WireField[] = [];
  let at = 0;
  const varint = (): bigint => {
    let [value, shift] = [0n, 0n];
    for (;;) {
      const byte = message[at];
      if (byte === undefined || shift > 63n) throw new RangeError('the message is cut');
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
      shift += 7n;
    }
  };
  const take = (length: number): Uint8Array => {
    if (at + length > message.length) throw new RangeError('the message is cut');
    at += length;
    return message.subarray(at - length, at);
  };
  const none = new Uint8Array();
  while (at < message.length) {
    const tag = varint();
    const [number, type] = [Number(tag >> 3n), Number(tag & 7n)];
    if (type === 0) fields.push({ number, bytes: none, value: varint() });
    else if (type === 2) fields.push({ number, bytes: take(Number(varint())), value: 0n });
    else if (type === 1 || type === 5) fields.push({ number, bytes: take(type === 1 ? 8 : 4), value: 0n });
    else throw new RangeError(`wire type ${type} is not known`);
  }
  return fields;
}

export function lastField(message: Uint8Array, number: number): WireField | undefined {
  return readFields(message).findLast((field) => field.number === number);
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function varintBytes(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 0x80 : low);
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

/** Left out when zero, as proto3 does. */
export function varintField(number: number, value: bigint | number): Uint8Array {
  if (BigInt(value) === 0n) return new Uint8Array();
  return concatBytes(varintBytes(BigInt(number) << 3n), varintBytes(BigInt(value)));
}

/** Written even when it is empty: an empty message says something. */
export function bytesField(number: number, bytes: Uint8Array): Uint8Array {
  return concatBytes(varintBytes((BigInt(number) << 3n) | 2n), varintBytes(BigInt(bytes.length)), bytes);
}

export function textField(number: number, text: string): Uint8Array {
  return text === '' ? new Uint8Array() : bytesField(number, new TextEncoder().encode(text));
}

export function coinField(number: number, coin: { readonly denom: string; readonly amount: bigint }): Uint8Array {
  return bytesField(number, concatBytes(textField(1, coin.denom), textField(2, coin.amount.toString())));
}

/** google.protobuf.Duration in whole seconds; null when the field is absent. */
export function readDurationS(message: Uint8Array, number: number): bigint | null {
  const field = lastField(message, number);
  if (field === undefined) return null;
  return BigInt.asIntN(64, lastField(field.bytes, 1)?.value ?? 0n);
}

export function durationField(number: number, seconds: bigint): Uint8Array {
  return bytesField(number, varintField(1, seconds));
}
