import type { Reach } from '../gateway/needs.ts';
import type { Market } from '../leases/market.ts';
import type { MarketName } from '../spec.ts';

/** Whether any market that a pool may use could ever have a machine like that; where none could, why not. */
export function reachOf(markets: ReadonlyMap<MarketName, Market>): Reach {
  return (spec, needs) => {
    const asked = [...markets.values()].filter(({ name }) => spec.markets?.includes(name) ?? true);
    const why: string[] = [];
    for (const market of asked) {
      const reason = market.cannot?.(spec.id, needs) ?? null;
      if (reason === null) return null;
      why.push(reason);
    }
    return why.length === 0 ? null : why.join('; ');
  };
}
