import type { PoolSpec } from '../spec.ts';
import { expectedSpeed } from '../spec/gpu-table.ts';
import { counted, type Ms, type NanoUsd } from '../units.ts';
import type { PoolRates } from './pool-record.ts';
import type { TokenRate } from './pool/token-meter.ts';

/**
 * Pure: what an hour of a replica brings in at the pool's prices, full and at today's load, against what it costs, and which
 * price or ceiling would carry it. Estimates for people: money is USD as a number here, and nothing is paid by it.
 */

/** Tokens a second of one replica with all of its slots at work. */
export interface Capacity {
  /** Null: not known, and taken for no time at all. */
  readonly inputTokensPerS: number | null;
  readonly outputTokensPerS: number;
  readonly source: string;
}

/** A bucket of less was hardly measured. */
const MEASURED_LEAST_MS: Ms = 5_000;
/** What each further stream of a batch adds to a decoding step, as a share of the step of one. */
const EACH_STREAM = 0.02;

export function capacityOf(spec: PoolSpec, rates: PoolRates): Capacity {
  const { slots, slo, hardware, shape = null } = spec;
  const measured = rates.batches.filter(
    ({ streams, measuredMs }) => streams <= slots && measuredMs >= MEASURED_LEAST_MS,
  );
  const best = measured.reduce<(typeof measured)[number] | null>(
    (most, one) => (most === null || one.tokensPerS > most.tokensPerS ? one : most),
    null,
  );
  if (best) {
    const source = `measured on its replicas, ${best.streams} or more at work of ${slots}`;
    return { inputTokensPerS: rates.prefillTokensPerS, outputTokensPerS: best.tokensPerS, source };
  }
  const table = expectedSpeed(hardware, shape);
  if (table) {
    const outputTokensPerS = (table.tokensPerS * slots) / (1 + EACH_STREAM * slots);
    const source = "the GPU's data sheet and the model's size, not measured";
    return { inputTokensPerS: rates.prefillTokensPerS ?? table.prefillTokensPerS, outputTokensPerS, source };
  }
  const source = `the pool's own promise (slo): ${counted(slots, 'stream')} of ${slo.tokensPerSecond}/s, not measured`;
  return { inputTokensPerS: rates.prefillTokensPerS, outputTokensPerS: slots * slo.tokensPerSecond, source };
}

export interface LoadSeen {
  /** Tokens an hour of the whole pool, lately. */
  readonly rate: TokenRate;
  /** Of a request; null: none was seen. */
  readonly average: TokenRate | null;
}

export interface AdviceInput {
  readonly spec: PoolSpec;
  readonly capacity: Capacity;
  readonly load: LoadSeen;
  /** Ready ones. */
  readonly replicas: number;
  /** Of one replica, and how that is known. */
  readonly costNanoUsdPerHour: NanoUsd;
  readonly costFrom: string;
  /** Three quarters of the bids seen lately were below it; null: none were seen. */
  readonly seenNanoUsdPerHour: NanoUsd | null;
}

export interface Advice {
  readonly costUsdPerHour: number;
  /** Of one replica. Today's are null while there is none. */
  readonly earnsUsdPerHour: { readonly full: number; readonly today: number | null };
  /** What a million tokens cost, prompts and answers together. Null where there are none. */
  readonly usdPerMillion: { readonly full: number | null; readonly today: number | null };
  readonly usdPerMillionOutput: { readonly full: number | null; readonly today: number | null };
  /** Of all that its replicas could do; null while there are none. */
  readonly utilisation: number | null;
  /** At which an hour brings in what it costs; above 1: never. Null: it can bring in nothing. */
  readonly breakEvenUtilisation: number | null;
  /** Up to which price a machine carries itself (null: it brings in nothing, as far as is known), and at which price of tokens the machines that there are do. */
  readonly ceilingUsdPerHour: number | null;
  readonly price: { readonly input: number; readonly output: number };
  readonly verdict: 'earns' | 'loses' | 'idle';
  readonly reason: string;
}

/** A request is taken for this where none was seen yet. */
const USUAL_REQUEST: TokenRate = { input: 300, output: 200 };
/** What is to be left of what comes in. */
const MARGIN = 0.1;
/** A pool that nobody uses is judged as if it were used so much. */
const USUAL_UTILISATION = 0.5;
/** Two steps above what others bid: a ceiling above that is not needed to be served. */
const CEILING_ABOVE = 1.1 * 1.25 * 1.25;

