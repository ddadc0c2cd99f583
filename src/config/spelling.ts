/** The candidate that was probably meant; null when none is close. */
export function closestTo(word: string, candidates: readonly string[]): string | null {
  // A third of a word may be wrong, of a long one at most three letters.
  const most = Math.min(3, Math.max(1, Math.floor(word.length / 3)));
  const ranked = candidates
    .map((candidate) => ({ candidate, distance: distanceBetween(word.toLowerCase(), candidate.toLowerCase(), most) }))
    .filter(({ distance }) => distance <= most)
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.candidate ?? null;
}

export function didYouMean(word: string, candidates: readonly string[]): string {
  // A name whose unit was left out: `idle` for `idle_s`.
  const longer = candidates.filter((candidate) => candidate.startsWith(`${word}_`));
  const closest = longer.length === 1 ? (longer[0] ?? null) : closestTo(word, candidates);
  return closest === null ? '' : `: did you mean ${closest}?`;
}

/** Letters to add, drop, change or swap with their neighbour; `most + 1` when there are more. */
function distanceBetween(a: string, b: string, most: number): number {
  // Also what bounds the work below: candidates are short.
  if (Math.abs(a.length - b.length) > most) return most + 1;
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const change = a[row - 1] === b[column - 1] ? 0 : 1;
      let cost = Math.min((above[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, (above[column - 1] ?? 0) + change);
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        cost = Math.min(cost, (before[column - 2] ?? 0) + 1);
      }
      current.push(cost);
    }
    [before, above] = [above, current];
  }
  return above[b.length] ?? most + 1;
}
