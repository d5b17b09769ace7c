// The one time axis: which stretch of time is shown, on which grid of steps,
// and over which window rates are taken. Seconds since the epoch throughout.

/** How often containers and hosts are read. */
export const COLLECT_INTERVAL_S = 5;
/** Four collections: a rate shows after two, and one missed reading is no gap. */
export const RATE_WINDOW_S = 4 * COLLECT_INTERVAL_S;

export const RANGES = [
  { label: "15m", seconds: 900 },
  { label: "1h", seconds: 3_600 },
  { label: "6h", seconds: 21_600 },
  { label: "24h", seconds: 86_400 },
  { label: "7d", seconds: 604_800 },
] as const;

/** Steps that divide days evenly, so that grid points fall on round times. */
const STEPS_S = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];

/** A stretch of time that was brushed or linked to. */
export interface TimeSpan {
  fromS: number;
  toS: number;
}

export interface Grid {
  startS: number;
  endS: number;
  stepS: number;
}

/** The smallest round step that needs at most `maxPoints` steps for the range. */
export function chooseStep(rangeS: number, maxPoints: number): number {
  const wanted = rangeS / Math.max(1, maxPoints);
  return STEPS_S.find((step) => step >= wanted) ?? 86_400;
}

/** The last `rangeS` seconds before `nowS`, aligned so that points stay put between refreshes. */
export function gridBefore(nowS: number, rangeS: number, maxPoints: number): Grid {
  const stepS = chooseStep(rangeS, maxPoints);
  const endS = Math.floor(nowS / stepS) * stepS;
  return { startS: endS - Math.ceil(rangeS / stepS) * stepS, endS, stepS };
}

/** A rate's window covers its whole step plus one reading, so no increase is left out. */
export function rateWindow(stepS: number): string {
  return `${Math.max(RATE_WINDOW_S, stepS + COLLECT_INTERVAL_S)}s`;
}

export function gridTimes(grid: Grid): number[] {
  const count = Math.floor((grid.endS - grid.startS) / grid.stepS) + 1;
  return Array.from({ length: Math.max(0, count) }, (_, i) => grid.startS + i * grid.stepS);
}

/** Puts points on the grid; a grid time without a finite sample is null, a gap in the chart. */
export function alignToGrid(points: readonly (readonly [number, number])[], grid: Grid): (number | null)[] {
  const values: (number | null)[] = gridTimes(grid).map(() => null);
  for (const [time, value] of points) {
    const index = Math.round((time - grid.startS) / grid.stepS);
    if (index >= 0 && index < values.length && Number.isFinite(value)) values[index] = value;
  }
  return values;
}

/** Seconds to the nanosecond string that the Loki API takes. */
export function toNanoseconds(seconds: number): string {
  return (BigInt(Math.round(seconds * 1e6)) * 1000n).toString();
}
