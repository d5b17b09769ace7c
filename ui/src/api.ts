// Requests to the server. Addresses are relative to the page, so that it also
// works below a path of a reverse proxy.
import { parseSearch, parseStreams, type LogLine, type SearchPage } from "./logql.ts";
import { isRecord, MalformedAnswer, parseMatrix, parseVector, type MatrixSeries, type VectorSample } from "./promql.ts";
import { parseStatus, type Status } from "./inventory.ts";
import { toNanoseconds, type Grid } from "./timerange.ts";

const TIMEOUT_MS = 30_000;

/** A request that failed, in words for the page. */
export class RequestFailed extends Error {
  constructor(
    message: string,
    /** HTTP status; 0 if there was no answer. */
    readonly status: number,
  ) {
    super(message);
    this.name = "RequestFailed";
  }
}

/** Error texts of the APIs are JSON with an `error` (or `message`), or plain text. */
function errorText(text: string): string {
  try {
    const body: unknown = JSON.parse(text);
    if (isRecord(body)) {
      const said = body["error"] ?? body["message"];
      if (typeof said === "string") return said;
    }
  } catch {
    // Plain text then.
  }
  return text.trim().startsWith("<") ? "" : text.trim().slice(0, 500);
}

async function failure(response: Response): Promise<RequestFailed> {
  const { status } = response;
  const said = errorText(await response.text().catch(() => ""));
  if (status === 401) return new RequestFailed("The server asks for a user and password. Reload the page to sign in.", status);
  if (status === 403) return new RequestFailed(`This user may not read that.${said ? ` ${said}` : ""}`, status);
  if (status === 503 || status === 429) return new RequestFailed(`The server is busy.${said ? ` ${said}` : ""}`, status);
  return new RequestFailed(said === "" ? `The server answered with status ${status}.` : said, status);
}

async function getJson(path: string, parameters: Record<string, string>, signal?: AbortSignal): Promise<unknown> {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), TIMEOUT_MS);
  const cancel = () => timeout.abort();
  signal?.addEventListener("abort", cancel);
  if (signal?.aborted) timeout.abort();
  try {
    const query = new URLSearchParams(parameters).toString();
    const response = await fetch(query === "" ? path : `${path}?${query}`, {
      signal: timeout.signal,
      headers: { accept: "application/json" },
    });
    if (!response.ok) throw await failure(response);
    try {
      return await response.json();
    } catch (error) {
      if (timeout.signal.aborted) throw error;
      throw new MalformedAnswer("JSON");
    }
  } catch (error) {
    if (signal?.aborted || error instanceof RequestFailed || error instanceof MalformedAnswer) throw error;
    if (timeout.signal.aborted) throw new RequestFailed("The server took longer than 30 seconds.", 0);
    throw new RequestFailed("The server does not answer.", 0);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cancel);
  }
}

export async function instant(query: string, signal?: AbortSignal): Promise<VectorSample[]> {
  return parseVector(await getJson("api/v1/query", { query }, signal));
}

function gridParameters(query: string, grid: Grid): Record<string, string> {
  return { query, start: String(grid.startS), end: String(grid.endS), step: String(grid.stepS) };
}

export async function range(query: string, grid: Grid, signal?: AbortSignal): Promise<MatrixSeries[]> {
  return parseMatrix(await getJson("api/v1/query_range", gridParameters(query, grid), signal));
}

export async function logMetricRange(query: string, grid: Grid, signal?: AbortSignal): Promise<MatrixSeries[]> {
  const parameters = gridParameters(query, grid);
  return parseMatrix(
    await getJson(
      "loki/api/v1/query_range",
      { ...parameters, start: toNanoseconds(grid.startS), end: toNanoseconds(grid.endS), step: `${grid.stepS}s` },
      signal,
    ),
  );
}

/** Up to `limit` newest lines with startNs <= time < endNs. */
export async function logLines(
  query: string,
  startNs: bigint,
  endNs: bigint,
  limit: number,
  signal?: AbortSignal,
): Promise<LogLine[]> {
  const parameters = {
    query,
    start: String(startNs),
    end: String(endNs),
    limit: String(limit),
    direction: "backward",
  };
  return parseStreams(await getJson("loki/api/v1/query_range", parameters, signal));
}

export async function search(parameters: Record<string, string>, signal?: AbortSignal): Promise<SearchPage> {
  return parseSearch(await getJson("api/search", parameters, signal));
}

/** Null where the server has no such page. */
export async function status(signal?: AbortSignal): Promise<Status | null> {
  try {
    return parseStatus(await getJson("api/status", {}, signal));
  } catch (error) {
    if (error instanceof RequestFailed && error.status === 404) return null;
    throw error;
  }
}

export function tailAddress(query: string, limit: number): string {
  const address = new URL("loki/api/v1/tail", document.baseURI);
  address.hash = "";
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  address.search = new URLSearchParams({ query, limit: String(limit) }).toString();
  return address.href;
}

export function inWords(error: unknown): string {
  if (error instanceof Error) return error.message;
  return "Something went wrong in the page.";
}
