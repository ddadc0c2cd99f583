import { fileURLToPath } from 'node:url';
import { startChild, type Child } from '../child.ts';
import { startGateway, type Gateway } from './gateway.ts';
import { CHECKS_PER_SYSTEM, portOf, type Stage, type System } from './measuring.ts';
import type { Measure } from './summary.ts';

export interface Started {
  readonly systems: System[];
  readonly mock: { readonly pid: number; readonly port: number };
  readonly gateway: Gateway | undefined;
}

/**
 * The mock, and dispatch and underbid if they are asked for. What is started goes to `children` at once, so that it is
 * ended also when the next one does not start.
 */
export async function startSystems(stage: Stage & { children: Child[] }): Promise<Started> {
  const { context, settings, placement, children } = stage;
  const { folder, signal } = context;
  const start = async (name: string, args: readonly string[], cores: string | undefined): Promise<Child> => {
    const file = fileURLToPath(new URL(`./${name}.ts`, import.meta.url));
    const child = await startChild({ file, args, folder, ready: /ready on http:/, cores, signal });
    children.push(child);
    return child;
  };
  const server = await start('mock-server', [], placement?.rest);
  const mock = { pid: server.pid, port: portOf(server) };
  const key = 'sk-ub-'.padEnd(49, '0');
  const systems: System[] = [{ name: 'direct', port: mock.port, key, pid: undefined }];
  if (settings.systems.includes('dispatch')) {
    const child = await start('dispatch-proxy', [`http://127.0.0.1:${mock.port}`], placement?.all);
    systems.push({ name: 'dispatch', port: portOf(child), key, pid: child.pid });
  }
  if (!settings.systems.includes('underbid')) return { systems, mock, gateway: undefined };
  const gateway = await startGateway({ folder, mockPort: mock.port, cores: placement?.all, signal });
  children.push(gateway.child);
  systems.push({ name: 'underbid', port: gateway.port, key: gateway.key, pid: gateway.child.pid });
  return { systems, mock, gateway };
}

/** What the gateway's ledger must have charged. */
export function countAnswers(gateway: Gateway, measures: readonly Measure[]): number {
  return measures
    .filter((measure) => measure.system === 'underbid')
    .reduce((sum, measure) => sum + measure.answered, gateway.answered + CHECKS_PER_SYSTEM);
}
