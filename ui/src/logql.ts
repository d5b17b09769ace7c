// Log lines from Loki's query and tail answers and from this server's own
// search, in one shape, with an identity that lets overlapping answers merge.
import { stripAnsi } from "./ansi.ts";
import { isRecord, MalformedAnswer, parseLabels, quote, selector, type Labels } from "./promql.ts";

export interface LogLine {
  /** Equal in every answer that holds this line. */
  id: string;
  /** Nanoseconds since the epoch, as sent: a number would lose the last digits. */
  timeNs: bigint;
  labels: Labels;
  text: string;
}

export type StreamChoice = "all" | "stdout" | "stderr";

const DECIMAL = /^-?\d{1,19}$/;

function parseNs(raw: unknown): bigint | null {
  return typeof raw === "string" && DECIMAL.test(raw) ? BigInt(raw) : null;
}

/** Repeats of one line at one nanosecond are told apart by counting them, per source. */
export class Repeats {
  private counts = new Map<string, number>();

  id(labels: Labels, timeNs: bigint, text: string): string {
    const stream = Object.keys(labels)
      .sort()
      .map((name) => `${name}=${labels[name]}`)
      .join("\u0001");
    const base = `${timeNs}\u0002${stream}\u0002${text}`;
    const count = this.counts.get(base) ?? 0;
    // A tail runs for days; only the latest lines can still repeat.
    if (this.counts.size >= 4096) this.counts.clear();
    this.counts.set(base, count + 1);
    return `${base}\u0002${count}`;
  }
}

/** Newest first; lines of the same nanosecond keep the order of the answer. */
export function newestFirst(lines: LogLine[]): LogLine[] {
  return lines.sort((a, b) => (a.timeNs === b.timeNs ? 0 : a.timeNs < b.timeNs ? 1 : -1));
}

function parseStreamList(raw: unknown, repeats: Repeats): LogLine[] {
  if (!Array.isArray(raw)) throw new MalformedAnswer("log streams");
  const lines: LogLine[] = [];
  for (const stream of raw) {
    if (!isRecord(stream) || !Array.isArray(stream["values"])) continue;
    const labels = parseLabels(stream["stream"]);
    for (const pair of stream["values"]) {
      if (!Array.isArray(pair) || typeof pair[1] !== "string") continue;
      const timeNs = parseNs(pair[0]);
      if (timeNs === null) continue;
      lines.push({ id: repeats.id(labels, timeNs, pair[1]), timeNs, labels, text: pair[1] });
    }
  }
  return lines;
}

/** Answer of /loki/api/v1/query_range with a log selector. */
export function parseStreams(body: unknown): LogLine[] {
  if (!isRecord(body) || !isRecord(body["data"]) || body["data"]["resultType"] !== "streams") {
    throw new MalformedAnswer("log streams");
  }
  return newestFirst(parseStreamList(body["data"]["result"], new Repeats()));
}

/** One message of /loki/api/v1/tail; `dropped` counts what the server could not send. */
export function parseTailFrame(text: string, repeats: Repeats): { lines: LogLine[]; dropped: number } {
  const body: unknown = JSON.parse(text);
  if (!isRecord(body)) throw new MalformedAnswer("log streams");
  const lines = parseStreamList(body["streams"] ?? [], repeats);
  const dropped = Array.isArray(body["dropped_entries"]) ? body["dropped_entries"].length : 0;
  // Frames run oldest to newest, so the later of two equal times goes on top.
  return { lines: newestFirst(lines.reverse()), dropped };
}

export interface SearchPage {
  lines: LogLine[];
  cursor: string | null;
}

/** Answer of /api/search: newest first, with the cursor of the next page. */
export function parseSearch(body: unknown): SearchPage {
  if (!isRecord(body) || !Array.isArray(body["entries"])) throw new MalformedAnswer("entries");
  const lines: LogLine[] = [];
  const repeats = new Repeats();
  for (const entry of body["entries"]) {
    if (!isRecord(entry) || typeof entry["line"] !== "string") continue;
    const timeNs = parseNs(entry["time"]);
    if (timeNs === null) continue;
    const labels = parseLabels(entry["labels"]);
    const id = typeof entry["id"] === "string" ? entry["id"] : repeats.id(labels, timeNs, entry["line"]);
    lines.push({ id, timeNs, labels, text: entry["line"] });
  }
  const cursor = body["cursor"];
  return { lines, cursor: typeof cursor === "string" && cursor !== "" ? cursor : null };
}

function escapeRegex(text: string): string {
  return text.replace(/[\\^$.|?*+()[\]{}]/g, "\\$&");
}

/** A container's lines, narrowed by stream and by text. Case counts only if the text has capitals. */
export function containerQuery(host: string, name: string, stream: StreamChoice, text: string): string {
  const labels: Record<string, string> = { host, container: name };
  if (stream !== "all") labels["stream"] = stream;
  const filter = text.trim();
  if (filter === "") return selector(labels);
  const operator = /\p{Lu}/u.test(filter)
    ? `|= ${quote(filter)}`
    : `|~ ${quote(`(?i)${escapeRegex(filter)}`)}`;
  return `${selector(labels)} ${operator}`;
}

/** How alarming a line looks, from the level words programs commonly print. */
export function severity(text: string): "error" | "warning" | "plain" {
  const head = stripAnsi(text.slice(0, 400));
  if (/\b(?:error|fatal|panic|critical|emerg|err)\b/i.test(head)) return "error";
  if (/\b(?:warn|warning)\b/i.test(head)) return "warning";
  return "plain";
}
