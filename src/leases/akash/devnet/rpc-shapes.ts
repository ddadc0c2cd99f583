import { hexHash, type Block, type Chain, type IndexedTx } from './chain.ts';
import type { ChainEvent } from './context.ts';
import type { Denial } from './denials.ts';

/** The JSON of CometBFT 0.38: numbers of 64 bit as strings, hashes in hex, other bytes in base64. */

const ZERO_HASH = '0'.repeat(64);
/** One validator, whose key nobody has to know. */
const VALIDATOR = { address: '0'.repeat(40), key: Buffer.alloc(32, 7).toString('base64') };

const SIGNATURE = Buffer.alloc(64, 7).toString('base64');

export const timeText = (ms: number): string => new Date(ms).toISOString();

export function statusOf(chain: Chain): unknown {
  const { height } = chain.seen;
  const block = chain.block(height);
  return {
    node_info: {
      protocol_version: { p2p: '8', block: '11', app: '0' },
      id: '0'.repeat(40),
      listen_addr: 'tcp://127.0.0.1:26656',
      network: chain.chainId,
      version: '0.38.19',
      channels: '40202122233038606100',
      moniker: 'underbid-devnet',
      other: { tx_index: 'on', rpc_address: 'tcp://127.0.0.1:26657' },
    },
    sync_info: {
      latest_block_hash: block === undefined ? ZERO_HASH : hexHash(block.hash),
      latest_app_hash: ZERO_HASH,
      latest_block_height: String(height),
      latest_block_time: timeText(block?.timeMs ?? chain.timeMs),
      earliest_block_hash: ZERO_HASH,
      earliest_app_hash: ZERO_HASH,
      earliest_block_height: '1',
      earliest_block_time: timeText(chain.block(1)?.timeMs ?? chain.timeMs),
      catching_up: false,
    },
    validator_info: {
      address: VALIDATOR.address,
      pub_key: { type: 'tendermint/PubKeyEd25519', value: VALIDATOR.key },
      voting_power: '1',
    },
  };
}

export function abciResult({ value, height, failed }: { value: Uint8Array; height: number; failed?: Denial }): unknown {
  return {
    code: failed?.code ?? 0,
    log: failed?.message ?? '',
    info: '',
    index: '0',
    key: null,
    value: value.length === 0 ? null : Buffer.from(value).toString('base64'),
    proofOps: null,
    height: String(height),
    codespace: failed?.codespace ?? '',
  };
}

export function eventsJson(events: readonly ChainEvent[]): unknown {
  return events.map(({ type, attributes }) => ({
    type,
    attributes: attributes.map(([key, value]) => ({ key, value, index: true })),
  }));
}

function resultJson({ result }: IndexedTx): unknown {
  return {
    code: result.code,
    data: result.data.length === 0 ? null : Buffer.from(result.data).toString('base64'),
    log: result.log,
    info: '',
    gas_wanted: result.gasWanted.toString(),
    gas_used: result.gasUsed.toString(),
    events: eventsJson(result.events),
    codespace: result.codespace,
  };
}

export function txJson(tx: IndexedTx): unknown {
  return {
    hash: tx.hash,
    height: String(tx.height),
    index: tx.index,
    tx_result: resultJson(tx),
    tx: Buffer.from(tx.bytes).toString('base64'),
  };
}

const blockId = (block: Block | undefined) => ({
  hash: block === undefined ? '' : hexHash(block.hash),
  parts: { total: 1, hash: block === undefined ? '' : hexHash(block.hash) },
});

/** Of the one validator; flag 2: for this block. */
const signatureOf = ({ timeMs }: Block) => ({
  block_id_flag: 2,
  validator_address: VALIDATOR.address,
  timestamp: timeText(timeMs),
  signature: SIGNATURE,
});

export function blockAt(chain: Chain, height: number): unknown {
  const block = height > chain.seen.height ? undefined : chain.block(height);
  if (block === undefined) return null;
  const before = chain.block(height - 1);
  return {
    block_id: blockId(block),
    block: {
      header: {
        version: { block: '11' },
        chain_id: chain.chainId,
        height: String(height),
        time: timeText(block.timeMs),
        last_block_id: blockId(before),
        last_commit_hash: ZERO_HASH,
        data_hash: ZERO_HASH,
        validators_hash: ZERO_HASH,
        next_validators_hash: ZERO_HASH,
        consensus_hash: ZERO_HASH,
        app_hash: ZERO_HASH,
        last_results_hash: ZERO_HASH,
        evidence_hash: ZERO_HASH,
        proposer_address: VALIDATOR.address,
      },
      data: { txs: block.txs.map(({ bytes }) => Buffer.from(bytes).toString('base64')) },
      evidence: { evidence: [] },
      last_commit: {
        height: String(height - 1),
        round: 0,
        block_id: blockId(before),
        signatures: before === undefined ? [] : [signatureOf(before)],
      },
    },
  };
}

export function blockResults(chain: Chain, height: number): unknown {
  const block = height > chain.seen.height ? undefined : chain.block(height);
  if (block === undefined) return null;
  return {
    height: String(height),
    txs_results: block.txs.map(resultJson),
    finalize_block_events: eventsJson(block.events),
    validator_updates: null,
    consensus_param_updates: {
      block: { max_bytes: '22020096', max_gas: '-1' },
      evidence: { max_age_num_blocks: '100000', max_age_duration: '172800000000000', max_bytes: '1048576' },
      validator: { pub_key_types: ['ed25519'] },
      version: {},
      abci: {},
    },
    app_hash: ZERO_HASH,
  };
}
