import { InvalidArgumentError, Option, type Command } from 'commander';
import { AppError } from '../errors.ts';
import { randomText } from '../random.ts';
import { parseUsd } from '../units.ts';
import { addListing, ask, parseId, pathTo, withJson } from './ask.ts';
import type { OutputOptions, Surface } from './terminal.ts';

/** Who may use the gateway, and with how much. */
export function addAccountCommands(program: Command, surface: Surface): void {
  const accounts = program.command('accounts').description('who pays');
  addListing(accounts, surface, { name: 'list', about: 'all accounts', path: '/admin/accounts' });
  withJson(accounts.command('create').description('open an account').argument('<name>')).action(
    (name: string, options: OutputOptions) =>
      ask(surface, options, { method: 'POST', path: '/admin/accounts', body: { name } }),
  );
  addCreditCommands(program, surface);
  addKeyCommands(program, surface);
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

function parseAmount(text: string): string {
  try {
    parseUsd(text);
    return text;
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? `${error.message}.` : 'It is no amount.');
  }
}

interface KeyOptions extends OutputOptions {
  readonly name: string;
  readonly models?: string;
  readonly spendLimitUsd?: string;
  readonly rpm?: number;
  readonly tpm?: number;
  readonly concurrency?: number;
  readonly expiresAt?: number | string;
}

function addKeyCommands(program: Command, surface: Surface): void {
  const keys = program.command('keys').description('what apps send as their bearer key');
  withJson(
    keys
      .command('create')
      .description('make a key and show it, this once')
      .argument('<account>', "the account's id", parseId)
      .requiredOption('--name <text>', 'what it is for')
      .option('--models <ids>', 'the models it may use, with commas between; default: all')
      .option('--spend-limit-usd <amount>', 'the most it may spend', parseAmount)
      .option('--rpm <n>', 'requests a minute', parseCount)
      .option('--tpm <n>', 'tokens a minute', parseCount)
      .option('--concurrency <n>', 'requests at a time', parseCount)
      .option('--expires-at <time>', 'seconds since 1970, or 2030-01-31T00:00:00Z', parseTime),
  ).action((account: string, options: KeyOptions) =>
    ask(surface, options, {
      method: 'POST',
      path: pathTo('admin', 'accounts', account, 'keys'),
      body: {
        name: options.name,
        models: options.models?.split(',').map((id) => id.trim()),
        spend_limit_usd: options.spendLimitUsd,
        rpm: options.rpm,
        tpm: options.tpm,
        concurrency: options.concurrency,
        expires_at: options.expiresAt,
      },
    }),
  );
  withJson(keys.command('revoke').description('end a key at once').argument('<id>', "the key's id", parseId)).action(
    (id: string, options: OutputOptions) =>
      ask(surface, options, { method: 'DELETE', path: pathTo('admin', 'keys', id) }),
  );
}

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('It must be a whole number above 0.');
  return Number(text);
}

function parseTime(text: string): number | string {
  return /^\d+$/.test(text) ? Number(text) : text;
}
