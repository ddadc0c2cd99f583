import type { Command } from 'commander';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import { AdminClient } from './admin-client.ts';
import { parseId, pathTo, withJson } from './ask.ts';
import { cleanLine } from './table.ts';
import type { OutputOptions, Surface } from './terminal.ts';
import { parseCount } from './values.ts';

interface LogOptions extends OutputOptions {
  readonly follow?: boolean;
  readonly events?: boolean;
  readonly service?: string;
  readonly tail?: number;
}

const lineSchema = z.union([z.object({ source: z.string(), text: z.string() }), z.object({ error: z.string() })]);

/** `leases logs`: what the machine of a lease says. */
export function addLogsCommand(leases: Command, surface: Surface): void {
  withJson(leases.command('logs').description('what the container of a lease prints').argument('<id>', '', parseId))
    .option('--follow', 'go on until it is stopped')
    .option('--events', 'what its cluster says of it instead: scheduled, pulling, started, …')
    .option('--service <name>', 'of one service alone')
    .option('--tail <n>', 'so many last lines of what was printed before (200)', parseCount)
    .action((id: string, options: LogOptions) => printLogs(surface, id, options));
}

async function printLogs(surface: Surface, id: string, options: LogOptions): Promise<void> {
  const { follow, events, service, tail } = options;
  const query = new URLSearchParams({
    ...(follow ? { follow: 'true' } : {}),
    ...(events ? { events: 'true' } : {}),
    ...(service === undefined ? {} : { service }),
    ...(tail === undefined ? {} : { tail: String(tail) }),
  });
  const path = `${pathTo('admin', 'leases', id, 'logs')}?${query.toString()}`;
  for await (const line of new AdminClient(surface).lines(path)) {
    // An empty one only says that the connection stands.
    if (line === '') continue;
    const parsed = lineSchema.safeParse(parse(line));
    if (parsed.success && 'error' in parsed.data) throw new AppError('upstream_error', cleanLine(parsed.data.error));
    if (options.json || !parsed.success) surface.out(options.json ? line : cleanLine(line));
    else if ('text' in parsed.data) surface.out(cleanLine(`${parsed.data.source}  ${parsed.data.text}`));
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
