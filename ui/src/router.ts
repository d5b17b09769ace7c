// Places in the page, as they stand after the '#' of its address.
import type { TimeSpan } from "./timerange.ts";

export type Route =
  | { view: "overview" }
  | { view: "container"; host: string; name: string; span: TimeSpan | null }
  | { view: "logs"; text: string };

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function parseRoute(hash: string): Route {
  const [path = "", search = ""] = hash.replace(/^#/, "").split("?", 2);
  const parts = path.split("/").filter((part) => part !== "").map(decode);
  const parameters = new URLSearchParams(search);
  if (parts[0] === "logs") return { view: "logs", text: parameters.get("q") ?? "" };
  if (parts[0] === "container" && parts[1] !== undefined && parts[2] !== undefined) {
    const fromS = Number(parameters.get("from") ?? NaN);
    const toS = Number(parameters.get("to") ?? NaN);
    const span = Number.isFinite(fromS) && Number.isFinite(toS) && fromS < toS ? { fromS, toS } : null;
    return { view: "container", host: parts[1], name: parts[2], span };
  }
  return { view: "overview" };
}

export function containerHref(host: string, name: string, span: TimeSpan | null = null): string {
  const path = `#/container/${encodeURIComponent(host)}/${encodeURIComponent(name)}`;
  return span ? `${path}?from=${span.fromS}&to=${span.toS}` : path;
}

export function logsHref(text: string): string {
  return text === "" ? "#/logs" : `#/logs?${new URLSearchParams({ q: text })}`;
}
