import { Command, CommanderError, Help, type Option } from 'commander';
import { AppError, describeError } from '../errors.ts';
import { addAccountCommands } from './account-commands.ts';
import { addAdminCommands } from './admin-commands.ts';
import { addConfigCommands } from './config-commands.ts';
import { addDevnetCommand } from './devnet-command.ts';
import { addDisputeCommands } from './dispute-commands.ts';
import { addDoctorCommand } from './doctor-command.ts';
import { addFleetCommands } from './fleet-commands.ts';
import { addKeyCommands } from './key-commands.ts';
import { addLedgerCommands } from './ledger-commands.ts';
import { addMoneyCommands } from './money-commands.ts';
import { addProvideCommand } from './provide-command.ts';
import { addStatusCommand } from './status-command.ts';
import type { ServeCommand, Surface } from './terminal.ts';

/** Runs one command line; returns the exit code: 0 done, 1 failed, 2 bad usage. */
export async function runCommand(args: readonly string[], surface: Surface): Promise<number> {
  try {
    await buildProgram(surface).parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    // Help and usage errors: commander has printed them already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    surface.err(error instanceof AppError ? error.message : `this is a bug in underbid: ${describeBug(error)}`);
    return 1;
  }
}

function buildProgram(surface: Surface): Command {
  const program = new Command('underbid')
    .description('A serverless AI inference gateway that wins its GPUs at auction.')
    // Before the commands: they inherit both.
    .exitOverride()
    .configureOutput({
      writeOut: (text) => surface.out(text.replace(/\n$/, '')),
      writeErr: (text) => surface.err(text.replace(/\n$/, '')),
    })
    .configureHelp({ optionDescription });
  program
    .command('serve')
    .description('run the gateway until SIGTERM')
    .option('--close-leases', 'at its end close every lease; without it those on Akash stay and are found again')
    .option('--standby', 'wait while another gateway uses the data folder, then take over')
    .action((options: ServeCommand) => surface.serve(options));
  addConfigCommands(program, surface);
  addStatusCommand(program, surface);
  addFleetCommands(program, surface);
  addDisputeCommands(program, surface);
  addMoneyCommands(program, surface);
  addAccountCommands(program, surface);
  addKeyCommands(program, surface);
  addAdminCommands(program, surface);
  addLedgerCommands(program, surface);
  addDevnetCommand(program, surface);
  addDoctorCommand(program, surface);
  addProvideCommand(program, surface);
  program.addHelpText(
    'after',
    '\nAll but serve, config, ledger check, devnet, doctor and provide talk to a running gateway: at UNDERBID_HOST and UNDERBID_PORT, with\n' +
      'UNDERBID_ADMIN_KEY or the key in the data folder. Tables are for people, --json is for programs.\n' +
      'Exit codes: 0 done, 1 failed, 2 bad usage.',
  );
  adviseOnErrors(program, 'underbid');
  return program;
}

function optionDescription(option: Option): string {
  const text = new Help().optionDescription(option);
  return option.mandatory ? `${text} (required)` : text;
}

/** After a usage error: where the right usage is. */
function adviseOnErrors(command: Command, path: string): void {
  command.showHelpAfterError(`(${path} --help says how it is used)`);
  for (const child of command.commands) adviseOnErrors(child, `${path} ${child.name()}`);
}

function describeBug(error: unknown): string {
  return error instanceof Error ? (error.stack ?? describeError(error)) : describeError(error);
}
