import type { TestContext } from 'node:test';
import * as plays from './failure-plays.ts';

/**
 * The fifteen ways in which leases on Akash are known to fail, by its users' own reports: each is played on the emulated
 * network by `failures.test.ts`, and printed as the table in the README.
 */
export interface Failure {
  readonly what: string;
  /** Where it was reported. */
  readonly threads: string;
  /** How it comes about on the emulated network. */
  readonly provoked: string;
  /** How it is found, and what the operator reads. */
  readonly told: string;
  readonly done: string;
  readonly play: (t: TestContext) => Promise<void>;
}

export const FAILURES: readonly Failure[] = [
  {
    what: 'nobody bids, though GPUs look free',
    threads: 'support#644, community#867',
    provoked: '`no-bids`',
    told: '`order.fell`: nobody bid; `orders` has who declined and why',
    done: 'the order is closed with its whole deposit back, the next one waits a while; other markets may serve',
    play: plays.nobodyBids,
  },
  {
    what: 'the provider is dark, the lease active, and its escrow drains',
    threads: 'console#3697, #3699',
    provoked: '`provider-gone`',
    told: '`replica.failed`: the provider does not answer (180 s), or the model server left three probes unanswered',
    done: 'the deployment is closed and refunded, the provider blamed, another machine leased',
    play: plays.darkProvider,
  },
  {
    what: 'the escrow ended a lease, and its container is never taken down',
    threads: 'support#515',
    provoked: '`escrow-overdrawn`',
    told: '`replica.failed`: its lease ended: overdrawn',
    done: 'nothing is sent to the container any more, the provider is not blamed, another machine is leased',
    play: plays.leftRunning,
  },
  {
    what: 'a provider closes healthy leases when its cluster fails',
    threads: 'support#245, #17, #15',
    provoked: '`lease-closed=PROVIDER`',
    told: '`replica.failed`: its lease ended: provider',
    done: 'the deployment that it left open is closed, its funds come back, the next order goes to another provider',
    play: plays.closedByProvider,
  },
  {
    what: 'the container never gets ready, and is paid for',
    threads: 'node#1676, #1170',
    provoked: 'a model server that never starts',
    told: '`replica.failed`: it was not ready within `limits.start_s`',
    done: "the lease is closed then, not after the provider's 8 minutes or 24 hours; the provider is blamed",
    play: plays.neverReady,
  },
  {
    what: 'account sequence mismatch',
    threads: 'console#3214, support#13',
    provoked: 'eight orders of one wallet at once',
    told: 'nothing: it cannot happen',
    done: 'transactions are unordered: no sequence, a time-out and nanoseconds of their own instead',
    play: plays.manyAtOnce,
  },
  {
    what: 'out of gas, because settlement costs more by then',
    threads: 'node#1508, helm-charts#25',
    provoked: '`out-of-gas`',
    told: "`leases show`: the fees of each transaction; a limit is told as the order's refusal",
    done: 'signed again with 1.6 times the gas that was used, three times at most, each below `fee_max_uakt`',
    play: plays.outOfGas,
  },
  {
    what: 'the lease was made, the manifest failed, and the retry makes the lease again',
    threads: 'console#3372',
    provoked: '`provider-gone` between the two',
    told: 'the replica says `not deployed yet` and why',
    done: 'the chain is asked first: one lease, and only the manifest is sent again',
    play: plays.manifestAgain,
  },
  {
    what: 'the provider refuses the manifest',
    threads: 'cloudmos-deploy#33, node#937',
    provoked: '`manifest-refused`',
    told: "`replica.failed`: not deployed, with the provider's own words",
    done: 'a hash that differs is not sent again, what may pass is (6 times); the lease is closed and refunded',
    play: plays.manifestRefused,
  },
  {
    what: '401 or TLS errors when the manifest is sent',
    threads: 'support#370, #371, #95',
    provoked: '`wrong-certificate`',
    told: '`replica.failed`: not ready in time, with the words of the handshake',
    done: 'no byte and no token goes to a door with another certificate; the lease is closed, the provider blamed',
    play: plays.wrongCertificate,
  },
  {
    what: 'ACT is not minted: cancelled in silence, or halted',
    threads: 'support#545, #445',
    provoked: '`mint-halted`',
    told: '`doctor`: minting halted, the collateral, the least amount',
    done: 'leases that run go on; orders are paid while there is ACT',
    play: plays.mintHalted,
  },
  {
    what: 'the escrow is too small for a dear GPU',
    threads: 'console#3590, #3611, #3276',
    provoked: 'hundreds of blocks at a high price',
    told: '`lease.funded`: runway below half',
    done: 'the lease begins with `runway_s` of rent and is filled up at half of it, never twice, and not when it is reclaimed',
    play: plays.shortEscrow,
  },
  {
    what: 'the reason of a close is lost',
    threads: 'support#403',
    provoked: 'a closed lease without its reason',
    told: 'the reason of the lease: by its state where the chain lost it',
    done: "insufficient funds are ours, anything else is the provider's doing",
    play: plays.lostReason,
  },
  {
    what: 'bids and reservations outlive the order',
    threads: 'support#438, #193, #435',
    provoked: 'an order that everybody forgot',
    told: '`orders`: order_timeout',
    done: 'an order without a lease is closed after 300 s, also one of an earlier run or one that no record tells of',
    play: plays.forgottenOrder,
  },
  {
    what: 'ports, addresses, several GPUs',
    threads: 'support#108, node#1667, awesome-akash#543',
    provoked: 'a port that is another one outside',
    told: '`leases show`: the delivery and its detail',
    done: 'the outside port is read from the lease; `shm` gives several GPUs their shared memory; a leased address that has not come up yet is waited for',
    play: plays.otherPort,
  },
];

const HEAD = ['', 'failure', 'reported in', 'found, and what you read', 'what is done'];

export function failuresTable(): string {
  const rows = FAILURES.map(({ what, threads, told, done }, at) => [String(at + 1), what, threads, told, done]);
  return [HEAD, HEAD.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
