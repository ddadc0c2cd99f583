import type { Command } from 'commander';
import { z } from 'zod';
import { loadEnvironment } from '../config/environment.ts';
import { AppError } from '../errors.ts';
import { AdminClient } from './admin-client.ts';
import { withJson } from './ask.ts';
import { checkLedgerOffline, type CheckReport } from './offline.ts';
import { formatTable } from './table.ts';
import type { OutputOptions, Surface } from './terminal.ts';

const reportSchema = z.object({
  ok: z.boolean(),
  checks: z.array(z.object({ name: z.string(), ok: z.boolean(), detail: z.string() })),
});

export function addLedgerCommands(program: Command, surface: Surface): void {
  const ledger = program.command('ledger').description('the books');
  withJson(ledger.command('check').description('whether the books add up; works without a gateway too')).action(
    (options: OutputOptions) => checkLedger(surface, options),
  );
}

async function checkLedger(surface: Surface, options: OutputOptions): Promise<void> {
  const client = new AdminClient(surface);
  const online = await client.isUp();
  const report = online ? await askForReport(client) : await checkLedgerOffline(loadEnvironment(surface));
  if (options.json) {
    surface.out(JSON.stringify(report));
  } else {
    surface.out(
      formatTable(report.checks.map(({ name, ok, detail }) => ({ check: name, result: ok ? 'ok' : 'FAILED', detail }))),
    );
    surface.out(online ? `checked by the gateway on ${client.url}` : 'checked on the files: no gateway runs');
  }
  const failed = report.checks.filter(({ ok }) => !ok).length;
  if (!report.ok) throw new AppError('internal_error', `the ledger does not add up: ${failed} checks failed`);
}

async function askForReport(client: AdminClient): Promise<CheckReport> {
  const { body } = await client.call({ method: 'GET', path: '/admin/ledger/check' });
  const parsed = reportSchema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new AppError('setup_failed', `the gateway on ${client.url} is another version: its report has another shape`);
}
