// Containers and hosts put together from the answers of separate queries.
import { isRecord, type Labels, type MatrixSeries, type VectorSample } from "./promql.ts";
import { alignToGrid, COLLECT_INTERVAL_S, type Grid } from "./timerange.ts";

/** Three collections without a sample: the container is taken as gone. */
export const FRESH_S = 3 * COLLECT_INTERVAL_S + COLLECT_INTERVAL_S / 2;

/** cgroup v1 says "no limit" with a number near 2^63. */
const NO_LIMIT_BYTES = 2 ** 60;

export interface Container {
  key: string;
  host: string;
  name: string;
  id: string;
  image: string;
  project: string;
  service: string;
  lastSeenS: number;
  running: boolean;
}

export interface Figures {
  cpuCores?: number;
  memoryBytes?: number;
  limitBytes?: number;
  linesPerS?: number;
}

export interface HostFigures {
  cpuShare?: number;
  cores?: number;
  memoryTotalBytes?: number;
  memoryAvailableBytes?: number;
  load1?: number;
  diskSizeBytes?: number;
  diskAvailableBytes?: number;
  receiveBytesPerS?: number;
  transmitBytesPerS?: number;
}

export type Spark = (number | null)[];

export function containerKey(host: string, name: string): string {
  return `${host}\u0000${name}`;
}

/** From `container_last_seen`; of a name that was created again, the latest. */
export function parseContainers(samples: readonly VectorSample[]): Container[] {
  const found = new Map<string, Container>();
  for (const { labels, timeS, value } of samples) {
    const name = labels["name"] || labels["container"];
    if (!name) continue;
    const host = labels["host"] ?? "";
    const key = containerKey(host, name);
    const before = found.get(key);
    if (before && before.lastSeenS >= value) continue;
    found.set(key, {
      key,
      host,
      name,
      id: labels["id"] ?? "",
      image: labels["image"] ?? "",
      project: labels["compose_project"] || labels["swarm_stack"] || labels["namespace"] || "",
      service: labels["compose_service"] || labels["swarm_service"] || labels["pod"] || "",
      lastSeenS: value,
      running: timeS - value < FRESH_S,
    });
  }
  return [...found.values()];
}

/** One value per container; where a name has several series, the listed container's own wins. */
export function byContainer(samples: readonly VectorSample[], containers: readonly Container[]): Map<string, number> {
  const ids = new Map(containers.map((container) => [container.key, container.id]));
  const values = new Map<string, number>();
  for (const { labels, value } of samples) {
    const name = labels["name"] || labels["container"];
    if (!name || !Number.isFinite(value)) continue;
    const key = containerKey(labels["host"] ?? "", name);
    if (!values.has(key) || (labels["id"] !== undefined && labels["id"] === ids.get(key))) values.set(key, value);
  }
  return values;
}

/** A memory limit that limits something. */
export function effectiveLimit(bytes: number | undefined): number | undefined {
  return bytes !== undefined && bytes > 0 && bytes < NO_LIMIT_BYTES ? bytes : undefined;
}

export function byHost(samples: readonly VectorSample[]): Map<string, number> {
  return new Map(samples.filter(({ value }) => Number.isFinite(value)).map(({ labels, value }) => [labels["host"] ?? "", value]));
}

/** The root file system of each host, or its largest where no root is reported. */
export function mainFilesystem(
  sizes: readonly VectorSample[],
  available: readonly VectorSample[],
): Map<string, { sizeBytes: number; availableBytes: number }> {
  const id = (labels: Labels) => [labels["host"], labels["device"], labels["mountpoint"]].join("\u0000");
  const free = new Map(available.map(({ labels, value }) => [id(labels), value]));
  const chosen = new Map<string, { sizeBytes: number; availableBytes: number; root: boolean }>();
  for (const { labels, value } of sizes) {
    const availableBytes = free.get(id(labels));
    if (availableBytes === undefined || !(value > 0)) continue;
    const host = labels["host"] ?? "";
    const root = labels["mountpoint"] === "/";
    const before = chosen.get(host);
    if (!before || (root && !before.root) || (root === before.root && value > before.sizeBytes)) {
      chosen.set(host, { sizeBytes: value, availableBytes, root });
    }
  }
  return chosen;
}

export function sparks(series: readonly MatrixSeries[], grid: Grid, key: (labels: Labels) => string): Map<string, Spark> {
  return new Map(series.map(({ labels, points }) => [key(labels), alignToGrid(points, grid)]));
}

export function lastValue(spark: Spark | undefined): number | undefined {
  return spark?.filter((value): value is number => value !== null).at(-1);
}

export interface HostStatus {
  host: string;
  docker: string;
  logs: Record<string, string>;
}

export interface Status {
  version: string;
  uptimeS: number;
  hosts: HostStatus[];
}

export function parseStatus(body: unknown): Status | null {
  if (!isRecord(body)) return null;
  const hosts: HostStatus[] = [];
  for (const entry of Array.isArray(body["hosts"]) ? body["hosts"] : []) {
    if (!isRecord(entry) || typeof entry["host"] !== "string") continue;
    const logs: Record<string, string> = {};
    for (const [name, mode] of Object.entries(isRecord(entry["logs"]) ? entry["logs"] : {})) {
      if (typeof mode === "string") logs[name] = mode;
    }
    hosts.push({ host: entry["host"], docker: typeof entry["docker"] === "string" ? entry["docker"] : "ok", logs });
  }
  return {
    version: typeof body["version"] === "string" ? body["version"] : "",
    uptimeS: typeof body["uptime_seconds"] === "number" ? body["uptime_seconds"] : 0,
    hosts,
  };
}

export type SortKey = "name" | "cpu" | "memory" | "logs";

/** Words of the filter box, all of which must occur in what the row shows. */
export function matchesFilter(container: Container, filter: string): boolean {
  const shown = [container.name, container.image, container.project, container.service, container.host].join(" ").toLowerCase();
  return filter.toLowerCase().split(/\s+/).every((word) => shown.includes(word));
}

export function sortContainers(
  containers: readonly Container[],
  figures: ReadonlyMap<string, Figures>,
  key: SortKey,
): Container[] {
  const measure = (container: Container): number => {
    const figure = figures.get(container.key);
    const value = key === "cpu" ? figure?.cpuCores : key === "memory" ? figure?.memoryBytes : figure?.linesPerS;
    return value ?? -1;
  };
  return [...containers].sort(
    (a, b) =>
      Number(b.running) - Number(a.running) ||
      (key === "name" ? 0 : measure(b) - measure(a)) ||
      a.name.localeCompare(b.name, undefined, { numeric: true }) ||
      a.host.localeCompare(b.host),
  );
}

export interface Group {
  host: string;
  project: string;
  containers: Container[];
}

/** Groups by host and Compose project, loose containers last, order within kept. */
export function groupContainers(containers: readonly Container[]): Group[] {
  const groups = new Map<string, Group>();
  for (const container of containers) {
    const key = containerKey(container.host, container.project);
    const group = groups.get(key) ?? { host: container.host, project: container.project, containers: [] };
    group.containers.push(container);
    groups.set(key, group);
  }
  return [...groups.values()].sort(
    (a, b) =>
      a.host.localeCompare(b.host) ||
      Number(a.project === "") - Number(b.project === "") ||
      a.project.localeCompare(b.project),
  );
}
