import type { Context, Hono } from 'hono';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import { expiry, timeOf } from './admin-body.ts';
import type { AppDeps, AppEnv, FleetOperations } from './deps.ts';

const GROUPS = ['pool', 'account', 'provider'] as const;
const DAY_MS = 86_400_000;

/** Reports for finance: JSON, or CSV for a spreadsheet. */
export function addReports(app: Hono<AppEnv>, deps: AppDeps, fleet: FleetOperations): void {
  app.get('/reports/margin', async (context) => {
    const toMs = timeParam(context, 'to') ?? deps.clock.now();
    const fromMs = timeParam(context, 'from') ?? toMs - DAY_MS;
    if (fromMs >= toMs) throw new AppError('invalid_request', 'from: is not before to', { param: 'from' });
    const groupBy = oneOf(context, 'group_by', GROUPS);
    const report = await fleet.margin({ fromMs, toMs, groupBy });
    if (oneOf(context, 'format', ['json', 'csv'] as const) === 'json') return context.json(report);
    return context.body(csvOf([...report.data, report.total]), 200, { 'content-type': 'text/csv; charset=utf-8' });
  });
}

function timeParam(context: Context<AppEnv>, param: string): number | null {
  const text = context.req.query(param);
  if (text === undefined) return null;
  const parsed = expiry.safeParse(/^\d+$/.test(text) ? Number(text) : text);
  if (!parsed.success)
    throw new AppError('invalid_request', `${param}: is a time such as 2030-01-31T00:00:00Z, or seconds since 1970`, {
      param,
    });
  return timeOf(parsed.data);
}

/** The first one where nothing is said. */
function oneOf<T extends string>(context: Context<AppEnv>, param: string, values: readonly [T, ...T[]]): T {
  const parsed = z.enum(values).safeParse(context.req.query(param) ?? values[0]);
  if (parsed.success) return parsed.data as T;
  throw new AppError('invalid_request', `${param}: is one of ${values.join(', ')}`, { param });
}

/** RFC 4180; a name that a spreadsheet would take for a formula begins with an apostrophe. */
function csvOf(rows: readonly Readonly<Record<string, string>>[]): string {
  const columns = Object.keys(rows[0] ?? {});
  const cell = (text: string): string => {
    const safe = /^[=+@\t\r]|^-(?![\d.]+$)/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const lines = rows.map((row) => Object.values(row).map(cell).join(','));
  return `${[columns.join(','), ...lines].join('\n')}\n`;
}
