import type { Command } from 'commander';
import { z } from 'zod';
import { AdminClient } from './admin-client.ts';
import { pathTo, withJson } from './ask.ts';
import { formatReply } from './table.ts';
import type { OutputOptions, Surface } from './terminal.ts';

const readiness = z.looseObject({ status: z.string() });

/** Whether the gateway at UNDERBID_HOST and UNDERBID_PORT serves, and who leads. */
export function addStatusCommand(program: Command, surface: Surface): void {
  withJson(
    program.command('status').description('whether the gateway serves, stands by or is stopping, and who leads'),
  ).action(async (options: OutputOptions) => {
    const client = new AdminClient(surface);
    const ready = readiness.parse(await client.readiness());
    const leads = ready.status === 'ready';
    const leader = leads ? (await client.call({ method: 'GET', path: pathTo('admin', 'leader') })).body : null;
    const told = leader === null ? ready : { ...ready, leader };
    surface.out(options.json ? JSON.stringify(told) : formatReply(told));
  });
}
