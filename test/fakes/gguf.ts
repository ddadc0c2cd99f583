import { closeSync, copyFileSync, openSync, readSync, writeSync } from 'node:fs';

/** A model file of which some weights are not what they were: what a provider may serve who saves memory. */

const KV_SIZES: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};
const [STRING, ARRAY] = [8, 9];
/** ggml's Q4_1: two halves (scale, minimum) and 32 weights of four bits. */
const Q4_1 = { type: 3, blockBytes: 20, headBytes: 4, weights: 32 };

interface Tensor {
  readonly name: string;
  readonly elements: number;
  readonly type: number;
  readonly offset: number;
}

/** Copies a file, and there drops the lowest bit of every weight of the layers whose names match: three bits of four are left. */
export function coarsen(from: string, to: string, layers: RegExp): number {
  copyFileSync(from, to);
  const file = openSync(to, 'r+');
  try {
    const head = Buffer.alloc(8 * 1024 * 1024);
    readSync(file, head, 0, head.length, 0);
    const { tensors, dataAt } = readHead(head);
    let changed = 0;
    for (const { name, elements, type, offset } of tensors) {
      if (type !== Q4_1.type || !layers.test(name)) continue;
      const bytes = Buffer.alloc((elements / Q4_1.weights) * Q4_1.blockBytes);
      readSync(file, bytes, 0, bytes.length, dataAt + offset);
      for (let block = 0; block < bytes.length; block += Q4_1.blockBytes)
        for (let at = block + Q4_1.headBytes; at < block + Q4_1.blockBytes; at += 1)
          bytes[at] = (bytes[at] ?? 0) & 0xee;
      writeSync(file, bytes, 0, bytes.length, dataAt + offset);
      changed += 1;
    }
    return changed;
  } finally {
    closeSync(file);
  }
}

function readHead(head: Buffer): { tensors: Tensor[]; dataAt: number } {
  let at = 8;
  const u32 = (): number => ((at += 4), head.readUInt32LE(at - 4));
  const u64 = (): number => ((at += 8), Number(head.readBigUInt64LE(at - 8)));
  const text = (): string => {
    const length = u64();
    at += length;
    return head.toString('utf8', at - length, at);
  };
  const skip = (type: number): void => {
    if (type === STRING) void text();
    else if (type === ARRAY) {
      const [inner, count] = [u32(), u64()];
      for (let item = 0; item < count; item += 1) skip(inner);
    } else at += KV_SIZES[type] ?? 0;
  };
  const [tensorCount, pairs] = [u64(), u64()];
  let alignment = 32;
  for (let pair = 0; pair < pairs; pair += 1) {
    const [key, type] = [text(), u32()];
    if (key === 'general.alignment') alignment = head.readUInt32LE(at);
    skip(type);
  }
  const tensors = Array.from({ length: tensorCount }, () => {
    const name = text();
    const dimensions = Array.from({ length: u32() }, u64);
    const [type, offset] = [u32(), u64()];
    return { name, elements: dimensions.reduce((all, one) => all * one, 1), type, offset };
  });
  return { tensors, dataAt: Math.ceil(at / alignment) * alignment };
}
