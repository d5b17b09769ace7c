import assert from "node:assert/strict";
import { test } from "node:test";
import { byContainer, effectiveLimit, mainFilesystem, parseContainers, parseStatus } from "../src/inventory.ts";
import { containerQuery, parseSearch, parseStreams, parseTailFrame, Repeats, severity } from "../src/logql.ts";
import { parseMatrix, parseValue, parseVector, quote, selector } from "../src/promql.ts";

const vector = (result: unknown) => ({ status: "success", data: { resultType: "vector", result } });

test("sample values keep NaN and infinities", () => {
  assert.equal(parseValue("1.5e3"), 1500);
  assert.equal(parseValue("+Inf"), Infinity);
  assert.equal(parseValue("-Inf"), -Infinity);
  assert.ok(Number.isNaN(parseValue("NaN")));
  assert.ok(Number.isNaN(parseValue("")));
  assert.ok(Number.isNaN(parseValue(3)));
});

test("a vector's odd entries are left out, the rest is read", () => {
  const samples = parseVector(
    vector([{ metric: { name: "a", n: 1 }, value: [10, "2"] }, null, { metric: {} }, { metric: {}, value: ["x", "1"] }]),
  );
  assert.deepEqual(samples, [{ labels: { name: "a" }, timeS: 10, value: 2 }]);
});

test("an answer of another shape is an error in words", () => {
  for (const body of [null, 7, [], {}, { status: "error" }, vector("x"), { status: "success", data: { resultType: "scalar", result: [] } }]) {
    assert.throws(() => parseVector(body), /the server's answer holds no/);
  }
  assert.throws(() => parseStreams({ data: { resultType: "matrix", result: [] } }), /log streams/);
  assert.throws(() => parseSearch({ entries: 3 }), /entries/);
});

test("a matrix", () => {
  const body = { status: "success", data: { resultType: "matrix", result: [{ metric: { a: "b" }, values: [[1, "2"], [2], [3, "4"]] }] } };
  const [series] = parseMatrix(body);
  assert.deepEqual(series?.points[0], [1, 2]);
  assert.deepEqual(series?.points[2], [3, 4]);
});

test("strings in queries cannot end early", () => {
  assert.equal(quote('a"b\\c\n'), '"a\\"b\\\\c\\n"');
  assert.equal(selector({ host: "h", name: 'x"}' }), '{host="h",name="x\\"}"}');
  assert.equal(containerQuery("h", "c", "stderr", ""), '{host="h",container="c",stream="stderr"}');
  assert.equal(containerQuery("h", "c", "all", " a.b "), '{host="h",container="c"} |~ "(?i)a\\\\.b"');
  assert.equal(containerQuery("h", "c", "all", "Error"), '{host="h",container="c"} |= "Error"');
});

test("log streams merge newest first and keep every nanosecond", () => {
  const lines = parseStreams({
    data: {
      resultType: "streams",
      result: [
        { stream: { stream: "stdout" }, values: [["1700000000000000001", "a"], ["bad", "x"], ["5"]] },
        { stream: { stream: "stderr" }, values: [["1700000000000000002", "b"]] },
      ],
    },
  });
  assert.deepEqual(lines.map((line) => [line.timeNs, line.text]), [[1700000000000000002n, "b"], [1700000000000000001n, "a"]]);
});

test("a line has one identity in a page and in the tail, and repeats are told apart", () => {
  const stream = { stream: { b: "2", a: "1" }, values: [["7", "x"], ["7", "x"]] };
  const page = parseStreams({ data: { resultType: "streams", result: [stream] } });
  const tail = parseTailFrame(JSON.stringify({ streams: [{ ...stream, stream: { a: "1", b: "2" } }], dropped_entries: [{}] }), new Repeats());
  assert.deepEqual(new Set(tail.lines.map((line) => line.id)), new Set(page.map((line) => line.id)));
  assert.equal(new Set(page.map((line) => line.id)).size, 2);
  assert.equal(tail.dropped, 1);
});

test("a page of search hits, and its end", () => {
  const page = parseSearch({ entries: [{ time: "9", line: "x", labels: { host: "h" }, id: "i" }, { time: 9, line: "y" }], cursor: "c" });
  assert.deepEqual(page, { lines: [{ id: "i", timeNs: 9n, labels: { host: "h" }, text: "x" }], cursor: "c" });
  assert.equal(parseSearch({ entries: [], cursor: null }).cursor, null);
});

test("severity sees through colours", () => {
  assert.equal(severity("\u001b[31mERROR\u001b[0m no"), "error");
  assert.equal(severity("WARN slow"), "warning");
  assert.equal(severity("terrors of the deep"), "plain");
});

test("the latest of containers with one name is listed, and runs while its sample is fresh", () => {
  const labels = { host: "h", name: "c" };
  const [only, ...more] = parseContainers([
    { labels: { ...labels, id: "new" }, timeS: 100, value: 98 },
    { labels: { ...labels, id: "old" }, timeS: 100, value: 40 },
    { labels: { host: "h", id: "/" }, timeS: 100, value: 99 },
  ]);
  assert.equal(more.length, 0);
  assert.equal(only?.id, "new");
  assert.equal(only?.running, true);
  const memory = byContainer(
    [{ labels: { ...labels, id: "old" }, timeS: 100, value: 1 }, { labels: { ...labels, id: "new" }, timeS: 100, value: 2 }],
    only ? [only] : [],
  );
  assert.deepEqual([...memory.values()], [2]);
  assert.equal(parseContainers([{ labels, timeS: 100, value: 80 }])[0]?.running, false);
});

test("neither 0 nor cgroup v1's largest number limits memory", () => {
  assert.equal(effectiveLimit(0), undefined);
  assert.equal(effectiveLimit(9223372036854771712), undefined);
  assert.equal(effectiveLimit(512), 512);
});

test("the root file system stands for a host's disk, else its largest", () => {
  const size = (host: string, mountpoint: string, value: number) => ({ labels: { host, mountpoint }, timeS: 0, value });
  const all = [size("a", "/data", 900), size("a", "/", 100), size("b", "/x", 5), size("b", "/y", 6)];
  const chosen = mainFilesystem(all, all.map((one) => ({ ...one, value: 1 })));
  assert.equal(chosen.get("a")?.sizeBytes, 100);
  assert.equal(chosen.get("b")?.sizeBytes, 6);
});

test("a status of any shape", () => {
  assert.equal(parseStatus("x"), null);
  const status = parseStatus({ hosts: [{ host: "h", docker: "gone", logs: { c: "api", d: 1 } }, {}, null] });
  assert.deepEqual(status?.hosts, [{ host: "h", docker: "gone", logs: { c: "api" } }]);
});
