import type { TestContext } from 'node:test';
import * as v1 from '@akashnetwork/chain-sdk/private-types/akash.v1';
import * as v4 from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import * as v5 from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import { generateManifest, generateManifestVersion, manifestToSortedJSON } from '@akashnetwork/chain-sdk';
import { DirectSecp256k1HdWallet, Registry, type EncodeObject, type GeneratedType } from '@cosmjs/proto-signing';
import {
  createProtobufRpcClient,
  defaultRegistryTypes,
  QueryClient,
  SigningStargateClient,
  type IndexedTx,
  type StdFee,
} from '@cosmjs/stargate';
import { connectComet } from '@cosmjs/tendermint-rpc';
import { parse } from 'yaml';
import { systemClock } from '../../../../src/clock.ts';
import type { StartContainer } from '../../../../src/leases/akash/devnet/container.ts';
import { startDevnet, type Devnet, type DevnetOptions } from '../../../../src/leases/akash/devnet/network.ts';
import { DEFAULT_PROVIDERS } from '../../../../src/leases/akash/devnet/provider-spec.ts';
import { systemRandom } from '../../../../src/random.ts';

/** The emulated network with blocks on demand, and cosmjs with chain-sdk's types as its client. */

const TYPES = [
  v4.MsgCreateDeployment,
  v4.MsgUpdateDeployment,
  v4.MsgCloseDeployment,
  v4.MsgCloseGroup,
  v4.MsgPauseGroup,
  v4.MsgStartGroup,
  v5.MsgCreateBid,
  v5.MsgCreateLease,
  v5.MsgCloseLease,
  v5.MsgCloseBid,
  v5.MsgWithdrawLease,
  v1.MsgAccountDeposit,
  v1.MsgCreateCertificate,
  v1.MsgRevokeCertificate,
  v1.MsgMintACT,
  v1.MsgBurnACT,
  v4.MsgCreateProvider,
];

export const registry = new Registry([
  ...defaultRegistryTypes,
  ...TYPES.map((type): [string, GeneratedType] => [`/${type.$type}`, type as unknown as GeneratedType]),
]);

export const FEE: StdFee = { amount: [{ denom: 'uakt', amount: '25000' }], gas: '1000000' };

/** Bids at once, so that a block has them. */
export const EAGER = DEFAULT_PROVIDERS.map((spec) => ({ ...spec, bidDelayMs: 0 }));

export const idle: StartContainer = () =>
  Promise.resolve({ url: 'http://127.0.0.1:9', exited: new Promise(() => undefined), stop: () => Promise.resolve() });

export async function openDevnet(t: TestContext, options: Partial<DevnetOptions> = {}): Promise<Devnet> {
  const devnet = await startDevnet({
    clock: systemClock,
    random: systemRandom,
    startContainer: idle,
    blockMs: null,
    providers: EAGER,
    ...options,
  });
  t.after(() => devnet.stop());
  return devnet;
}

export interface Tenant {
  readonly client: SigningStargateClient;
  readonly address: string;
  /** Signs, broadcasts, makes a block and gives the transaction as the index has it. */
  send(messages: readonly EncodeObject[], fee?: StdFee, memo?: string): Promise<IndexedTx>;
}

export async function openTenant(
  t: TestContext,
  devnet: Devnet,
  mnemonic: string = devnet.tenant.mnemonic,
): Promise<Tenant> {
  const wallet = await DirectSecp256k1HdWallet.fromMnemonic(mnemonic, { prefix: 'akash' });
  const client = await SigningStargateClient.connectWithSigner(devnet.rpcUrl, wallet, { registry });
  t.after(() => client.disconnect());
  const [account] = await wallet.getAccounts();
  const address = account?.address ?? '';
  return {
    client,
    address,
    send: async (messages, fee = FEE, memo = '') => {
      const hash = await client.signAndBroadcastSync(address, messages, fee, memo);
      devnet.nextBlock();
      const tx = await client.getTx(hash);
      if (tx === null) throw new Error(`the transaction ${hash} is in no block`);
      return tx;
    },
  };
}

/** Queries by gRPC path with chain-sdk's types, over abci_query. */
export async function openQueries(t: TestContext, devnet: Devnet) {
  const comet = await connectComet(devnet.rpcUrl);
  t.after(() => comet.disconnect());
  const rpc = createProtobufRpcClient(QueryClient.withExtensions(comet));
  return async <Q, R>(
    path: string,
    [requestType, request]: [{ encode(value: Q): { finish(): Uint8Array }; fromPartial(value: never): Q }, unknown],
    responseType: { decode(bytes: Uint8Array): R },
  ): Promise<R> => {
    const [service = '', method = ''] = path.split('/');
    const bytes = requestType.encode(requestType.fromPartial(request as never)).finish();
    return responseType.decode(await rpc.request(service, method, bytes));
  };
}

export const SDL = `
version: "2.0"
services:
  model:
    image: example/llama:1
    command: ["llama-server"]
    args: ["--alias", "smollm2-135m"]
    env: ["LLAMA_API_KEY=lease-key", "ODD=<a & b>"]
    expose:
      - { port: 8080, as: 80, to: [{ global: true }] }
      - { port: 9000, to: [{ global: true }] }
profiles:
  compute:
    model:
      resources:
        cpu: { units: 2 }
        memory: { size: 4Gi }
        storage: { size: 10Gi }
        gpu: { units: 1, attributes: { vendor: { nvidia: [{ model: rtx4090 }] } } }
  placement:
    anywhere:
      pricing:
        model: { denom: uact, amount: 10000 }
deployment:
  model: { anywhere: { profile: model, count: 1 } }
`;

export interface Order {
  readonly groups: v4.GroupSpec[];
  readonly hash: Uint8Array;
  readonly manifest: string;
}

export async function readSdl(sdl: string = SDL): Promise<Order> {
  const made = generateManifest(parse(sdl));
  if (!made.ok) throw new Error(JSON.stringify(made.value));
  const { groups, groupSpecs } = made.value;
  return { groups: groupSpecs, hash: await generateManifestVersion(groups), manifest: manifestToSortedJSON(groups) };
}

export const uact = (amount: number | bigint | string) => ({ denom: 'uact', amount: String(amount) });

export function createDeployment(
  owner: string,
  dseq: number,
  order: Order,
  deposit: { denom: string; amount: string } = uact(5_000_000),
): EncodeObject {
  const value = v4.MsgCreateDeployment.fromPartial({
    id: { owner, dseq },
    groups: order.groups,
    hash: order.hash,
    deposit: { amount: deposit, sources: [v1.Source.balance] },
  });
  return { typeUrl: '/akash.deployment.v1beta4.MsgCreateDeployment', value };
}

export function createLease(owner: string, dseq: number, provider: string, oseq = 1): EncodeObject {
  const value = v5.MsgCreateLease.fromPartial({ bidId: { owner, dseq, gseq: 1, oseq, provider, bseq: 0 } });
  return { typeUrl: '/akash.market.v1beta5.MsgCreateLease', value };
}

export function closeDeployment(owner: string, dseq: number): EncodeObject {
  const value = v4.MsgCloseDeployment.fromPartial({ id: { owner, dseq } });
  return { typeUrl: '/akash.deployment.v1beta4.MsgCloseDeployment', value };
}

export function providerNamed(devnet: Devnet, name: string): { readonly address: string; readonly hostUri: string } {
  const found = devnet.providers.find((provider) => provider.name === name);
  if (!found) throw new Error(`no provider ${name}`);
  return found;
}
