import { Option, type Command } from 'commander';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import { AdminClient, type AdminReply } from './admin-client.ts';
import { addListing, ask, withJson } from './ask.ts';
import { formatReply } from './table.ts';
import { parseTime } from './values.ts';
import type { OutputOptions, Surface } from './terminal.ts';

const PHRASE = 'close every lease';
const PATH = '/admin/panic';
const LOOK_MS = 1000;
const WAIT_S = 60;

interface MarginOptions extends OutputOptions {
  readonly from?: number | string;
  readonly to?: number | string;
  readonly by: string;
}

interface PanicOptions extends OutputOptions {
  readonly yes?: boolean;
  readonly resume?: boolean;
  readonly status?: boolean;
  readonly reason?: string;
}

const panicSchema = z.object({ stopped: z.boolean(), done: z.boolean(), open: z.array(z.unknown()) }).loose();

/** The treasury, and the button that ends all spending. */
export function addMoneyCommands(program: Command, surface: Surface): void {
  addListing(program, surface, {
    name: 'treasury',
    about: 'what leases are paid from: stock, runways, mints, limits, the books beside the chain, alarms',
    path: '/admin/treasury',
  });
  withJson(
    program
      .command('margin')
      .description('what came in and went out: charges, rent, fees, tokens bought, start-ups, idle and busy time')
      .option(
        '--from <time>',
        '2030-01-31 (UTC), 2030-01-31T00:00:00Z or seconds since 1970; default: a day before --to',
        parseTime,
      )
      .option('--to <time>', 'default: now', parseTime)
      .addOption(new Option('--by <what>', 'a row for each').choices(['pool', 'account', 'provider']).default('pool')),
  ).action(({ from, to, by, ...options }: MarginOptions) => {
    const query = new URLSearchParams({ group_by: by });
    if (from !== undefined) query.set('from', String(from));
    if (to !== undefined) query.set('to', String(to));
    return ask(surface, options, { method: 'GET', path: `/admin/reports/margin?${query.toString()}` }, joinTotal);
  });
  withJson(
    program
      .command('panic')
      .description('close every lease of every market and order nothing more, until --resume')
      .option('--yes', `without typing ${JSON.stringify(PHRASE)}`)
      .option('--reason <text>', 'for the audit log and for requests that are turned away')
      .option('--status', 'only show whether everything is stopped, and what is still open')
      .option('--resume', 'let orders be placed again'),
  ).action((options: PanicOptions) => panic(surface, options));
}

const report = z.looseObject({
  group_by: z.string(),
  data: z.array(z.record(z.string(), z.unknown())),
  total: z.record(z.string(), z.unknown()),
});

/** The total below its columns, as in the CSV. */
function joinTotal(body: unknown): unknown {
  const parsed = report.safeParse(body);
  if (!parsed.success) return body;
  const { data, total, ...rest } = parsed.data;
  const { total: name, ...sums } = total;
  return { data: [...data, { [rest.group_by]: name, ...sums }], ...rest };
}

async function panic(surface: Surface, options: PanicOptions): Promise<void> {
  if (options.status) return ask(surface, options, { method: 'GET', path: PATH });
  if (options.resume) return ask(surface, options, { method: 'DELETE', path: PATH });
  if (!options.yes) await confirm(surface);
  const client = new AdminClient(surface);
  const body = { confirm: PHRASE, ...(options.reason === undefined ? {} : { reason: options.reason }) };
  let reply = await client.call({ method: 'POST', path: PATH, body });
  for (let waitedS = 0; waitedS < WAIT_S && !isDone(reply); waitedS += 1) {
    await surface.clock.sleep(LOOK_MS);
    reply = await client.call({ method: 'GET', path: PATH });
  }
  surface.out(options.json ? reply.text.trim() : formatReply(reply.body));
  if (isDone(reply)) return;
  const open = panicSchema.safeParse(reply.body).data?.open.length ?? 0;
  const message = `${open} leases or orders are not closed yet: the gateway goes on trying, panic --status shows how far it is`;
  throw new AppError('conflict', message);
}

function isDone({ body }: AdminReply): boolean {
  return panicSchema.safeParse(body).data?.done ?? false;
}

async function confirm(surface: Surface): Promise<void> {
  const question = `This ends every lease of every market; answers at work break off. Type ${JSON.stringify(PHRASE)}: `;
  const answer = await surface.prompt?.(question);
  if (answer === undefined || answer === null) {
    throw new AppError('invalid_request', 'nobody can be asked here: add --yes to close every lease');
  }
  if (answer.trim() !== PHRASE) throw new AppError('invalid_request', 'not confirmed: nothing was closed');
}
