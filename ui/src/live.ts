// What the page knows about the running system, kept fresh by three polls:
// the list of containers each second (one small query, so that a new
// container is there at once), present figures each 5 s, and the small charts
// as often as their step changes.
import { useEffect, useState } from "preact/hooks";
import * as api from "./api.ts";
import {
  byContainer,
  byHost,
  containerKey,
  effectiveLimit,
  mainFilesystem,
  parseContainers,
  sparks,
  type Container,
  type Figures,
  type HostFigures,
  type Spark,
  type Status,
} from "./inventory.ts";
import { poll, type Poll } from "./poll.ts";
import type { Labels, VectorSample } from "./promql.ts";
import { COLLECT_INTERVAL_S, gridBefore, rateWindow, RATE_WINDOW_S, RANGES } from "./timerange.ts";

const LIST_INTERVAL_MS = 1_000;
const SPARK_POINTS = 60;
/** How long a container without figures makes the page ask each second. */
const NEWCOMER_S = 30;
const NO_PSEUDO_DEVICES = 'device!~"lo|veth.*|br-.*|docker.*|virbr.*|cni.*|flannel.*"';
const REAL_FILESYSTEMS = 'fstype!~"tmpfs|devtmpfs|overlay|squashfs|ramfs|iso9660|nsfs|proc|sysfs"';

export interface Snapshot {
  loaded: boolean;
  error: string | null;
  containers: Container[];
  figures: ReadonlyMap<string, Figures>;
  cpuSparks: ReadonlyMap<string, Spark>;
  memorySparks: ReadonlyMap<string, Spark>;
  logSparks: ReadonlyMap<string, Spark>;
  hosts: ReadonlyMap<string, HostFigures>;
  hostCpuSparks: ReadonlyMap<string, Spark>;
  status: Status | null;
  rangeS: number;
}

const RANGE_KEY = "kittiwake.range";

function storedRange(): number {
  try {
    const stored = Number(localStorage.getItem(RANGE_KEY));
    return RANGES.find((range) => range.seconds === stored)?.seconds ?? RANGES[0].seconds;
  } catch {
    return RANGES[0].seconds;
  }
}

/** A figure whose query failed is absent, a dash; the list query alone says whether the server is there. */
async function orNothing<T>(request: Promise<T[]>): Promise<T[]> {
  return request.catch(() => []);
}

const containerOf = (labels: Labels) => containerKey(labels["host"] ?? "", labels["name"] || labels["container"] || "");
const hostOf = (labels: Labels) => labels["host"] ?? "";

export class Live {
  snapshot: Snapshot = {
    loaded: false,
    error: null,
    containers: [],
    figures: new Map(),
    cpuSparks: new Map(),
    memorySparks: new Map(),
    logSparks: new Map(),
    hosts: new Map(),
    hostCpuSparks: new Map(),
    status: null,
    rangeS: storedRange(),
  };
  private listeners = new Set<() => void>();
  private polls: Poll[] = [];
  private figurePoll: Poll | undefined;
  private sparkPoll: Poll | undefined;
  private firstSeenMs = new Map<string, number>();
  /** Server clock minus ours, so that a browser with a wrong clock still asks for the right hours. */
  private clockOffsetS = 0;

  start(): void {
    this.polls.push(poll((signal) => this.readList(signal), () => LIST_INTERVAL_MS));
    this.figurePoll = poll((signal) => this.readFigures(signal), () => this.figureIntervalMs());
    this.sparkPoll = poll((signal) => this.readSparks(signal), () => this.sparkIntervalMs());
    this.polls.push(this.figurePoll, this.sparkPoll);
    this.polls.push(poll((signal) => this.readStatus(signal), () => 10_000));
  }

  stop(): void {
    for (const running of this.polls.splice(0)) running.stop();
  }

