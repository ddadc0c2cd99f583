import {
  formatTable,
  UsageError,
  type BenchContext,
  type Benchmark,
  type BenchResult,
  type BenchRow,
} from '../benchmark.ts';
import { CLOUDS, LEASES, THROUGHPUTS, TOKEN_PRICES, type GpuPrice, type Throughput } from './published.ts';

/**
 * What a million tokens cost on leased GPUs, by published prices and speeds and by how busy the GPU is; beside it the same on
 * other clouds, and what the same tokens are sold for. Arithmetic, not a measurement: its inputs are in `published.ts`.
 */
export const benchmark: Benchmark = {
  usage: 'npm run bench -- cost [--json FILE]\nNo options: the prices and speeds are in bench/cost/published.ts',
  run,
};

/** Of what it could do, the part that a GPU does. */
const LOADS = [1, 0.75, 0.5, 0.25, 0.1];
/** The claim: so much cheaper than the big clouds. */
const CLAIM = { least: 0.5, most: 0.85 };

export function usdPerMillionTokens(usdPerHour: number, tokensPerS: number, load: number): number {
  return (usdPerHour * 1e6) / (tokensPerS * 3600 * load);
}

async function run({ argv }: BenchContext): Promise<BenchResult> {
  if (argv.length > 0) throw new UsageError(`what is ${argv[0]}?`);
  const tokens = THROUGHPUTS.flatMap(tokenRows);
  const gpus = CLOUDS.map(gpuRow);
  const sold = THROUGHPUTS.flatMap(soldRows);
  const settings = {
    leases: LEASES,
    clouds: CLOUDS,
    throughputs: THROUGHPUTS,
    token_prices: TOKEN_PRICES,
    claim: CLAIM,
  };
  const report = [tokenTable(tokens), gpuTable(gpus), soldTable(sold)].join('\n\n');
  return Promise.resolve({ settings, rows: [...tokens, ...gpus, ...sold], report, problems: [] });
}

function leaseOf(gpu: string): GpuPrice {
  const lease = LEASES.find((one) => one.gpu === gpu);
  if (!lease) throw new RangeError(`no lease price of ${gpu}`);
  return lease;
}

const nameOf = ({ model, gpu, conditions }: Throughput): string => `${model} on ${gpu}: ${conditions}`;

/** One for each seller of the GPU and each load. */
function tokenRows(speed: Throughput): BenchRow[] {
  const sellers = [leaseOf(speed.gpu), ...CLOUDS.filter(({ gpu }) => gpu === speed.gpu)];
  return sellers.flatMap(({ seller, usdPerHour }) =>
    LOADS.map((load) => ({
      ...{ system: seller, scenario: nameOf(speed), model: speed.model, gpu: speed.gpu, load },
      usd_per_hour: usdPerHour,
      output_tokens_per_s: speed.outputTokensPerS,
      usd_per_million_output_tokens: usdPerMillionTokens(usdPerHour, speed.outputTokensPerS, load),
      ...{ speed_from: speed.from, speed_date: speed.date },
    })),
  );
}

function gpuRow({ gpu, seller, usdPerHour, from, date }: GpuPrice): BenchRow {
  const saved = 1 - leaseOf(gpu).usdPerHour / usdPerHour;
  const claim = saved >= CLAIM.least && saved <= CLAIM.most;
  return {
    system: seller,
    scenario: `gpu-hour ${gpu}`,
    usd_per_hour: usdPerHour,
    saved_share: saved,
    claim,
    from,
    date,
  };
}

/** What the output of a busy GPU is sold for elsewhere, the prompts that go with it included, and the load that pays its rent. */
function soldRows(speed: Throughput): BenchRow[] {
  const fullUsd = usdPerMillionTokens(leaseOf(speed.gpu).usdPerHour, speed.outputTokensPerS, 1);
  return TOKEN_PRICES.filter(({ model }) => model === speed.model).map(({ seller, input, output, from, date }) => {
    const soldUsd = output + (speed.inputPerOutput ?? 0) * input;
    return {
      ...{ system: seller, scenario: `sold ${nameOf(speed)}` },
      sold_usd_per_million_output_tokens: soldUsd,
      cost_usd_per_million_output_tokens: fullUsd,
      break_even_load: fullUsd / soldUsd,
      ...{ from, date },
    };
  });
}

function tokenTable(rows: readonly BenchRow[]): string {
  const head = ['USD per million output tokens', 'at', ...LOADS.map((load) => `${load * 100} % busy`)];
  const names = [...new Set(rows.map(({ scenario, system }) => `${scenario}\n${system}`))];
  const lines = names.map((name) => {
    const own = rows.filter(({ scenario, system }) => `${scenario}\n${system}` === name);
    const [scenario = '', system = ''] = name.split('\n');
    return [scenario, system, ...own.map((row) => Number(row['usd_per_million_output_tokens']).toFixed(3))];
  });
  return formatTable(head, lines);
}

function gpuTable(rows: readonly BenchRow[]): string {
  const lines = rows.map(({ scenario, system, ...row }) => {
    const lease = leaseOf(scenario.replace('gpu-hour ', ''));
    const saved = `${(Number(row['saved_share']) * 100).toFixed(0)} %`;
    const usd = Number(row['usd_per_hour']).toFixed(2);
    return [scenario, system, usd, lease.usdPerHour.toFixed(2), saved, row['claim'] === true ? 'yes' : 'no'];
  });
  const kept = rows.filter((row) => row['claim'] === true).length;
  return (
    `${formatTable(['GPU', 'seller', 'USD/h', 'leased', 'cheaper by', '50-85 %?'], lines)}\n` +
    `Of ${rows.length} prices, the lease is 50 to 85 % below ${kept}.`
  );
}

function soldTable(rows: readonly BenchRow[]): string {
  const lines = rows.map(({ scenario, system, ...row }) => [
    scenario.replace('sold ', ''),
    system,
    Number(row['sold_usd_per_million_output_tokens']).toFixed(3),
    Number(row['cost_usd_per_million_output_tokens']).toFixed(3),
    `${(Number(row['break_even_load']) * 100).toFixed(0)} %`,
  ]);
  return (
    `${formatTable(['sold elsewhere', 'by', 'USD/Mtok', 'our rent, 100 % busy', 'pays from'], lines)}\n` +
    'Above 100 %: that price does not pay the rent of a GPU of this speed. Prompts are counted where the speed says how many.'
  );
}