export function adviseOn(input: AdviceInput): Advice {
  const { spec, capacity, load, replicas, seenNanoUsdPerHour } = input;
  const cost = Number(input.costNanoUsdPerHour) / 1e9;
  const mix = mixOf(spec, load);
  const full = scaled(mix, requestsPerHour(mix, capacity));
  const busy = requestsPerHour(mix, capacity) === 0 ? 0 : secondsOf(load.rate, capacity) / 3600;
  const utilisation = replicas === 0 ? null : busy / replicas;
  const today = replicas === 0 ? null : scaled(load.rate, 1 / replicas);
  const earnsFull = worthOf(full, spec);
  const earnsToday = today && worthOf(today, spec);
  // What is asked of a pool is what it can be judged by; an idle one by what is usual.
  const asked = utilisation !== null && utilisation > 0 ? utilisation : USUAL_UTILISATION;
  const earns = earnsFull * Math.min(1, asked);
  const carries = earns * (1 - MARGIN);
  const seen = seenNanoUsdPerHour === null ? Infinity : (Number(seenNanoUsdPerHour) / 1e9) * CEILING_ABOVE;
  const factor = carries > 0 ? Math.max(1, cost / carries) : 1;
  const [inputPrice, outputPrice] = [Number(spec.price.inputPico) / 1e6, Number(spec.price.outputPico) / 1e6];
  const verdict = earnsToday === null ? 'idle' : earnsToday < cost ? 'loses' : 'earns';
  return {
    costUsdPerHour: cost,
    earnsUsdPerHour: { full: earnsFull, today: earnsToday },
    usdPerMillion: {
      full: perMillion(cost, full.input + full.output),
      today: today && perMillion(cost, today.input + today.output),
    },
    usdPerMillionOutput: { full: perMillion(cost, full.output), today: today && perMillion(cost, today.output) },
    utilisation,
    breakEvenUtilisation: earnsFull > 0 ? cost / earnsFull : null,
    ceilingUsdPerHour: carries > 0 ? Math.min(carries, seen) : null,
    price: { input: inputPrice * factor, output: outputPrice * factor },
    verdict,
    reason: explain({ cost, earnsToday, earnsFull, asked, factor, costFrom: input.costFrom }),
  };
}

function mixOf({ kind }: PoolSpec, { average }: LoadSeen): TokenRate {
  const { input, output } = average ?? USUAL_REQUEST;
  return { input, output: kind === 'embeddings' ? 0 : output };
}

/** Time of one replica at its best. */
function secondsOf({ input, output }: TokenRate, { inputTokensPerS, outputTokensPerS }: Capacity): number {
  return (inputTokensPerS === null ? 0 : input / inputTokensPerS) + output / outputTokensPerS;
}

/** 0: not known. */
function requestsPerHour(mix: TokenRate, capacity: Capacity): number {
  const seconds = secondsOf(mix, capacity);
  return seconds > 0 ? 3600 / seconds : 0;
}

const scaled = ({ input, output }: TokenRate, by: number): TokenRate => ({ input: input * by, output: output * by });

/** In USD, nothing of it cached. */
function worthOf({ input, output }: TokenRate, { price }: PoolSpec): number {
  return (input * Number(price.inputPico) + output * Number(price.outputPico)) / 1e12;
}

const perMillion = (cost: number, tokens: number): number | null => (tokens > 0 ? (cost / tokens) * 1e6 : null);

function explain(figures: {
  readonly cost: number;
  readonly earnsToday: number | null;
  readonly earnsFull: number;
  readonly asked: number;
  readonly factor: number;
  readonly costFrom: string;
}): string {
  const { cost, earnsToday, earnsFull, asked, factor, costFrom } = figures;
  const usd = (amount: number): string => String(Number(amount.toPrecision(3)));
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  const costs = `an hour of a replica costs ${usd(cost)} USD (${costFrom})`;
  if (earnsFull === 0) return `${costs}; what it could bring in is not known`;
  const now = earnsToday === null ? 'no replica is there now' : `brings in ${usd(earnsToday)} at today's load`;
  const even =
    cost > earnsFull ? `, and ${usd(earnsFull)} at most` : `, breaks even at ${percent(cost / earnsFull)} in use`;
  const raise =
    factor > 1 ? `; at ${percent(Math.min(1, asked))} in use, prices ${usd(factor)} times as high would carry it` : '';
  return `${costs}, ${now}${even}${raise}`;
}

/** Figures waver: only what is clearly on the other side is news. */
const NEWS = { loses: 0.95, earns: 1.05 } as const;

/** Whether a pool earns or loses, given what was said of it last: null while that is still true, or nothing is known. */
export function turnOf(
  before: 'earns' | 'loses' | null,
  { earnsUsdPerHour, costUsdPerHour: cost }: Advice,
): 'earns' | 'loses' | null {
  const { today } = earnsUsdPerHour;
  if (today === null) return null;
  if (before !== 'loses' && today < cost * NEWS.loses) return 'loses';
  // That all is well is no news before it was not.
  return before === 'loses' && today > cost * NEWS.earns ? 'earns' : null;
}
