import { MsgSignProviderAttributes } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import type { Clock } from '../../../clock.ts';
import type { RandomBytes } from '../../../random.ts';
import type { Ms } from '../../../units.ts';
import { createCertificate } from './certificate.ts';
import { Chain, type Block } from './chain.ts';
import type { StartContainer } from './container.ts';
import { drainEscrows } from './drain.ts';
import type { Coin } from './decimal.ts';
import { Faults, readFault, type FaultName } from './faults.ts';
import { createGenesis, FUNDS, USDC_DENOM } from './genesis.ts';
import { closeServer, listen, LOOPBACK } from './http.ts';
import { NodeClient } from './node-client.ts';
import { ProviderGateway } from './provider-gateway.ts';
import { ProviderLeases } from './provider-leases.ts';
import { attributesOf, DEFAULT_PROVIDERS, type ProviderSpec } from './provider-spec.ts';
import { Provider } from './provider.ts';
import { createRestServer } from './rest.ts';
import { createRpcServer } from './rpc.ts';
import { createWallet, type Wallet } from './wallet.ts';

/** The whole network on loopback: chain, RPC, REST and providers. Its state is in memory and ends with it. */
export interface DevnetOptions {
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly startContainer: StartContainer;
  /** Of the RPC, REST is on the next one; 0 takes any free ports. */
  readonly port?: number;
  /** Null: blocks come by `nextBlock` alone. */
  readonly blockMs?: Ms | null;
  /** Names, or `name=provider`. */
  readonly faults?: readonly string[];
  readonly providers?: readonly ProviderSpec[];
  readonly chainId?: string;
  /** What the tenant begins with. */
  readonly tenantFunds?: readonly Coin[];
}

export interface DevnetProvider {
  readonly name: string;
  readonly address: string;
  readonly hostUri: string;
  readonly audited: boolean;
}

export interface Devnet {
  readonly rpcUrl: string;
  readonly restUrl: string;
  readonly chainId: string;
  readonly usdcDenom: string;
  readonly tenant: Wallet;
  readonly payer: Wallet;
  readonly auditor: string;
  readonly providers: readonly DevnetProvider[];
  readonly chain: Chain;
  nextBlock(): Block;
  /** Of one provider alone, when it is named. */
  setFault(name: FaultName, on: boolean, provider?: string): void;
  stop(): Promise<void>;
}

const BLOCK_MS = 1_000;

export async function startDevnet(options: DevnetOptions): Promise<Devnet> {
  const { clock, random, providers: specs = DEFAULT_PROVIDERS, chainId = 'underbid-devnet-1' } = options;
  const [tenant, payer, auditor] = await Promise.all([
    createWallet(random),
    createWallet(random),
    createWallet(random),
  ]);
  const wallets = await Promise.all(specs.map(() => createWallet(random)));
  const chain = new Chain({
    chainId,
    genesis: createGenesis([
      { address: tenant.address, funds: options.tenantFunds ?? FUNDS.tenant },
      { address: payer.address, funds: FUNDS.payer },
      ...[auditor, ...wallets].map(({ address }) => ({ address, funds: FUNDS.other })),
    ]),
    faults: new Faults(),
    nowMs: clock.now(),
  });
  const sites = specs.map((spec, at) => new Site({ spec, wallet: wallets[at] ?? auditor, chain, options }));
  const servers = [createRpcServer(chain, clock), createRestServer(chain)] as const;
  const stopSites = (): Promise<unknown> => Promise.all(sites.map((site) => site.stop()));
  try {
    for (const site of sites) await site.start();
    register(chain, sites, auditor, clock);
    const rpcPort = await listen(servers[0], options.port ?? 0);
    const restPort = await listen(servers[1], options.port === undefined || options.port === 0 ? 0 : options.port + 1);
    const stopBlocks = keepBlocks(chain, sites, options);
    for (const text of options.faults ?? []) {
      const fault = readFault(text);
      if (fault === null) throw new Error(`there is no fault ${text}`);
      chain.faults.set(fault.name, true, fault.provider);
    }
    return {
      rpcUrl: `http://${LOOPBACK}:${rpcPort}`,
      restUrl: `http://${LOOPBACK}:${restPort}`,
      chainId,
      usdcDenom: USDC_DENOM,
      tenant,
      payer,
      auditor: auditor.address,
      providers: sites.map((site) => site.view),
      chain,
      nextBlock: () => chain.nextBlock(clock.now()),
      setFault: (name, on, provider) => chain.faults.set(name, on, provider ?? null),
      stop: async () => {
        stopBlocks();
        await Promise.all([stopSites(), ...servers.map((server) => closeServer(server))]);
      },
    };
  } catch (error) {
    await stopSites();
    await Promise.all(servers.filter(({ listening }) => listening).map((server) => closeServer(server)));
    throw error;
  }
}

