import type { Clock } from '../../clock.ts';
import type { Price } from '../../spec.ts';
import type { Trust } from '../../spec/trust.ts';
import { nanoFromPicoUp, perBlockFromPerHour, type NanoUsd } from '../../units.ts';
import type { OrderRequest } from '../market.ts';
import type { Disputes } from '../disputes.ts';
import { StandingMarket } from '../standing-market.ts';

/** Somebody else's API that speaks OpenAI's dialect and is paid by the token. */
export interface ApiEndpoint {
  readonly id: string;
  /** Without `/v1`. */
  readonly url: string;
  readonly apiKey: string | null;
  readonly pool: string;
  /** What the API calls the model. */
  readonly model: string;
  /** Requests it may be sent at a time. */
  readonly slots: number;
  /** What the operator vouches for, and where it runs, if that is known. */
  readonly trust: Trust;
  readonly region: string | null;
  readonly price: Price;
}

/**
 * Outside APIs as bidders. What they ask is per token; to stand in one auction with machines each bids what an hour would
 * cost at the load that the order expects. Nothing is paid by time, so there is no escrow: what requests use is booked with
 * their charge as owed to the API.
 */
export class ApiMarket extends StandingMarket {
  constructor(endpoints: readonly ApiEndpoint[], clock: Clock, disputes: Disputes | null = null) {
    super({
      name: 'api',
      clock,
      policy: 'token price at the expected load',
      disputes,
      bidders: endpoints.map(({ price, ...endpoint }) => ({
        ...endpoint,
        engine: 'openai',
        tokenPrice: price,
        price: (request, blockMs) => {
          const perHour = costPerHour(price, request);
          const { input, output } = request.expected ?? NOTHING;
          const note = `an API, by the token; at ${Math.round(input)} + ${Math.round(output)} tokens an hour`;
          return { perBlock: perBlockFromPerHour(perHour, blockMs), note };
        },
      })),
    });
  }

  metered(leaseId: string, paidNanoUsd: NanoUsd): void {
    this.update(leaseId, (lease) => ({ ...lease, depositNanoUsd: paidNanoUsd, rentNanoUsd: paidNanoUsd }));
  }
}

const NOTHING = { input: 0, output: 0 };

function costPerHour(price: Price, { expected }: OrderRequest): NanoUsd {
  const { input, output } = expected ?? NOTHING;
  const tokens = (count: number): bigint => BigInt(Math.ceil(Math.min(Math.max(0, count), 1e12)));
  return nanoFromPicoUp(tokens(input) * price.inputPico + tokens(output) * price.outputPico);
}
