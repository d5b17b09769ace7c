import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAnsi, stripAnsi } from "../src/ansi.ts";
import { LogBuffer } from "../src/logbuffer.ts";
import type { LogLine } from "../src/logql.ts";
import { containerHref, parseRoute } from "../src/router.ts";
import { alignToGrid, chooseStep, gridBefore, gridTimes, rateWindow, toNanoseconds } from "../src/timerange.ts";

const line = (ns: number): LogLine => ({ id: String(ns), timeNs: BigInt(ns), labels: {}, text: `line ${ns}` });
const times = (buffer: LogBuffer) => buffer.lines.map((one) => Number(one.timeNs));

test("steps are round and few enough", () => {
  assert.equal(chooseStep(900, 240), 5);
  assert.equal(chooseStep(3600, 240), 15);
  assert.equal(chooseStep(604800, 240), 3600);
  assert.equal(chooseStep(1e12, 10), 86400);
});

test("a grid stays put until its next step, and covers its range", () => {
  assert.deepEqual(gridBefore(1001, 900, 60), gridBefore(1004, 900, 60));
  const grid = gridBefore(1001, 900, 60);
  assert.deepEqual(grid, { startS: 90, endS: 990, stepS: 15 });
  assert.equal(gridTimes(grid).length, 61);
});

test("a missing or infinite sample is a gap", () => {
  const grid = { startS: 0, endS: 20, stepS: 5 };
  assert.deepEqual(alignToGrid([[0, 1], [10.001, 2], [15, NaN], [99, 3], [-5, 4]], grid), [1, null, 2, null, null]);
});

test("rate windows cover a step and two collections", () => {
  assert.equal(rateWindow(5), "20s");
  assert.equal(rateWindow(60), "65s");
  assert.equal(toNanoseconds(1700000000.5), "1700000000500000000");
});

test("a buffer merges overlapping answers without repeats, newest first", () => {
  const buffer = new LogBuffer();
  buffer.addNew([line(5), line(3)], false);
  buffer.addNew([line(6), line(5)], false);
  buffer.addOlder([line(3), line(1)]);
  assert.deepEqual(times(buffer), [6, 5, 3, 1]);
});

test("held lines wait and come in order", () => {
  const buffer = new LogBuffer();
  buffer.addNew([line(1)], false);
  buffer.addNew([line(2)], true);
  buffer.addNew([line(3)], true);
  assert.deepEqual(times(buffer), [1]);
  assert.equal(buffer.waitingCount, 2);
  buffer.release();
  assert.deepEqual(times(buffer), [3, 2, 1]);
});

test("a full buffer drops its oldest and never leaves a gap", () => {
  const buffer = new LogBuffer(3);
  buffer.addNew([line(1), line(2), line(3), line(4)], false);
  assert.deepEqual(times(buffer), [4, 3, 2]);
  assert.equal(buffer.addOlder([line(1)]), false);
  buffer.addNew([line(5), line(6), line(7), line(8)], true);
  assert.equal(buffer.overflowed, true);
  buffer.release();
  assert.deepEqual(times(buffer), [8, 7, 6]);
  const roomy = new LogBuffer(3);
  roomy.addNew([line(9)], false);
  assert.equal(roomy.addOlder([line(8), line(7), line(6)]), false);
  assert.deepEqual(times(roomy), [9, 8, 7]);
});

test("addresses come back as they were written", () => {
  const span = { fromS: 10, toS: 20 };
  assert.deepEqual(parseRoute(containerHref("a/b", "c?d #e", span)), { view: "container", host: "a/b", name: "c?d #e", span });
  assert.deepEqual(parseRoute("#/logs?q=a%20b"), { view: "logs", text: "a b" });
  assert.deepEqual(parseRoute("#/container/h/n?from=5&to=2"), { view: "container", host: "h", name: "n", span: null });
  assert.deepEqual(parseRoute("#/container/%zz"), { view: "overview" });
  assert.deepEqual(parseRoute(""), { view: "overview" });
});

test("colours become classes, other sequences vanish", () => {
  assert.deepEqual(parseAnsi("plain"), [{ text: "plain", classes: [] }]);
  assert.deepEqual(parseAnsi("\u001b[1;31mred\u001b[0m\u001b[2K off"), [
    { text: "red", classes: ["ansi-bold", "ansi-fg-1"] },
    { text: " off", classes: [] },
  ]);
  assert.equal(parseAnsi("\u001b[38;5;196mx")[0]?.color, "#ff0000");
  assert.equal(parseAnsi("\u001b[48;2;1;2;300mx")[0]?.background, "#0102ff");
  assert.equal(stripAnsi("\u001b]0;title\u0007a\u001b[?25lb"), "ab");
});

test("random bytes with escapes never throw and lose no printable text", () => {
  let seed = 7;
  const next = () => (seed = (seed * 1103515245 + 12345) % 2147483648);
  for (let round = 0; round < 2000; round += 1) {
    const text = Array.from({ length: 40 }, () => "\u001b[]m;:0123458 \u0007ab"[next() % 19]).join("");
    assert.equal(parseAnsi(text).map((run) => run.text).join(""), stripAnsi(text));
  }
});
