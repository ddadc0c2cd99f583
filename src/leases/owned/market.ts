import type { Clock } from '../../clock.ts';
import type { Trust } from '../../spec/trust.ts';
import { perBlockFromPerHour, type NanoUsd } from '../../units.ts';
import type { Disputes } from '../disputes.ts';
import { StandingMarket } from '../standing-market.ts';

/** A server of the operator's own that already runs. */
export interface OwnedServer {
  readonly id: string;
  readonly url: string;
  readonly apiKey: string | null;
  readonly pool: string;
  readonly slots: number;
  readonly costNanoUsdPerHour: NanoUsd;
  /** What the operator vouches for; left out: audited, it is the operator's own. */
  readonly trust?: Trust;
  /** Where it stands; left out: not said. */
  readonly region?: string | null;
}

const OWN_TRUST: Trust = 'audited';

/**
 * The operator's own machines as bidders: each bids its cost per hour. Nothing is paid to anybody, so there is no escrow;
 * the price stands for what the machine costs.
 */
export class OwnedMarket extends StandingMarket {
  constructor(servers: readonly OwnedServer[], clock: Clock, disputes: Disputes | null = null) {
    super({
      name: 'owned',
      clock,
      policy: 'cost',
      disputes,
      bidders: servers.map(({ costNanoUsdPerHour, trust = OWN_TRUST, region = null, ...server }) => ({
        ...{ ...server, trust, region },
        model: null,
        engine: null,
        tokenPrice: null,
        asks: (blockMs) => perBlockFromPerHour(costNanoUsdPerHour, blockMs),
        price: (_request, blockMs) => ({
          perBlock: perBlockFromPerHour(costNanoUsdPerHour, blockMs),
          note: 'own machine, at cost',
        }),
      })),
    });
  }
}
