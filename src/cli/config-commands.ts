import type { Command } from 'commander';
import { stringify } from 'yaml';
import { describeSettings } from '../config/describe.ts';
import { settingsHelp } from '../config/help.ts';
import { configJsonSchema } from '../config/json-schema.ts';
import { warnSettings } from '../config/warnings.ts';
import { loadSettings } from '../config.ts';
import type { OutputOptions, Surface } from './terminal.ts';

export function addConfigCommands(program: Command, surface: Surface): void {
  const config = program
    .command('config')
    .description('the settings: what they are, and whether yours are right')
    .addHelpText('after', `\n${settingsHelp()}`);
  config
    .command('check')
    .description('check environment and file, and print what is in force')
    .option('--json', 'print JSON instead of YAML')
    .action((options: OutputOptions) => {
      const settings = loadSettings({ env: surface.env, cwd: surface.cwd, nowMs: surface.clock.now() });
      for (const warning of warnSettings(settings, surface.clock.now())) surface.err(`warning: ${warning}`);
      const inForce = describeSettings(settings);
      surface.out(
        options.json
          ? JSON.stringify(inForce, null, 2)
          : stringify(inForce, { aliasDuplicateObjects: false }).trimEnd(),
      );
    });
  config
    .command('schema')
    .description("print the file's JSON Schema, for editors")
    .action(() => surface.out(JSON.stringify(configJsonSchema(), null, 2)));
}
