import type { RpcClient } from '@cosmjs/tendermint-rpc';
import { request, type Dispatcher } from 'undici';
import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { EpochMs, Ms } from '../../units.ts';
import { deadline, readLimited } from './limits.ts';

type RpcRequest = Parameters<RpcClient['execute']>[0];
type RpcReply = Awaited<ReturnType<RpcClient['execute']>>;

/** The node could not be asked, or what it said was no answer: another one may know. */
export class NodeUnreachable extends Error {}
/** The node answered with an error of its own. */
export class NodeRefused extends Error {}

export interface NodeHead {
  readonly height: number;
  readonly timeMs: EpochMs;
  readonly chainId: string;
}

export interface NodeState {
  readonly url: string;
  readonly head: NodeHead | null;
  /** Null: it answers and keeps up. */
  readonly problem: string | null;
}

interface Node {
  readonly url: string;
  head: NodeHead | null;
  problem: string | null;
  /** Asked last until then. */
  restMs: EpochMs;
}

export interface RpcPoolOptions {
  readonly urls: readonly string[];
  /** Null: taken from the first node that answers. */
  readonly chainId: string | null;
  readonly dispatcher: Dispatcher;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  readonly timeoutMs?: Ms;
}

const TIMEOUT_MS = 10_000;
const REPLY_BYTES_MAX = 8_000_000;
/** A node further behind the best than this is not asked. */
const LAG_BLOCKS_MAX = 3;
const REST_MS = 15_000;

/**
 * Several nodes behind one client for cosmjs: each call goes to the best node, and to the next one when that fails. A
 * broadcast may be repeated like a read: the very same bytes are taken once, however many nodes are told.
 */
export class RpcPool implements RpcClient {
  readonly #options: RpcPoolOptions;
  readonly #nodes: Node[];
  #chainId: string | null;
  #id = 0;
  #failovers = 0;

  constructor(options: RpcPoolOptions) {
    this.#options = options;
    this.#chainId = options.chainId;
    this.#nodes = options.urls.map((url) => ({ url, head: null, problem: null, restMs: 0 }));
  }

  disconnect(): void {}

  /** What is known of each node, for operators. */
  nodes(): readonly NodeState[] {
    return this.#nodes.map(({ url, head, problem }) => ({ url, head, problem }));
  }

  /** The best node's newest block. */
  get head(): NodeHead | null {
    return this.#nodes.reduce<NodeHead | null>(
      (best, { head, problem }) => (problem === null && head && head.height > (best?.height ?? -1) ? head : best),
      null,
    );
  }

  get chainId(): string | null {
    return this.#chainId;
  }

  /** How often a call had to go on to another node: what the one before did with it is not known. */
  get failovers(): number {
    return this.#failovers;
  }

  async execute(rpc: RpcRequest): Promise<RpcReply> {
    let last: Error = new NodeUnreachable('no node of the chain is configured');
    for (const node of this.#order()) {
      try {
        return await this.#ask(node, rpc.method, rpc.params);
      } catch (error) {
        if (!(error instanceof NodeUnreachable)) throw error;
        last = error;
        this.#failovers += 1;
        this.#rest(node, error.message);
      }
    }
    throw last;
  }

  /** A node that answered from an older block than we have seen is asked last for a while. */
  blameStale(height: number): void {
    for (const node of this.#nodes) {
      if (node.head && node.head.height <= height) this.#rest(node, `is behind, at block ${height}`);
    }
  }

  /** Asks every node for its newest block; a wrong chain and one that lags are passed over until they are right again. */
  async refresh(): Promise<NodeHead | null> {
    await Promise.all(this.#nodes.map((node) => this.#look(node)));
    const best = this.head;
    for (const node of this.#nodes) {
      const behind = best && node.head && node.problem === null ? best.height - node.head.height : 0;
      if (behind > LAG_BLOCKS_MAX) this.#rest(node, `is ${behind} blocks behind`);
    }
    return best;
  }

  async #look(node: Node): Promise<void> {
    try {
      const { result } = await this.#ask(node, 'status', {});
      const head = readStatus(result);
      if (this.#chainId === null) this.#chainId = head.chainId;
      node.head = head;
      if (head.chainId !== this.#chainId) {
        this.#rest(node, `is of the chain ${head.chainId}, not ${this.#chainId}`);
        return;
      }
      node.problem = null;
    } catch (error) {
      this.#rest(node, describeError(error));
    }
  }

  #rest(node: Node, problem: string): void {
    if (node.problem !== problem) this.#options.log(`node ${new URL(node.url).host}: ${problem}`.slice(0, 500));
    node.problem = problem;
    node.restMs = this.#options.clock.now() + REST_MS;
  }

  /** Healthy ones first, the highest before the others; those of another chain never. */
  #order(): Node[] {
    const now = this.#options.clock.now();
    const tired = ({ problem, restMs }: Node): number => (problem === null || restMs <= now ? 0 : 1);
    return this.#nodes
      .filter(({ head }) => head === null || this.#chainId === null || head.chainId === this.#chainId)
      .sort((a, b) => tired(a) - tired(b) || (b.head?.height ?? 0) - (a.head?.height ?? 0));
  }

  async #ask(node: Node, method: string, params: unknown): Promise<RpcReply> {
    const { clock, dispatcher, signal, timeoutMs = TIMEOUT_MS } = this.#options;
    this.#id += 1;
    const id = this.#id;
    const late = deadline(clock, timeoutMs, signal, `the node did not answer within ${timeoutMs / 1000} s`);
    let text: string;
    try {
      const reply = await request(node.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ jsonrpc: '2.0', id, method, params }),
        dispatcher,
        signal: late.signal,
      });
      text = await readLimited(reply.body, REPLY_BYTES_MAX);
    } catch (error) {
      if (signal.aborted) throw error;
      throw new NodeUnreachable(describeError(error), { cause: error });
    } finally {
      late.cancel();
    }
    return readReply(text, id);
  }
}

function readReply(text: string, id: number): RpcReply {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new NodeUnreachable('the node answered with something other than JSON');
  }
  const { error, result } = (typeof parsed === 'object' && parsed !== null ? parsed : {}) as Record<string, unknown>;
  if (error !== undefined && error !== null) {
    const { message = '', data = '' } = (typeof error === 'object' ? error : {}) as Record<string, unknown>;
    const text = `${String(message)} ${String(data)}`.trim().slice(0, 1000);
    // Another node may keep the index that this one does not.
    throw /indexing is disabled/i.test(text) ? new NodeUnreachable(text) : new NodeRefused(text);
  }
  if (result === undefined) throw new NodeUnreachable('the node answered without a result');
  return { jsonrpc: '2.0', id, result };
}

function readStatus(result: unknown): NodeHead {
  const { node_info: info, sync_info: sync } = (result ?? {}) as {
    node_info?: { network?: unknown };
    sync_info?: { latest_block_height?: unknown; latest_block_time?: unknown };
  };
  const height = Number(sync?.latest_block_height);
  const timeMs = Date.parse(String(sync?.latest_block_time));
  const chainId = info?.network;
  if (typeof chainId !== 'string' || !Number.isSafeInteger(height) || !Number.isFinite(timeMs)) {
    throw new NodeUnreachable('the node did not say where it is');
  }
  return { height, timeMs, chainId };
}
