// Figures as people read them. Every function takes any number, NaN and
// infinities included, because the values come from stored samples.

const ABSENT = "–";
const BINARY_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** Three significant digits without trailing noise: 3.14, 31.4, 314, 3141. */
function threeDigits(value: number): string {
  const size = Math.abs(value);
  if (size >= 99.95) return value.toFixed(0);
  if (size >= 9.995) return value.toFixed(1);
  return value.toFixed(2);
}

/** Bytes with binary units: 512 B, 1.50 KiB, 31.4 MiB. */
export function formatBytes(bytes: number | undefined): string {
  if (bytes === undefined || !Number.isFinite(bytes)) return ABSENT;
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1023.5 && unit < BINARY_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 ? value.toFixed(0) : threeDigits(value);
  return `${digits} ${BINARY_UNITS[unit]}`;
}

export function formatBytesPerSecond(rate: number | undefined): string {
  return rate === undefined || !Number.isFinite(rate) ? ABSENT : `${formatBytes(rate)}/s`;
}

/** A share of one as per cent: 0.123 is 12.3 %; 1.5 cores is 150 %. */
export function formatPercent(share: number | undefined): string {
  if (share === undefined || !Number.isFinite(share)) return ABSENT;
  const percent = share * 100;
  if (percent !== 0 && Math.abs(percent) < 0.1) return percent > 0 ? "<0.1%" : ">-0.1%";
  return `${percent.toFixed(Math.abs(percent) >= 99.95 ? 0 : 1)}%`;
}

/** Events per second: 0/s, 0.05/s, 12.3/s, 4.6k/s. */
export function formatRate(rate: number | undefined): string {
  if (rate === undefined || !Number.isFinite(rate)) return ABSENT;
  if (rate === 0) return "0/s";
  if (rate < 0.01) return "<0.01/s";
  if (rate >= 999_500) return `${threeDigits(rate / 1e6)}M/s`;
  if (rate >= 999.5) return `${threeDigits(rate / 1e3)}k/s`;
  return `${threeDigits(rate)}/s`;
}

/** Seconds as the two largest units: 45s, 3m 20s, 2h 5m, 6d 4h. */
export function formatDuration(seconds: number | undefined): string {
  if (seconds === undefined || !Number.isFinite(seconds) || seconds < 0) return ABSENT;
  const whole = Math.floor(seconds);
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), "d"],
    [Math.floor(whole / 3_600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "m"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first < 0) return "0s";
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount}${unit}`)
    .join(" ");
}

function pad(value: number, width = 2): string {
  return String(value).padStart(width, "0");
}

/** Local wall clock of an epoch in milliseconds: 14:03:09. */
export function formatClock(epochMs: number): string {
  const at = new Date(epochMs);
  if (Number.isNaN(at.getTime())) return ABSENT;
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** Local date and wall clock: 2026-03-01 14:03:09. */
export function formatDateTime(epochMs: number): string {
  const at = new Date(epochMs);
  if (Number.isNaN(at.getTime())) return ABSENT;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${formatClock(epochMs)}`;
}

/** Time of a log line to the millisecond, with the date when it is not today's. */
export function formatLineTime(epochMs: number, nowMs: number): string {
  const at = new Date(epochMs);
  if (Number.isNaN(at.getTime())) return ABSENT;
  const clock = `${formatClock(epochMs)}.${pad(at.getMilliseconds(), 3)}`;
  if (at.toDateString() === new Date(nowMs).toDateString()) return clock;
  return `${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock}`;
}
