import { Option, type Command } from 'commander';
import { AppError } from '../errors.ts';
import { SPEND_RESETS } from '../ledger/access.ts';
import { randomText } from '../random.ts';
import { addListing, ask, parseId, pathTo, withJson } from './ask.ts';
import { parseAmount, parseLimit } from './values.ts';
import type { OutputOptions, Surface } from './terminal.ts';

/** Who may use the gateway, and with how much. */
export function addAccountCommands(program: Command, surface: Surface): void {
  const accounts = program.command('accounts').description('who pays');
  addListing(accounts, surface, { name: 'list', about: 'all accounts', path: '/admin/accounts' });
  withJson(accounts.command('create').description('open an account').argument('<name>')).action(
    (name: string, options: OutputOptions) =>
      ask(surface, options, { method: 'POST', path: '/admin/accounts', body: { name } }),
  );
  addFreezeCommands(accounts, surface);
  addAllowanceCommand(accounts, surface);
  addProjectCommands(program, surface);
  addCreditCommands(program, surface);
}

function addFreezeCommands(accounts: Command, surface: Surface): void {
  withJson(
    accounts
      .command('freeze')
      .description('refuse new requests of an account; running ones end normally')
      .argument('<id>', "the account's id", parseId)
      .requiredOption('--reason <text>', 'shown with the account, kept in the audit log'),
  ).action((id: string, { reason, ...options }: OutputOptions & { readonly reason: string }) =>
    ask(surface, options, { method: 'POST', path: pathTo('admin', 'accounts', id, 'freeze'), body: { reason } }),
  );
  withJson(
    accounts.command('unfreeze').description('take requests again').argument('<id>', "the account's id", parseId),
  ).action((id: string, options: OutputOptions) =>
    ask(surface, options, { method: 'POST', path: pathTo('admin', 'accounts', id, 'unfreeze') }),
  );
}

function addAllowanceCommand(accounts: Command, surface: Surface): void {
  withJson(
    accounts
      .command('wakes')
      .description('how often an account may wake pools without paying, and has today; with a number: sets it')
      .argument('<id>', "the account's id", parseId)
      .argument('[per-day]', 'wakes a day, or default: as each pool says'),
  ).action((id: string, perDay: string | undefined, options: OutputOptions) => {
    const path = pathTo('admin', 'accounts', id, 'wake-allowance');
    if (perDay === undefined) return ask(surface, options, { method: 'GET', path });
    const number = perDay === 'default' ? null : Number(perDay);
    return ask(surface, options, { method: 'PUT', path, body: { per_day: number } });
  });
}

interface LimitOptions extends OutputOptions {
  readonly usd: string;
  readonly reset: string;
}

function addProjectCommands(program: Command, surface: Surface): void {
  const projects = program.command('projects').description('what keys of one account may spend together');
  withJson(
    projects.command('list').description("an account's projects").argument('<account>', "the account's id", parseId),
  ).action((account: string, options: OutputOptions) =>
    ask(surface, options, { method: 'GET', path: pathTo('admin', 'accounts', account, 'projects') }),
  );
  withJson(
    projects
      .command('limit')
      .description('set what a project may spend')
      .argument('<account>', "the account's id", parseId)
      .argument('<project>', 'its name', parseId)
      .addOption(
        new Option('--usd <amount>', 'the most it may spend, or none').argParser(parseLimit).makeOptionMandatory(),
      )
      .addOption(new Option('--reset <when>', 'when its spending starts anew').choices(SPEND_RESETS).default('none')),
  ).action((account: string, project: string, { usd, reset, ...options }: LimitOptions) =>
    ask(surface, options, {
      method: 'PUT',
      path: pathTo('admin', 'accounts', account, 'projects', project),
      body: { spend_limit_usd: usd === 'none' ? null : usd, limit_reset: reset },
    }),
  );
}

interface CreditOptions extends OutputOptions {
  readonly kind: string;
  readonly reason: string;
  readonly idempotencyKey?: string;
}

function addCreditCommands(program: Command, surface: Surface): void {
  const credits = program.command('credits').description("an account's money");
  withJson(
    credits
      .command('add')
      .description('give credit to an account')
      .argument('<account>', "the account's id", parseId)
      .argument('<amount>', 'USD: 5.00', parseAmount)
      .addOption(new Option('--kind <kind>', 'where it comes from').choices(['paid', 'promo']).makeOptionMandatory())
      .requiredOption('--reason <text>', 'kept in the ledger')
      .option('--idempotency-key <key>', 'of an earlier try whose outcome is unknown; default: a new one'),
  ).action((account: string, amount: string, options: CreditOptions) => addCredit(surface, account, amount, options));
  withJson(
    credits.command('show').description('what an account has').argument('<account>', "the account's id", parseId),
  ).action((account: string, options: OutputOptions) =>
    ask(surface, options, { method: 'GET', path: pathTo('admin', 'accounts', account, 'credits') }),
  );
}

async function addCredit(surface: Surface, account: string, amount: string, options: CreditOptions): Promise<void> {
  const idempotencyKey = options.idempotencyKey ?? `cli-${randomText(surface.random, 22)}`;
  const { kind, reason } = options;
  const path = pathTo('admin', 'accounts', account, 'credits');
  try {
    await ask(surface, options, { method: 'POST', path, body: { amount_usd: amount, kind, reason }, idempotencyKey });
  } catch (error) {
    if (!(error instanceof AppError) || error.metadata?.['outcome'] !== 'unknown') throw error;
    const advice = `it may have been added: repeat the same with --idempotency-key ${idempotencyKey}, which adds it once`;
    throw new AppError(error.code, `${error.message}\n${advice}`, { cause: error });
  }
}
