/** What others published, each with where and when: nothing here was measured by us, and lists age quickly. */
export interface Source {
  readonly from: string;
  /** When it was read or published, as far as it says. */
  readonly date: string;
}

/** One GPU for an hour. */
export interface GpuPrice extends Source {
  readonly gpu: string;
  readonly seller: string;
  readonly usdPerHour: number;
}

/** Leases of the market. */
export const LEASES: readonly GpuPrice[] = [
  { gpu: 'rtx4090', seller: 'akash', usdPerHour: 0.39, from: 'list price "starting at"', date: '2026-09-20' },
  { gpu: 'a100-80', seller: 'akash', usdPerHour: 1.71, from: 'list price "starting at", SXM4', date: '2026-09-20' },
  { gpu: 'h100', seller: 'akash', usdPerHour: 2.58, from: 'the one offer on screen that day', date: '2026-10-24' },
];

const SCREEN = { from: 'price comparison on one screen, SXM', date: '2026-10-24' };
const RUNPOD = { from: 'deploybase.ai/articles/runpod-gpu-pricing', date: '2026-03-10' };
const LISTS = { from: 'mercatus-ai.com/blog/cloud-gpu-pricing', date: '2026-05' };

export const CLOUDS: readonly GpuPrice[] = [
  { gpu: 'h100', seller: 'lium', usdPerHour: 2.64, ...SCREEN },
  { gpu: 'h100', seller: 'vast', usdPerHour: 2.67, ...SCREEN },
  { gpu: 'h100', seller: 'runpod', usdPerHour: 3.21, ...SCREEN },
  { gpu: 'h100', seller: 'lambda', usdPerHour: 4.08, ...SCREEN },
  { gpu: 'h100', seller: 'nebius', usdPerHour: 4.5, ...SCREEN },
  { gpu: 'h100', seller: 'coreweave', usdPerHour: 6.16, ...SCREEN },
  { gpu: 'a100-80', seller: 'runpod spot', usdPerHour: 1.39, ...RUNPOD },
  { gpu: 'a100-80', seller: 'runpod', usdPerHour: 2.45, ...RUNPOD },
  { gpu: 'a100-80', seller: 'specialised clouds, dearest', usdPerHour: 1.5, ...LISTS },
  { gpu: 'a100-80', seller: 'big clouds, dearest', usdPerHour: 3, ...LISTS },
  { gpu: 'rtx4090', seller: 'runpod spot', usdPerHour: 0.34, ...RUNPOD },
  { gpu: 'rtx4090', seller: 'runpod', usdPerHour: 0.6, ...RUNPOD },
];

/** Output tokens a second of one GPU, and what was asked of it. */
export interface Throughput extends Source {
  readonly model: string;
  readonly gpu: string;
  readonly outputTokensPerS: number;
  readonly conditions: string;
  /** Tokens of a request's prompt for each of its answer; null where it is not told. */
  readonly inputPerOutput: number | null;
}

export const THROUGHPUTS: readonly Throughput[] = [
  {
    ...{ model: '8b', gpu: 'rtx4090', outputTokensPerS: 2376, inputPerOutput: 1 / 6 },
    conditions: 'BF16, 300 requests at once, 100 in and 600 out (3.96 requests/s)',
    ...{ from: 'databasemart.com/blog/vllm-gpu-benchmark-rtx4090', date: 'undated, read 2026-11-29' },
  },
  {
    ...{ model: '8b', gpu: 'rtx4090', outputTokensPerS: 1100, inputPerOutput: null },
    conditions: 'FP8, 32 at once',
    ...{ from: 'gigagpu.com/rtx-4090-24gb-fp8-llama-deployment', date: 'undated, read 2026-11-29' },
  },
  {
    ...{ model: '8b', gpu: 'a100-80', outputTokensPerS: 495, inputPerOutput: 8 },
    conditions: 'BF16, 8 at once (75 tokens/s times 6.6), 1,024 in and 128 out; on a card of 40 GB',
    ...{ from: 'johnmusgrave.com/p/vllm-throughput-latency-sweep-on', date: 'undated, read 2026-11-29' },
  },
  {
    ...{ model: '8b', gpu: 'h100', outputTokensPerS: 12_500, inputPerOutput: null },
    conditions: 'BF16, as many at once as fit: no answer is quick',
    ...{ from: 'morphllm.com/vllm-benchmarks', date: '2026-04-05' },
  },
  {
    ...{ model: '70b', gpu: 'h100', outputTokensPerS: 460, inputPerOutput: null },
    conditions: 'FP8, 64 at once',
    ...{ from: 'morphllm.com/vllm-benchmarks', date: '2026-04-05' },
  },
  {
    ...{ model: '70b', gpu: 'h100', outputTokensPerS: 920, inputPerOutput: null },
    conditions: 'FP8, load not told',
    ...{ from: 'mikamirai.com/blog/nvidia_awq_vs_fp8_accuracy', date: '2026-04-20' },
  },
];

/** USD per million tokens. */
export interface TokenPrice extends Source {
  readonly model: string;
  readonly seller: string;
  readonly input: number;
  readonly output: number;
}

const MID_2026 = { from: 'dev.to/andrew_morgado_dev/cheapest-llm-apis-for-startups-in-2026-45jm', date: 'mid 2026' };
const BY_PROVIDER = { from: 'cloudprice.net/models/friendliai/meta-llama-3.1-8b-instruct', date: 'read 2026-11-29' };

export const TOKEN_PRICES: readonly TokenPrice[] = [
  { model: '8b', seller: 'cheapest on OpenRouter', input: 0.02, output: 0.03, ...MID_2026 },
  { model: '8b', seller: 'deepinfra', input: 0.03, output: 0.05, ...BY_PROVIDER },
  { model: '8b', seller: 'bedrock', input: 0.22, output: 0.22, ...BY_PROVIDER },
  { model: '70b', seller: 'cheapest on OpenRouter', input: 0.1, output: 0.32, ...MID_2026 },
  { model: '70b', seller: 'akashml', input: 0.13, output: 0.4, from: 'its price at launch', date: '2025-11-22' },
];
