import type { Command } from 'commander';
import { z } from 'zod';
import { AdminClient } from './admin-client.ts';
import { addListing, ask, parseId, pathTo, withJson } from './ask.ts';
import { addLogsCommand } from './lease-logs.ts';
import { readPoolFile } from './pool-file.ts';
import type { OutputOptions, Surface } from './terminal.ts';

/** Pools, and what runs for them. */
export function addFleetCommands(program: Command, surface: Surface): void {
  addPoolCommands(program, surface);
  addLeaseCommands(program, surface);
  const listings = [
    { name: 'replicas', about: 'running model servers' },
    { name: 'orders', about: 'orders with their bids, the choice and its reason' },
    { name: 'markets', about: 'where machines are rented, and why a market takes no orders now' },
    { name: 'providers', about: 'providers with their scores' },
    { name: 'decisions', about: 'what the scheduler did and why' },
  ];
  for (const { name, about } of listings) addListing(program, surface, { name, about, path: pathTo('admin', name) });
}

function addPoolCommands(program: Command, surface: Surface): void {
  const pools = program.command('pools').description('what is served, at what price, on how much hardware');
  addListing(pools, surface, { name: 'list', about: 'all pools', path: '/admin/pools', shape: shortenPools });
  withJson(pools.command('show').description('one pool').argument('<model>', 'public model id', parseId)).action(
    (model: string, options: OutputOptions) =>
      ask(surface, options, { method: 'GET', path: pathTo('admin', 'pools', model) }),
  );
  addAdvice(pools, surface);
  withJson(
    pools
      .command('put')
      .description('add or change the pools of a file')
      .argument('<file>', 'YAML or JSON with `pools:` as in underbid.yaml'),
  ).action((file: string, options: OutputOptions) => putPools(surface, file, options));
  addSwitchCommands(pools, surface);
  withJson(pools.command('delete').description('remove a pool').argument('<model>', 'public model id', parseId)).action(
    (model: string, options: OutputOptions) =>
      ask(surface, options, { method: 'DELETE', path: pathTo('admin', 'pools', model) }),
  );
}

/** By an operator's hand, for a file's pools as well. */
function addSwitchCommands(pools: Command, surface: Surface): void {
  withJson(
    pools
      .command('pause')
      .description('give back its machines, order none, refuse its requests, until resumed')
      .argument('<model>', 'public model id', parseId)
      .option('--reason <text>', 'told to those who are refused'),
  ).action((model: string, { reason, ...options }: OutputOptions & { readonly reason?: string }) =>
    ask(surface, options, { method: 'POST', path: pathTo('admin', 'pools', model, 'pause'), body: { reason } }),
  );
  withJson(
    pools.command('resume').description('serve it again').argument('<model>', 'public model id', parseId),
  ).action((model: string, options: OutputOptions) =>
    ask(surface, options, { method: 'POST', path: pathTo('admin', 'pools', model, 'resume'), body: {} }),
  );
}

function addAdvice(pools: Command, surface: Surface): void {
  withJson(
    pools
      .command('advise')
      .description('what pools bring in and cost, and which ceiling and prices would carry them')
      .argument('[model]', 'public model id; default: every pool, in short', parseId),
  ).action((model: string | undefined, options: OutputOptions) => {
    const path = model === undefined ? '/admin/advice' : `${pathTo('admin', 'pools', model)}/advice`;
    return ask(surface, options, { method: 'GET', path }, model === undefined ? shortenAdvice : undefined);
  });
}

const figures = z.record(z.string(), z.unknown());
const advice = z.object({
  model: z.string(),
  gpu: z.string().nullable(),
  tokens_per_second: figures,
  usd_per_hour: figures,
  usd_per_million_tokens: figures,
  utilisation: figures,
  recommended: figures,
  verdict: z.string(),
});
const advised = z.object({ data: z.array(advice) });

/** One line a pool; the command with a model has the rest, with sources and reasons. */
function shortenAdvice(body: unknown): unknown {
  const parsed = advised.safeParse(body);
  if (!parsed.success) return body;
  return {
    data: parsed.data.data.map((one) => ({
      model: one.model,
      gpu: one.gpu,
      'tokens/s': one.tokens_per_second['output'],
      'costs $/h': one.usd_per_hour['costs'],
      'earns $/h': one.usd_per_hour['earns_today'],
      '$/M full': one.usd_per_million_tokens['full'],
      '$/M today': one.usd_per_million_tokens['today'],
      'in use': one.utilisation['today'],
      'even at': one.utilisation['break_even'],
      'ceiling to set': one.recommended['ceiling_usd_per_hour'],
      '$/M to ask': one.recommended['output_usd_per_million'],
      verdict: one.verdict,
    })),
  };
}

const pooled = z.object({ spec: z.record(z.string(), z.unknown()) }).loose();
const listed = z.object({ data: z.array(pooled) });
const LISTED = ['model', 'engine', 'context', 'price', 'replicas', 'ceiling_usd_per_hour'];

/** All settings of all pools are no table that fits a terminal; `show` has them. */
function shortenPools(body: unknown): unknown {
  const parsed = listed.safeParse(body);
  if (!parsed.success) return body;
  return {
    data: parsed.data.data.map(({ spec, ...rest }) => {
      return { ...rest, ...Object.fromEntries(LISTED.map((key) => [key, spec[key]])) };
    }),
  };
}

async function putPools(surface: Surface, file: string, options: OutputOptions): Promise<void> {
  const client = new AdminClient(surface);
  const saved: unknown[] = [];
  // One by one: when the gateway refuses one, what was printed before it is in place.
  for (const { id, pool } of readPoolFile(file, surface.cwd)) {
    const { body } = await client.call({ method: 'PUT', path: pathTo('admin', 'pools', id), body: pool });
    saved.push(body);
    if (!options.json) surface.out(`${id}: saved`);
  }
  if (options.json) surface.out(JSON.stringify({ data: saved }));
}

function addLeaseCommands(program: Command, surface: Surface): void {
  const leases = program.command('leases').description('rented machines');
  addListing(leases, surface, { name: 'list', about: 'all leases', path: '/admin/leases' });
  withJson(
    leases.command('show').description('one lease, with the steps of its life').argument('<id>', '', parseId),
  ).action((id: string, options: OutputOptions) =>
    ask(surface, options, { method: 'GET', path: pathTo('admin', 'leases', id) }),
  );
  addLogsCommand(leases, surface);
  withJson(leases.command('close').description('return a machine').argument('<id>', '', parseId)).action(
    (id: string, options: OutputOptions) =>
      ask(surface, options, { method: 'POST', path: pathTo('admin', 'leases', id, 'close'), body: {} }),
  );
}
