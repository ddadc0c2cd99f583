import { InvalidArgumentError, type Command } from 'commander';
import { AdminClient, type AdminCall } from './admin-client.ts';
import { formatReply } from './table.ts';
import type { OutputOptions, Surface } from './terminal.ts';

/** Makes one call and prints its reply; `shape` makes it readable for people. */
export async function ask(
  surface: Surface,
  options: OutputOptions,
  call: AdminCall,
  shape: (body: unknown) => unknown = (body) => body,
): Promise<void> {
  const reply = await new AdminClient(surface).call(call);
  surface.out(options.json ? reply.text.trim() || 'null' : formatReply(shape(reply.body)));
}

export function withJson(command: Command): Command {
  return command.option('--json', "print the gateway's own JSON");
}

/** A command that only reads: `underbid orders`. */
export function addListing(
  parent: Command,
  surface: Surface,
  listing: { name: string; about: string; path: string; shape?: ((body: unknown) => unknown) | undefined },
): void {
  withJson(parent.command(listing.name).description(listing.about)).action((options: OutputOptions) =>
    ask(surface, options, { method: 'GET', path: listing.path }, listing.shape),
  );
}

/** An id as an argument. A URL would swallow dots: `/admin/leases/..` is `/admin/`. */
export function parseId(text: string): string {
  if (/^\.*$/.test(text) || text.length > 256) throw new InvalidArgumentError('It is not an id.');
  return text;
}

/** Joins a path of fixed words and of ids, whose slashes are not the path's. */
export function pathTo(...parts: readonly string[]): string {
  return `/${parts.map((part) => encodeURIComponent(part)).join('/')}`;
}
