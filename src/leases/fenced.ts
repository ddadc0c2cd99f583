import { refused, type Market, type Outcome } from './market.ts';

/** What a market may have or not: each has to be named, so that none is lost behind the fence. */
type Optional<T> = { [K in keyof T as T extends Record<K, T[K]> ? never : K]-?: T[K] | undefined };

/**
 * A market whose actions ask first whether this gateway still leads: one that another has taken over from makes no order,
 * takes no bid, pays nothing and ends nothing. What it may read, it may read.
 */
export function fenceMarket(market: Market, leads: () => Promise<boolean>): Market {
  const act = async <T>(action: () => Promise<Outcome<T>>): Promise<Outcome<T>> =>
    (await leads()) ? action() : refused('another gateway leads');
  const optional: Optional<Market> = {
    health: market.health?.bind(market),
    logs: market.logs?.bind(market),
    metered: market.metered?.bind(market),
    cannot: market.cannot?.bind(market),
  };
  return {
    name: market.name,
    terms: () => market.terms(),
    block: () => market.block(),
    order: (id) => market.order(id),
    status: (leaseId) => market.status(leaseId),
    list: () => market.list(),
    providers: () => market.providers(),
    onChange: (listener) => market.onChange(listener),
    stop: () => market.stop(),
    tender: (order) => act(() => market.tender(order)),
    accept: (orderId, bidId, deposit) => act(() => market.accept(orderId, bidId, deposit)),
    cancel: (orderId) => act(() => market.cancel(orderId)),
    deploy: (leaseId, workload) => act(() => market.deploy(leaseId, workload)),
    fund: (leaseId, amount, fundingId) => act(() => market.fund(leaseId, amount, fundingId)),
    close: (leaseId, reason) => act(() => market.close(leaseId, reason)),
    dispute: (leaseId, breach) => act(() => market.dispute(leaseId, breach)),
    judge: (disputeId, verdict) => act(() => market.judge(disputeId, verdict)),
    ...(Object.fromEntries(Object.entries(optional).filter(([, part]) => part !== undefined)) as Pick<
      Market,
      keyof Optional<Market>
    >),
  };
}
