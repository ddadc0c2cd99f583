/**
 * Pure: where a replica runs, and who may be given what there. `any`: whoever bids. `audited`: a provider whose attributes
 * an auditor that the operator believes has signed, or a machine that the operator vouches for. `tee`: audited, and it
 * says that it runs workloads in trusted hardware, which nobody here has verified.
 */
export const TRUST_LEVELS = ['any', 'audited', 'tee'] as const;
export type Trust = (typeof TRUST_LEVELS)[number];

/** As a market says it of a bid or a replica. What it does not say is the least: `any`, nowhere. */
export interface Place {
  readonly trust?: Trust | undefined;
  readonly region?: string | null | undefined;
  readonly provider: string;
}

/** What a pool, a key or a request asks of the machine. Null: it does not matter. */
export interface Needs {
  readonly trust: Trust;
  readonly regions: readonly string[] | null;
  readonly providers: readonly string[] | null;
}

export const NO_NEEDS: Needs = { trust: 'any', regions: null, providers: null };

/** What a pool asks of all its machines. */
export function poolNeeds({ trust, region }: { readonly trust: Trust; readonly region: string | null }): Needs {
  return { trust, regions: region === null ? null : [region], providers: null };
}

const rank = (level: Trust): number => TRUST_LEVELS.indexOf(level);

export function reaches(level: Trust, least: Trust): boolean {
  return rank(level) >= rank(least);
}

export function higherTrust(one: Trust, other: Trust): Trust {
  return reaches(one, other) ? one : other;
}

/** All of them together: the highest level, and only the regions and providers that each of them allows. */
export function allNeeds(...needs: readonly Needs[]): Needs {
  return needs.reduce((sum, one) => ({
    trust: higherTrust(sum.trust, one.trust),
    regions: common(sum.regions, one.regions),
    providers: common(sum.providers, one.providers),
  }));
}

function common(one: readonly string[] | null, other: readonly string[] | null): readonly string[] | null {
  if (one === null || other === null) return one ?? other;
  return one.filter((name) => other.includes(name));
}

export function asksNothing({ trust, regions, providers }: Needs): boolean {
  return trust === 'any' && regions === null && providers === null;
}

/** Why no machine whatever can meet them; null where one could. */
export function contradiction({ regions, providers }: Needs): string | null {
  if (regions?.length === 0) return 'no region is allowed both by the model and by the key or the request';
  if (providers?.length === 0) return 'no provider is allowed both by the key and by the request';
  return null;
}

/** Why a place does not meet them, in words for whoever asked; null: it does. */
export function shortfall(place: Place, { trust, regions, providers }: Needs): string | null {
  if (!reaches(place.trust ?? 'any', trust)) return `is not ${WORDS[trust]}`;
  if (regions !== null && !regions.includes(place.region ?? '')) {
    return `stands in ${place.region ?? 'no region that is known'}, not in ${regions.join(' or ')}`;
  }
  if (providers !== null && !providers.includes(place.provider)) return `is not ${providers.join(' or ')}`;
  return null;
}

const WORDS: Record<Trust, string> = { any: 'anybody', audited: 'audited', tee: 'on trusted hardware (tee)' };

/** "trust audited, region eu-west, provider akash1…": for people. */
export function describeNeeds({ trust, regions, providers }: Needs): string {
  const parts = [
    ...(trust === 'any' ? [] : [`trust ${trust}`]),
    ...(regions === null ? [] : [`region ${regions.join(' or ')}`]),
    ...(providers === null ? [] : [`provider ${providers.join(' or ')}`]),
  ];
  return parts.join(', ');
}

export function sameNeeds(one: Needs, other: Needs): boolean {
  return describeNeeds(one) === describeNeeds(other);
}
