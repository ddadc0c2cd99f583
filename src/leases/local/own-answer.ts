import type { Breach, Measurement } from '../../spec/dispute.ts';
import type { EpochMs } from '../../units.ts';

/** What a provider knows by itself of the model server of one lease. */
export interface DeliveryHealth {
  readonly runningMs: EpochMs | null;
  /** Null: it runs. */
  readonly endedMs: EpochMs | null;
  readonly detail: string;
}

export interface OwnAnswer {
  readonly accepts: boolean;
  readonly text: string;
  readonly measured: readonly Measurement[];
}

const ENDED = 'the model server ended: ';

/**
 * What a provider answers to a dispute by its own log. It owns up to having been down when its log says so, and
 * contests what it cannot confirm: it has nothing of its own on speed, hardware or weights.
 */
export function answerByLog({ kind, fromMs, toMs }: Breach, health: DeliveryHealth, nowMs: EpochMs): OwnAnswer {
  const { runningMs, endedMs } = health;
  // What a model server printed last goes over the wire here.
  const detail = health.detail.replaceAll(/\p{Cc}+/gu, ' ').slice(0, 150);
  const at = (ms: EpochMs): string => new Date(ms).toISOString();
  const measured: Measurement[] = [
    { what: 'model server up since', value: runningMs === null ? 'never' : at(runningMs), atMs: nowMs },
    { what: 'model server ended', value: endedMs === null ? 'no' : `${at(endedMs)}: ${detail}`, atMs: nowMs },
  ];
  if (kind === 'down' && runningMs === null)
    return { accepts: true, text: `our log: the model server never ran: ${detail}`, measured };
  if (kind === 'down' && endedMs !== null && endedMs <= toMs)
    return { accepts: true, text: `our log: ${ENDED}${detail.replace(ENDED, '')}`, measured };
  const late = runningMs !== null && runningMs > fromMs && kind === 'down';
  const text = late
    ? `our log: it ran from ${at(runningMs)} on, and nothing is wrong with it`
    : 'our log: the model server ran all the time, and nothing is wrong with it';
  return { accepts: false, text, measured };
}
