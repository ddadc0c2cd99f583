import { sameNeeds, type Needs } from '../../spec/trust.ts';

/** Pure: what the requests in line ask of the machines that are still to be had. */
export interface LineNeeds {
  /** The first in line whom no replica that is there may serve, and how many are in that case. */
  readonly unmet: { readonly needs: Needs; readonly waiting: number } | null;
  /** What everybody in line asks alike: a machine that does not give it would serve none of them. */
  readonly common: Needs | null;
}

const NONE: LineNeeds = { unmet: null, common: null };

/**
 * @param own what the pool asks of all its machines: that is nothing special
 * @param served whether a replica that is there meets them
 */
export function needsOfLine(
  waiting: readonly { readonly needs: Needs | undefined }[],
  own: Needs,
  served: (needs: Needs) => boolean,
): LineNeeds {
  const special = waiting.flatMap(({ needs }) => (needs === undefined || sameNeeds(needs, own) ? [] : [needs]));
  const [first] = special;
  if (!first) return NONE;
  const unmet = special.filter((needs) => !served(needs));
  const [foremost] = unmet;
  const alike = special.length === waiting.length && special.every((needs) => sameNeeds(needs, first));
  return {
    unmet: foremost === undefined ? null : { needs: foremost, waiting: unmet.length },
    common: alike ? first : null,
  };
}
