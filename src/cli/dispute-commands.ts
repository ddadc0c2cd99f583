import type { Command } from 'commander';
import { AppError } from '../errors.ts';
import { addListing, ask, parseId, pathTo, withJson } from './ask.ts';
import { callMarket } from './provide-command.ts';
import * as flags from './provide-options.ts';
import type { OutputOptions, Surface } from './terminal.ts';

interface AnswerFlags {
  readonly market: string;
  readonly key: string;
  readonly accept?: boolean;
  readonly text: string;
}

/** Disputes with providers: an operator's side, and a provider's answer. */
export function addDisputeCommands(program: Command, surface: Surface): void {
  const disputes = program.command('disputes').description('breaches of what a pool was promised of its machines');
  addListing(disputes, surface, { name: 'list', about: 'all disputes, the newest first', path: '/admin/disputes' });
  withJson(disputes.command('show').description('one dispute, with its evidence').argument('<id>', '', parseId)).action(
    (id: string, options: OutputOptions) =>
      ask(surface, options, { method: 'GET', path: pathTo('admin', 'disputes', id) }),
  );
  const verdicts = [
    { verb: 'uphold', about: 'the provider was at fault: withheld rent comes back' },
    { verb: 'reject', about: 'it was not: withheld rent is paid' },
  ];
  for (const { verb, about } of verdicts) {
    withJson(
      disputes
        .command(verb)
        .description(about)
        .argument('<id>', '', parseId)
        .requiredOption('--reason <text>', 'kept with the verdict'),
    ).action((id: string, options: OutputOptions & { readonly reason: string }) =>
      ask(surface, options, {
        method: 'POST',
        path: pathTo('admin', 'disputes', id, verb),
        body: { reason: options.reason },
      }),
    );
  }
  disputes
    .command('answer')
    .description("as a provider: answer a dispute of the market's (see the log of `underbid provide`)")
    .argument('<id>', '', parseId)
    .requiredOption('--market <url>', "the gateway's address")
    .requiredOption('--key <ref>', 'the key that its operator gave you, as env:NAME or file:PATH')
    .requiredOption('--text <text>', 'what you have to say')
    .option('--accept', 'own up: the dispute is upheld')
    .action((id: string, options: AnswerFlags) => answer(surface, id, options));
}

async function answer(surface: Surface, id: string, options: AnswerFlags): Promise<void> {
  const { accept = false, text } = options;
  const call = callMarket(surface, flags.marketOf(options), flags.keyOf(options, surface).reveal());
  const { MarketConnection, MarketFailure } = await import('../leases/local/market-connection.ts');
  const connection = new MarketConnection({ call, session: '' });
  try {
    await connection.answerDispute(id, { accept, text, measured: [] });
  } catch (error) {
    if (error instanceof MarketFailure) throw new AppError('invalid_request', error.message);
    throw error;
  }
  surface.out(`${id}: answered`);
}
