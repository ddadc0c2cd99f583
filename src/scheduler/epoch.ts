/** The beginning of the ids of orders made under an epoch: ord-7-…; every market keeps the id, so it tells who ordered. */
export const orderPrefix = (epoch: number): string => `ord-${epoch}-`;

/** The epoch that an order was made under; null for what has none in its id. */
export function epochOf(orderId: string): number | null {
  const epoch = /^ord-(\d{1,15})-/.exec(orderId)?.[1];
  return epoch === undefined ? null : Number(epoch);
}
