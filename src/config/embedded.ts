/**
 * What serves when nobody wrote a file: one small model and four providers on this machine that bid for it. The numbers
 * make the auction a real one. Of the pool's ceiling of $0.10 an hour the market's take fee of 20 % leaves $0.083 to a
 * provider: `campus` wins while it is idle ($0.0196), `datahall` when campus has a lease already ($0.0230 to $0.0238),
 * `basement` is the slow, unaudited third, and `colo`, which cannot go below $0.1125, declines and says why.
 */
export const embeddedPools = {
  'smollm2-135m': {
    engine: 'llama.cpp' as const,
    model: 'smollm2-135m',
    context: 2048,
    quantization: 'q4_1',
    price: { input: '0.02', cached_input: '0.01', output: '0.05' },
    replicas: { min: 0, max: 2 },
    slots: 4,
    ceiling_usd_per_hour: '0.10',
    hardware: { cpu: 1, memory: '1Gi' },
    idle_s: 120,
    runway_s: 600,
  },
};

export const embeddedProviders = [
  {
    id: 'basement',
    slots: 1,
    cpu: 2,
    memory: '2Gi',
    gpus: [],
    audited: false,
    cost_usd_per_hour: '0.012',
    policy: { kind: 'fixed' as const, price_usd_per_hour: '0.035' },
    reply_ms: 450,
  },
  {
    id: 'datahall',
    slots: 2,
    cpu: 8,
    memory: '16Gi',
    gpus: [],
    audited: true,
    cost_usd_per_hour: '0.020',
    policy: { kind: 'cost_plus' as const, margin_bp: 1500 },
    reply_ms: 200,
  },
  {
    id: 'campus',
    slots: 2,
    cpu: 4,
    memory: '8Gi',
    gpus: [],
    audited: true,
    cost_usd_per_hour: '0.016',
    policy: { kind: 'idle_discount' as const, margin_bp: 7500, discount_max_bp: 3000, peak_markup_bp: 5000 },
    reply_ms: 350,
  },
  {
    id: 'colo',
    slots: 2,
    cpu: 16,
    memory: '32Gi',
    gpus: [],
    audited: true,
    cost_usd_per_hour: '0.090',
    policy: { kind: 'cost_plus' as const, margin_bp: 2500 },
    reply_ms: 250,
  },
];