/** The first blocks: providers and certificates, then what the auditor signs. */
function register(chain: Chain, sites: readonly Site[], auditor: Wallet, clock: Clock): void {
  for (const site of sites) site.register();
  chain.nextBlock(clock.now());
  const node = new NodeClient(chain, auditor);
  for (const { provider } of sites.filter(({ view }) => view.audited)) {
    const value = MsgSignProviderAttributes.encode({
      owner: provider.address,
      auditor: auditor.address,
      attributes: attributesOf(provider.spec),
    }).finish();
    node.send({ typeUrl: '/akash.audit.v1.MsgSignProviderAttributes', value });
  }
  chain.nextBlock(clock.now());
}

function keepBlocks(chain: Chain, sites: readonly Site[], { clock, blockMs = BLOCK_MS }: DevnetOptions): () => void {
  chain.onBlock((block) => {
    if (chain.faults.has('escrow-overdrawn')) drainEscrows(chain.state);
    for (const { provider } of sites) provider.onBlock(block);
  });
  if (blockMs === null) return () => undefined;
  let cancel = (): void => undefined;
  const tick = (): void => {
    cancel = clock.timer(blockMs, tick);
    if (!chain.faults.has('chain-stalled')) chain.nextBlock(clock.now());
  };
  cancel = clock.timer(blockMs, tick);
  return () => cancel();
}

/** One provider: its account on the chain, its gateway, its leases. */
class Site {
  readonly provider: Provider;
  readonly #gateway: ProviderGateway;
  readonly #leases: ProviderLeases;
  readonly #certificate: ReturnType<typeof createCertificate>;
  /** One change after the other. */
  #reaching: Promise<void> = Promise.resolve();

  constructor(parts: { spec: ProviderSpec; wallet: Wallet; chain: Chain; options: DevnetOptions }) {
    const { spec, wallet, chain, options } = parts;
    const { clock, startContainer: start } = options;
    const certify = () =>
      createCertificate({
        address: wallet.address,
        serial: BigInt(`0x${Buffer.from(options.random(8)).toString('hex')}`) | 1n,
        nowMs: clock.now(),
        hosts: [LOOPBACK],
      });
    this.#certificate = certify();
    const stranger = certify();
    this.#leases = new ProviderLeases({ name: spec.name, chain, clock, start });
    this.provider = new Provider({ spec, wallet, chain, clock, leases: this.#leases });
    const certificate = this.#certificate;
    this.#gateway = new ProviderGateway({ provider: wallet.address, chain, clock, leases: this.#leases, certificate });
    chain.faults.onChange(({ name }) => {
      const on = chain.faults.has(name, spec.name);
      if (name === 'wrong-certificate') this.#gateway.show(on ? stranger : certificate);
      if (name === 'dark-provider' && on) for (const forwarder of this.#forwarders()) forwarder.darken();
      if (name === 'provider-gone') this.#reaching = this.#reaching.then(() => this.#reach(!on));
    });
  }

  get view(): DevnetProvider {
    const { spec, address } = this.provider;
    return { name: spec.name, address, hostUri: this.#gateway.hostUri, audited: spec.audited };
  }

  start(): Promise<void> {
    return this.#gateway.start();
  }

  register(): void {
    this.provider.register(this.#gateway.hostUri, this.#certificate);
  }

  async stop(): Promise<void> {
    this.provider.stop();
    await this.#reaching;
    await Promise.all([this.#leases.stop(), this.#gateway.stop()]);
  }

  #forwarders() {
    return this.#leases.services().flatMap(({ forwarders }) => forwarders.map(({ forwarder }) => forwarder));
  }

  async #reach(reachable: boolean): Promise<void> {
    const doors = [this.#gateway, ...this.#forwarders()];
    await Promise.all(doors.map((door) => (reachable ? door.start() : door.stop())));
  }
}
