import { z } from 'zod';
import type { EpochMs, Ms } from '../units.ts';

/** Pure: how many replicas a pool may have at a moment, by weekday and time of day where its people live. */

export const WEEKDAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
export type Weekday = (typeof WEEKDAYS)[number];

const DAY_MINUTES = 1440;
const count = z.number().int().min(0).max(1000);

const timeOfDay = z
  .string()
  .regex(/^(([01]\d|2[0-3]):[0-5]\d|24:00)$/, 'is a time of day such as "08:30", up to "24:00"');

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

const windowSchema = z
  .strictObject({
    days: z
      .array(z.enum(WEEKDAYS))
      .min(1)
      .max(7)
      .default([...WEEKDAYS])
      .describe('on which it begins; default: every day'),
    from: timeOfDay.default('00:00'),
    to: timeOfDay.default('24:00').describe('earlier than `from`: on the next day'),
    min: count.optional().describe('default: the minimum of `replicas`'),
    max: count.optional().describe('default: the maximum of `replicas`; 0: closed'),
  })
  .refine(({ min, max }) => min === undefined || max === undefined || min <= max, 'min is above max')
  .refine(({ min, max }) => min !== undefined || max !== undefined, 'says neither min nor max');

export const scheduleSchema = z
  .strictObject({
    time_zone: z
      .string()
      .max(64)
      .refine(isTimeZone, 'is no time zone such as Europe/Berlin')
      .default('UTC')
      .describe('whose clock on the wall is meant, summer time and all: Europe/Berlin'),
    windows: z
      .array(windowSchema)
      .min(1)
      .max(50)
      .describe('the first that a moment lies in holds; in none: `replicas`'),
  })
  .describe('how many replicas at which times');

export interface Window {
  readonly days: readonly Weekday[];
  readonly fromMinutes: number;
  readonly toMinutes: number;
  readonly min: number | null;
  readonly max: number | null;
}

export interface Schedule {
  readonly timeZone: string;
  readonly windows: readonly Window[];
}

export function parseSchedule({ time_zone: timeZone, windows }: z.output<typeof scheduleSchema>): Schedule {
  const parsed = windows.map(({ days, from, to, min, max }) => {
    return { days, fromMinutes: minutesOf(from), toMinutes: minutesOf(to), min: min ?? null, max: max ?? null };
  });
  return { timeZone, windows: parsed };
}

/** In the file's shape. */
export function describeSchedule({ timeZone, windows }: Schedule): object {
  return {
    time_zone: timeZone,
    windows: windows.map(({ days, fromMinutes, toMinutes, min, max }) => ({
      ...{ days, from: textOf(fromMinutes), to: textOf(toMinutes) },
      ...(min === null ? {} : { min }),
      ...(max === null ? {} : { max }),
    })),
  };
}

export interface Scheduled {
  readonly replicasMin: number;
  readonly replicasMax: number;
}

interface Planned extends Scheduled {
  readonly schedule?: Schedule | null;
}

/**
 * Least and most at a moment. What a window that begins within a start-up asks for at least is had before it begins, so that
 * it is there in time.
 */
export function scheduledReplicas(planned: Planned, nowMs: EpochMs, startMs: Ms): Scheduled {
  const now = boundsAt(planned, nowMs);
  const soon = planned.schedule ? boundsAt(planned, nowMs + startMs) : now;
  const replicasMin = Math.max(now.replicasMin, soon.replicasMin);
  return { replicasMin, replicasMax: Math.max(now.replicasMax, replicasMin) };
}

function boundsAt({ schedule, replicasMin, replicasMax }: Planned, atMs: EpochMs): Scheduled {
  const window = schedule ? windowAt(schedule, atMs) : null;
  if (!window) return { replicasMin, replicasMax };
  const most = window.max ?? Math.max(replicasMax, window.min ?? 0);
  return { replicasMin: Math.min(most, window.min ?? replicasMin), replicasMax: most };
}

/** The first window that a moment lies in. An hour that a clock shows twice counts twice, one that it skips not at all. */
export function windowAt(schedule: Schedule, atMs: EpochMs): Window | null {
  const { day, minutes } = wallClock(schedule.timeZone, atMs);
  const before = WEEKDAYS[(WEEKDAYS.indexOf(day) + 6) % 7] ?? day;
  for (const window of schedule.windows) {
    const { days, fromMinutes, toMinutes } = window;
    if (fromMinutes < toMinutes) {
      if (days.includes(day) && minutes >= fromMinutes && minutes < toMinutes) return window;
    } else if ((days.includes(day) && minutes >= fromMinutes) || (days.includes(before) && minutes < toMinutes)) {
      return window;
    }
  }
  return null;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** Weekday and minutes since midnight, as a clock on the wall there shows them. */
function wallClock(timeZone: string, atMs: EpochMs): { readonly day: Weekday; readonly minutes: number } {
  let format = formats.get(timeZone);
  if (!format) {
    const parts = { weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } as const;
    format = new Intl.DateTimeFormat('en-US', { timeZone, ...parts });
    formats.set(timeZone, format);
  }
  const shown = new Map(format.formatToParts(atMs).map(({ type, value }) => [type, value]));
  const name = shown.get('weekday')?.toLowerCase();
  const day = WEEKDAYS.find((known) => known === name) ?? 'mon';
  return { day, minutes: Number(shown.get('hour')) * 60 + Number(shown.get('minute')) };
}

function minutesOf(text: string): number {
  const [hours = '0', minutes = '0'] = text.split(':');
  return Number(hours) * 60 + Number(minutes);
}

function textOf(minutes: number): string {
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  return minutes === DAY_MINUTES ? '24:00' : `${String(hours).padStart(2, '0')}:${String(rest).padStart(2, '0')}`;
}
