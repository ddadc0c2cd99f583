import { maxBig, shareUp, type Blocks, type NanoUsd } from '../units.ts';

/** Rent of one block and the fees on it: the tenant pays the take fee on top, the provider the make fee out of it. */
export interface BlockPrice {
  readonly rent: NanoUsd;
  readonly takeFee: NanoUsd;
  readonly makeFee: NanoUsd;
}

export function blockPrice(priceNanoUsdPerBlock: NanoUsd, takeFeeBp: number, makeFeeBp: number): BlockPrice {
  return {
    rent: priceNanoUsdPerBlock,
    takeFee: shareUp(priceNanoUsdPerBlock, takeFeeBp),
    makeFee: shareUp(priceNanoUsdPerBlock, makeFeeBp),
  };
}

/** What leaves the escrow for one block. */
export function perBlockTotal({ rent, takeFee }: BlockPrice): NanoUsd {
  return rent + takeFee;
}

export interface Draw {
  readonly blocks: Blocks;
  readonly rent: NanoUsd;
  readonly takeFee: NanoUsd;
  readonly makeFee: NanoUsd;
  /** The escrow could not pay every block that was due. */
  readonly overdrawn: boolean;
}

/** What is drawn for the blocks due: whole blocks only, as many as the balance pays. */
export function drawRent(price: BlockPrice, blocksDue: Blocks, balance: NanoUsd): Draw {
  const each = perBlockTotal(price);
  const due = BigInt(Math.max(0, blocksDue));
  const paid = each === 0n || balance >= each * due ? due : maxBig(0n, balance) / each;
  return { blocks: Number(paid), ...rentOfBlocks(price, Number(paid)), overdrawn: paid < due };
}

/** Rent and fees of so many blocks. */
export function rentOfBlocks(price: BlockPrice, blocks: Blocks): BlockPrice {
  const count = BigInt(blocks);
  return { rent: price.rent * count, takeFee: price.takeFee * count, makeFee: price.makeFee * count };
}
