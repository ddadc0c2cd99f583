import { describeError } from '../../errors.ts';
import type { Ms } from '../../units.ts';
import type { Micro } from './amounts.ts';
import { Inspection } from './chain-inspection.ts';
import { checkAccount } from './checkup-account.ts';
import { checkProviders } from './checkup-providers.ts';
import { Findings, formatMicro, type CheckupOptions, type CheckupPart, type Finding } from './checkup-part.ts';

const TIMEOUT_MS: Ms = 8000;
const LAG_BLOCKS_WARN = 3;
const OLD_MS: Ms = 60_000;
const STALLED_MS: Ms = 120_000;

/** Looks at a chain and its providers, changes nothing, needs no key: a line for each thing, with what to do about it. */
export async function checkUp(options: CheckupOptions): Promise<readonly Finding[]> {
  const { rpc: urls, chainId, dispatcher, clock, signal } = options;
  const findings = new Findings();
  const log = (): void => undefined;
  const chain = new Inspection({ urls, chainId, dispatcher, clock, signal, log, timeoutMs: TIMEOUT_MS });
  const part: CheckupPart = { ...options, chain, findings };
  if (!(await checkNodes(part))) return findings.all;
  await guarded(findings, 'modules', () => checkModules(part));
  const depositMin = await guarded(findings, 'parameters', () => checkParameters(part));
  await guarded(findings, 'minting', () => checkMinting(part));
  await guarded(findings, 'account', () => checkAccount(part, depositMin));
  await guarded(findings, 'providers', () => checkProviders(part));
  return findings.all;
}

/** One question that fails is a finding; the others are asked all the same. */
async function guarded<T>(findings: Findings, name: string, check: () => Promise<T>): Promise<T | null> {
  try {
    return await check();
  } catch (error) {
    findings.fail(name, describeError(error).slice(0, 500), 'try again, or with another node under rpc');
    return null;
  }
}

/** False: nothing more can be asked. */
async function checkNodes({ chain, findings, clock, chainId }: CheckupPart): Promise<boolean> {
  const nodes = await chain.nodes();
  const best = Math.max(0, ...nodes.map(({ head, problem }) => (problem === null ? (head?.height ?? 0) : 0)));
  const usable = nodes.filter(({ problem }) => problem === null);
  for (const { url, head, problem } of nodes) {
    const name = `node ${new URL(url).host}`;
    if (head === null || problem !== null) {
      const advice =
        usable.length > 0 ? 'remove it from rpc, or wait: the others serve' : 'put nodes that answer under rpc';
      findings.add(usable.length > 0 ? 'warn' : 'fail', name, problem ?? 'no answer', advice);
      continue;
    }
    const lag = best - head.height;
    const oldMs = clock.now() - head.timeMs;
    const detail = `chain ${head.chainId}, block ${head.height}, ${Math.round(oldMs / 1000)} s old, ${lag} behind the best`;
    if (oldMs > STALLED_MS) findings.fail(name, detail, 'the chain has stalled, or this clock is wrong: compare it');
    else if (lag > LAG_BLOCKS_WARN || oldMs > OLD_MS)
      findings.warn(name, detail, 'it lags: another node is asked first');
    else findings.ok(name, detail);
  }
  const [first] = usable;
  if (!first?.head) return false;
  if (chainId !== null) findings.ok('chain id', chainId);
  else
    findings.warn('chain id', `${first.head.chainId}, as the first node says`, `set chain_id: ${first.head.chainId}`);
  if (nodes.length === 1) findings.warn('nodes', 'there is one', 'name a second node of somebody else under rpc');
  return true;
}

async function checkModules({ chain, findings }: CheckupPart): Promise<void> {
  const version = await chain.nodeVersion();
  const missing = await chain.unspoken();
  const said = version === '' ? '' : `the node is ${version}; `;
  if (missing.length === 0) findings.ok('modules', `${said}every module version that Underbid speaks is there`);
  else
    findings.fail(
      'modules',
      `${said}not known there: ${missing.join(', ')}`,
      'this version does not fit: update Underbid',
    );
}

async function checkParameters({ chain, findings, denom }: CheckupPart): Promise<Micro | null> {
  const depositMin = await chain.queries.depositMin(denom);
  if (depositMin === null) {
    findings.fail(
      'deposits',
      `the chain takes none in ${denom}`,
      'set denom to one that it takes; leases are paid in uact',
    );
  } else findings.ok('deposits', `an order costs at least ${formatMicro(depositMin, denom)}, given back less the rent`);
  const params = await chain.marketParams();
  if (params) {
    const { orderMaxBids, reclamationMinMs, reclamationMaxMs } = params;
    findings.ok('bids', `at most ${orderMaxBids} for an order`);
    const range = `${reclamationMinMs / 3_600_000} to ${reclamationMaxMs / 3_600_000} hours`;
    if (reclamationMaxMs > 0) findings.ok('reclamation', `an order may ask for a notice of ${range}`);
  }
  return depositMin;
}

async function checkMinting({ chain, findings }: CheckupPart): Promise<void> {
  const [status, least] = [await chain.mintStatus(), await chain.mintMin()];
  if (status === null) {
    findings.warn('minting', 'the chain does not say', 'ACT cannot be made from AKT here as far as one can see');
    return;
  }
  const { state, allowed, ratio } = status;
  const detail = `${state}, collateral ${ratio.toFixed(2)}${least === null ? '' : `, at least ${formatMicro(least, 'uact')} a time`}`;
  if (!allowed) findings.warn('minting', `${detail}: no ACT is made now`, 'leases go on; keep enough ACT for the time');
  else if (state !== 'healthy') findings.warn('minting', detail, 'mints may halt: make the ACT that you need soon');
  else findings.ok('minting', `${detail}; a mint may be cancelled all the same`);
}
