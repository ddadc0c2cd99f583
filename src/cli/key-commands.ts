import { Option, type Command } from 'commander';
import { SPEND_RESETS } from '../ledger/access.ts';
import { TRUST_LEVELS } from '../spec/trust.ts';
import { ask, parseId, pathTo, withJson } from './ask.ts';
import { parseAmount, parseCount, parseSeconds, parseTime } from './values.ts';
import type { OutputOptions, Surface } from './terminal.ts';

interface KeyOptions extends OutputOptions {
  readonly name: string;
  readonly models?: string;
  readonly project?: string;
  readonly spendLimitUsd?: string;
  readonly limitReset?: string;
  readonly rpm?: number;
  readonly tpm?: number;
  readonly concurrency?: number;
  readonly trust?: string;
  readonly regions?: string;
  readonly providers?: string;
  readonly wakeFeeMaxUsd?: string;
  readonly expiresAt?: number | string;
}

/** Keys of apps. */
export function addKeyCommands(program: Command, surface: Surface): void {
  const keys = program.command('keys').description('what apps send as their bearer key');
  withJson(
    keys.command('list').description("an account's keys").argument('<account>', "the account's id", parseId),
  ).action((account: string, options: OutputOptions) =>
    ask(surface, options, { method: 'GET', path: pathTo('admin', 'accounts', account, 'keys') }),
  );
  withJson(
    keys
      .command('create')
      .description('make a key and show it, this once')
      .argument('<account>', "the account's id", parseId)
      .requiredOption('--name <text>', 'what it is for')
      .option('--models <ids>', 'the models it may use, with commas between; default: all')
      .option('--project <name>', 'keys of one project share its spend limit')
      .option('--spend-limit-usd <amount>', 'the most it may spend', parseAmount)
      .addOption(new Option('--limit-reset <when>', 'when its spending starts anew').choices(SPEND_RESETS))
      .option('--rpm <n>', 'requests a minute', parseCount)
      .option('--tpm <n>', 'tokens a minute', parseCount)
      .option('--concurrency <n>', 'requests at a time', parseCount)
      .addOption(new Option('--trust <level>', 'only machines of this trust').choices(TRUST_LEVELS))
      .option('--regions <names>', 'only machines in these regions, with commas between')
      .option('--providers <ids>', 'only machines of these providers, with commas between')
      .option('--wake-fee-max-usd <amount>', 'the most that its requests pay to have a model woken', parseAmount)
      .option('--expires-at <time>', 'seconds since 1970, or 2030-01-31T00:00:00Z', parseTime),
  ).action((account: string, options: KeyOptions) =>
    ask(surface, options, {
      method: 'POST',
      path: pathTo('admin', 'accounts', account, 'keys'),
      body: {
        name: options.name,
        models: listOf(options.models),
        project: options.project,
        spend_limit_usd: options.spendLimitUsd,
        limit_reset: options.limitReset,
        rpm: options.rpm,
        tpm: options.tpm,
        concurrency: options.concurrency,
        trust: options.trust,
        regions: listOf(options.regions),
        providers: listOf(options.providers),
        wake_fee_max_usd: options.wakeFeeMaxUsd,
        expires_at: options.expiresAt,
      },
    }),
  );
  withJson(
    keys
      .command('rotate')
      .description('put a new key in the place of one, with its limits and spending, and show it, this once')
      .argument('<id>', "the key's id", parseId)
      .option('--overlap-s <n>', 'how long the old one still works; 0: not at all; default: a day', parseSeconds),
  ).action((id: string, { overlapS, ...options }: OutputOptions & { readonly overlapS?: number }) =>
    ask(surface, options, {
      method: 'POST',
      path: pathTo('admin', 'keys', id, 'rotate'),
      body: { overlap_s: overlapS },
    }),
  );
  withJson(keys.command('revoke').description('end a key at once').argument('<id>', "the key's id", parseId)).action(
    (id: string, options: OutputOptions) =>
      ask(surface, options, { method: 'DELETE', path: pathTo('admin', 'keys', id) }),
  );
}

function listOf(text: string | undefined): string[] | undefined {
  return text?.split(',').map((name) => name.trim());
}