  retry(): void {
    for (const running of this.polls) running.hurry();
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  nowS(): number {
    return Date.now() / 1000 + this.clockOffsetS;
  }

  setRange(rangeS: number): void {
    try {
      localStorage.setItem(RANGE_KEY, String(rangeS));
    } catch {
      // Storage may be forbidden; the choice then lasts as long as the page.
    }
    this.publish({ rangeS });
    this.sparkPoll?.hurry();
  }

  private publish(change: Partial<Snapshot>): void {
    this.snapshot = { ...this.snapshot, ...change };
    for (const listener of this.listeners) listener();
  }

  private async readList(signal: AbortSignal): Promise<void> {
    try {
      const samples = await api.instant('container_last_seen{name!=""}', signal);
      const answeredAtS = samples[0]?.timeS;
      // Below a few seconds the difference is the way there and back, not the clock.
      if (answeredAtS !== undefined) {
        const offsetS = answeredAtS - Date.now() / 1000;
        this.clockOffsetS = Math.abs(offsetS) > 3 ? offsetS : 0;
      }
      const containers = parseContainers(samples);
      const fresh = containers.some((container) => !this.firstSeenMs.has(container.key));
      const keys = new Set(containers.map((container) => container.key));
      for (const key of this.firstSeenMs.keys()) if (!keys.has(key)) this.firstSeenMs.delete(key);
      for (const key of keys) if (!this.firstSeenMs.has(key)) this.firstSeenMs.set(key, Date.now());
      this.publish({ loaded: true, error: null, containers });
      if (fresh) this.figurePoll?.hurry();
    } catch (error) {
      if (!signal.aborted) this.publish({ loaded: true, error: api.inWords(error) });
    }
  }

  private figureIntervalMs(): number {
    const waiting = this.snapshot.containers.some((container) => {
      const figures = this.snapshot.figures.get(container.key);
      const complete = figures?.cpuCores !== undefined && figures.memoryBytes !== undefined;
      const ageMs = Date.now() - (this.firstSeenMs.get(container.key) ?? 0);
      return container.running && !complete && ageMs < NEWCOMER_S * 1000;
    });
    return waiting ? LIST_INTERVAL_MS : COLLECT_INTERVAL_S * 1000;
  }

  private sparkIntervalMs(): number {
    return Math.max(COLLECT_INTERVAL_S, gridBefore(0, this.snapshot.rangeS, SPARK_POINTS).stepS / 2) * 1000;
  }

  private async readFigures(signal: AbortSignal): Promise<void> {
    const ask = (query: string): Promise<VectorSample[]> => orNothing(api.instant(query, signal));
    const window = `${RATE_WINDOW_S}s`;
    const [cpu, memory, limits, idle, cores, total, available, load, sizes, free, receive, transmit] = await Promise.all([
      ask(`sum by (host, name) (rate(container_cpu_usage_seconds_total{name!=""}[${window}]))`),
      ask('container_memory_working_set_bytes{name!=""}'),
      ask('container_spec_memory_limit_bytes{name!=""}'),
      ask(`avg by (host) (rate(node_cpu_seconds_total{mode="idle"}[${window}]))`),
      ask('count by (host) (node_cpu_seconds_total{mode="idle"})'),
      ask("node_memory_MemTotal_bytes"),
      ask("node_memory_MemAvailable_bytes"),
      ask("node_load1"),
      ask(`node_filesystem_size_bytes{${REAL_FILESYSTEMS}}`),
      ask(`node_filesystem_avail_bytes{${REAL_FILESYSTEMS}}`),
      ask(`sum by (host) (rate(node_network_receive_bytes_total{${NO_PSEUDO_DEVICES}}[${window}]))`),
      ask(`sum by (host) (rate(node_network_transmit_bytes_total{${NO_PSEUDO_DEVICES}}[${window}]))`),
    ]);
    if (signal.aborted) return;
    const { containers } = this.snapshot;
    const cpuOf = byContainer(cpu, containers);
    const memoryOf = byContainer(memory, containers);
    const limitOf = byContainer(limits, containers);
    const figures = new Map<string, Figures>();
    for (const { key } of containers) {
      const figure: Figures = {};
      set(figure, "cpuCores", cpuOf.get(key));
      set(figure, "memoryBytes", memoryOf.get(key));
      set(figure, "limitBytes", effectiveLimit(limitOf.get(key)));
      set(figure, "linesPerS", this.snapshot.figures.get(key)?.linesPerS);
      figures.set(key, figure);
    }
    const hosts = new Map<string, HostFigures>();
    const fill = (samples: readonly VectorSample[], name: keyof HostFigures, change = (value: number) => value) => {
      for (const [host, value] of byHost(samples)) {
        const figure = hosts.get(host) ?? {};
        figure[name] = change(value);
        hosts.set(host, figure);
      }
    };
    fill(idle, "cpuShare", (share) => Math.max(0, 1 - share));
    fill(cores, "cores");
    fill(total, "memoryTotalBytes");
    fill(available, "memoryAvailableBytes");
    fill(load, "load1");
    fill(receive, "receiveBytesPerS");
    fill(transmit, "transmitBytesPerS");
    // Only hosts that report as hosts: scraped targets may carry other labels.
    for (const [host, disk] of mainFilesystem(sizes, free)) {
      hosts.set(host, { ...hosts.get(host), diskSizeBytes: disk.sizeBytes, diskAvailableBytes: disk.availableBytes });
    }
    this.publish({ figures, hosts });
  }

  private async readSparks(signal: AbortSignal): Promise<void> {
    const grid = gridBefore(this.nowS(), this.snapshot.rangeS, SPARK_POINTS);
    const window = rateWindow(grid.stepS);
    const [cpu, memory, idle, logs] = await Promise.all([
      orNothing(api.range(`sum by (host, name) (rate(container_cpu_usage_seconds_total{name!=""}[${window}]))`, grid, signal)),
      orNothing(api.range('max by (host, name) (container_memory_working_set_bytes{name!=""})', grid, signal)),
      orNothing(api.range(`avg by (host) (rate(node_cpu_seconds_total{mode="idle"}[${window}]))`, grid, signal)),
      api.logMetricRange('sum by (host, container) (rate({container=~".+"}[1m]))', grid, signal).catch(() => null),
    ]);
    if (signal.aborted) return;
    const logSparks = sparks(logs ?? [], grid, containerOf);
    const figures = new Map(this.snapshot.figures);
    for (const { key } of this.snapshot.containers) {
      const figure = { ...figures.get(key) };
      // A stream without lines in the window has no point: its rate is nought.
      // That holds only for an answer; without one the rate is not known.
      if (logs === null) delete figure.linesPerS;
      else figure.linesPerS = logSparks.get(key)?.at(-1) ?? 0;
      figures.set(key, figure);
    }
    const busy = new Map(
      [...sparks(idle, grid, hostOf)].map(([host, values]) => [
        host,
        values.map((share) => (share === null ? null : Math.max(0, 1 - share))),
      ]),
    );
    this.publish({
      cpuSparks: sparks(cpu, grid, containerOf),
      memorySparks: sparks(memory, grid, containerOf),
      hostCpuSparks: busy,
      logSparks,
      figures,
    });
  }

  private async readStatus(signal: AbortSignal): Promise<void> {
    const status = await api.status(signal).catch(() => this.snapshot.status);
    if (!signal.aborted) this.publish({ status });
  }
}

function set(figure: Figures, name: keyof Figures, value: number | undefined): void {
  if (value !== undefined) figure[name] = value;
}

export function useLive(live: Live): Snapshot {
  const [snapshot, setSnapshot] = useState(live.snapshot);
  useEffect(() => {
    setSnapshot(live.snapshot);
    return live.subscribe(() => setSnapshot(live.snapshot));
  }, [live]);
  return snapshot;
}
