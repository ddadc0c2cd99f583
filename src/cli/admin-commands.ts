import { Option, type Command } from 'commander';
import { z } from 'zod';
import { ADMIN_ROLES } from '../ledger/access.ts';
import { addListing, ask, parseId, pathTo, withJson } from './ask.ts';
import { parseCount, parseTime } from './values.ts';
import type { OutputOptions, Surface } from './terminal.ts';

interface AdminKeyOptions extends OutputOptions {
  readonly name: string;
  readonly role: string;
  readonly expiresAt?: number | string;
}

interface AuditOptions extends OutputOptions {
  readonly limit?: number;
  readonly before?: number;
}

interface AssignOptions extends OutputOptions {
  readonly reason: string;
}

/** Who may run the gateway, and what they did. */
export function addAdminCommands(program: Command, surface: Surface): void {
  const keys = program.command('admin-keys').description('keys of people who run the gateway, each with a role');
  addListing(keys, surface, { name: 'list', about: 'all of them', path: '/admin/admin-keys' });
  withJson(
    keys
      .command('create')
      .description('make an admin key and show it, this once')
      .requiredOption('--name <text>', 'whose it is')
      .addOption(new Option('--role <role>', 'what it may do').choices(ADMIN_ROLES).makeOptionMandatory())
      .option('--expires-at <time>', 'seconds since 1970, or 2030-01-31T00:00:00Z', parseTime),
  ).action(({ name, role, expiresAt, ...options }: AdminKeyOptions) =>
    ask(surface, options, { method: 'POST', path: '/admin/admin-keys', body: { name, role, expires_at: expiresAt } }),
  );
  withJson(
    keys.command('revoke').description('end one at once').argument('<id>', "the admin key's id", parseId),
  ).action((id: string, options: OutputOptions) =>
    ask(surface, options, { method: 'DELETE', path: pathTo('admin', 'admin-keys', id) }),
  );
  withJson(
    program
      .command('audit')
      .description('what admins did, newest first')
      .option('--limit <n>', 'rows; default: 100', parseCount)
      .option('--before <seq>', 'only rows before this one', parseCount),
  ).action(({ limit, before, ...options }: AuditOptions) => {
    const query = Object.entries({ limit, before }).flatMap(([name, value]) =>
      value === undefined ? [] : [`${name}=${value}`],
    );
    const path = `/admin/audit${query.length === 0 ? '' : `?${query.join('&')}`}`;
    return ask(surface, options, { method: 'GET', path }, joinDetails);
  });
  addDepositCommands(program, surface);
}

const pageSchema = z.looseObject({ data: z.array(z.looseObject({ detail: z.record(z.string(), z.unknown()) })) });

/** Each action has details of its own: as columns, they would make the table as wide as all of them together. */
function joinDetails(body: unknown): unknown {
  const page = pageSchema.safeParse(body);
  if (!page.success) return body;
  const data = page.data.data.map(({ detail, ...row }) => {
    const parts = Object.entries(detail).map(
      ([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
    );
    return { ...row, detail: parts.join(' ') };
  });
  return { ...page.data, data };
}

function addDepositCommands(program: Command, surface: Surface): void {
  const deposits = program.command('deposits').description('money that came in and waits for its owner');
  addListing(deposits, surface, { name: 'list', about: 'all in suspense', path: '/admin/deposits' });
  withJson(
    deposits
      .command('assign')
      .description('give a deposit to its account, once')
      .argument('<reference>', 'as deposits list shows it')
      .argument('<account>', "the account's id", parseId)
      .requiredOption('--reason <text>', 'kept in the ledger'),
  ).action((reference: string, account: string, { reason, ...options }: AssignOptions) =>
    ask(surface, options, { method: 'POST', path: '/admin/deposits/assign', body: { reference, account, reason } }),
  );
}
