/** Numbers in [0, 1), the same ones for the same seed and purpose. */
export type Seeded = () => number;

/** Each purpose has a sequence of its own, so that one more draw in one place changes nothing elsewhere. */
export function seeded(seed: number, purpose: string): Seeded {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  for (let at = 0; at < purpose.length; at += 1) state = Math.imul(state ^ purpose.charCodeAt(at), 0x01000193) >>> 0;
  // mulberry32: 32 bits of state are plenty for some million draws.
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export function drawBetween(random: Seeded, least: number, most: number): number {
  return least + (most - least) * random();
}

/** Exponential with this mean. */
export function drawExponential(random: Seeded, mean: number): number {
  return -Math.log(1 - random()) * mean;
}

/** Gamma with this shape and mean 1 (Marsaglia and Tsang, 2000). */
export function drawGamma(random: Seeded, shape: number): number {
  if (shape < 1) return (drawGamma(random, shape + 1) * (1 + shape) * (1 - random()) ** (1 / shape)) / shape;
  const d = shape - 1 / 3;
  for (let tries = 0; tries < 1000; tries += 1) {
    const x = drawNormal(random);
    const v = (1 + x / Math.sqrt(9 * d)) ** 3;
    if (v > 0 && Math.log(1 - random()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return (d * v) / shape;
  }
  return 1;
}

export function drawNormal(random: Seeded): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
