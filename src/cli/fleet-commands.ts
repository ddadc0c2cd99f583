import type { Command } from 'commander';
import { AdminClient } from './admin-client.ts';
import { addListing, ask, parseId, pathTo, withJson } from './ask.ts';
import { addLogsCommand } from './lease-logs.ts';
import { readPoolFile } from './pool-file.ts';
import { shortenAdvice, shortenDecisions, shortenPools, shortenProviders, shortenSwitch } from './shapes.ts';
import type { OutputOptions, Surface } from './terminal.ts';

/** Pools, and what runs for them. */
export function addFleetCommands(program: Command, surface: Surface): void {
  addPoolCommands(program, surface);
  addLeaseCommands(program, surface);
  const listings = [
    { name: 'replicas', about: 'running model servers' },
    { name: 'orders', about: 'orders with their bids, the choice and its reason' },
    { name: 'markets', about: 'where machines are rented, and why a market takes no orders now' },
    { name: 'decisions', about: 'what the scheduler did and why; --json has the figures', shape: shortenDecisions },
  ];
  for (const { name, about, shape } of listings) {
    addListing(program, surface, { name, about, path: pathTo('admin', name), shape });
  }
  withJson(
    program
      .command('providers')
      .description('providers with their scores; with an id: what it did, and what that makes of it')
      .argument('[id]', 'default: every provider, in short', parseId),
  ).action((id: string | undefined, options: OutputOptions) =>
    ask(surface, options, { method: 'GET', path: '/admin/providers' }, (body) => shortenProviders(body, id)),
  );
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
    ask(
      surface,
      options,
      { method: 'POST', path: pathTo('admin', 'pools', model, 'pause'), body: { reason } },
      shortenSwitch,
    ),
  );
  withJson(
    pools.command('resume').description('serve it again').argument('<model>', 'public model id', parseId),
  ).action((model: string, options: OutputOptions) =>
    ask(surface, options, { method: 'POST', path: pathTo('admin', 'pools', model, 'resume'), body: {} }, shortenSwitch),
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
