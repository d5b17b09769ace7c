import assert from "node:assert/strict";
import { test } from "node:test";
import { formatBytes, formatDuration, formatLineTime, formatPercent, formatRate } from "../src/format.ts";

test("bytes change unit before they grow a fourth digit", () => {
  assert.equal(formatBytes(0), "0 B");
  assert.equal(formatBytes(1023), "1023 B");
  assert.equal(formatBytes(1536), "1.50 KiB");
  assert.equal(formatBytes(1024 * 1024 - 1), "1.00 MiB");
  assert.equal(formatBytes(3.14159 * 2 ** 30), "3.14 GiB");
  assert.equal(formatBytes(2 ** 75), "32768 EiB");
});

test("what is no number is a dash", () => {
  for (const format of [formatBytes, formatPercent, formatRate, formatDuration]) {
    assert.equal(format(undefined), "–");
    assert.equal(format(NaN), "–");
    assert.equal(format(Infinity), "–");
  }
  assert.equal(formatLineTime(NaN, 0), "–");
});

test("shares are per cent of one", () => {
  assert.equal(formatPercent(0), "0.0%");
  assert.equal(formatPercent(0.0004), "<0.1%");
  assert.equal(formatPercent(0.1234), "12.3%");
  assert.equal(formatPercent(2.5), "250%");
});

test("rates", () => {
  assert.equal(formatRate(0), "0/s");
  assert.equal(formatRate(0.001), "<0.01/s");
  assert.equal(formatRate(12.34), "12.3/s");
  assert.equal(formatRate(4600), "4.60k/s");
});

test("durations show their two largest units", () => {
  assert.equal(formatDuration(0), "0s");
  assert.equal(formatDuration(59.9), "59s");
  assert.equal(formatDuration(200), "3m 20s");
  assert.equal(formatDuration(3600), "1h");
  assert.equal(formatDuration(6 * 86400 + 4 * 3600 + 59), "6d 4h");
  assert.equal(formatDuration(-1), "–");
});

test("a line of another day carries its date", () => {
  const noon = new Date(2026, 2, 1, 12, 0, 0, 7).getTime();
  assert.equal(formatLineTime(noon, noon), "12:00:00.007");
  assert.equal(formatLineTime(noon, noon + 86_400_000), "03-01 12:00:00.007");
});
