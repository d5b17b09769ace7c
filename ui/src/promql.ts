// The Prometheus query API as seen from the page: strings into queries, and
// answers out of JSON that may hold anything.

export type Labels = Readonly<Record<string, string>>;

export interface VectorSample {
  labels: Labels;
  timeS: number;
  value: number;
}

export interface MatrixSeries {
  labels: Labels;
  points: [number, number][];
}

/** The answer was JSON, but not of the shape the API promises. */
export class MalformedAnswer extends Error {
  constructor(what: string) {
    super(`the server's answer holds no ${what}`);
    this.name = "MalformedAnswer";
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A PromQL or LogQL string literal; JSON's escapes are a subset of Go's. */
export function quote(text: string): string {
  return JSON.stringify(text);
}

/** `{host="a",name="b"}` from label values. */
export function selector(labels: Labels): string {
  return `{${Object.entries(labels).map(([name, value]) => `${name}=${quote(value)}`).join(",")}}`;
}

/** Sample values are strings, so that NaN and infinities survive JSON. */
export function parseValue(raw: unknown): number {
  switch (raw) {
    case "+Inf":
    case "Inf":
      return Infinity;
    case "-Inf":
      return -Infinity;
    default:
      return typeof raw === "string" && raw !== "" ? Number(raw) : NaN;
  }
}

export function parseLabels(raw: unknown): Labels {
  if (!isRecord(raw)) return {};
  const labels: Record<string, string> = {};
  for (const [name, value] of Object.entries(raw)) {
    if (typeof value === "string") labels[name] = value;
  }
  return labels;
}

function parsePoint(raw: unknown): [number, number] | null {
  if (!Array.isArray(raw) || typeof raw[0] !== "number") return null;
  return [raw[0], parseValue(raw[1])];
}

function parseResult(body: unknown, type: string): unknown[] {
  if (!isRecord(body) || body["status"] !== "success" || !isRecord(body["data"])) {
    throw new MalformedAnswer("query result");
  }
  if (body["data"]["resultType"] !== type || !Array.isArray(body["data"]["result"])) {
    throw new MalformedAnswer(type);
  }
  return body["data"]["result"];
}

export function parseVector(body: unknown): VectorSample[] {
  const samples: VectorSample[] = [];
  for (const entry of parseResult(body, "vector")) {
    if (!isRecord(entry)) continue;
    const point = parsePoint(entry["value"]);
    if (point) samples.push({ labels: parseLabels(entry["metric"]), timeS: point[0], value: point[1] });
  }
  return samples;
}

/** Also reads the matrix of a LogQL metric query: both APIs share the shape. */
export function parseMatrix(body: unknown): MatrixSeries[] {
  const series: MatrixSeries[] = [];
  for (const entry of parseResult(body, "matrix")) {
    if (!isRecord(entry) || !Array.isArray(entry["values"])) continue;
    const points = entry["values"].map(parsePoint).filter((point): point is [number, number] => point !== null);
    series.push({ labels: parseLabels(entry["metric"]), points });
  }
  return series;
}
