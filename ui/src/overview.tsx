// First screen: hosts, and containers with what they use now.
import { useMemo, useState } from "preact/hooks";
import { Sparkline } from "./charts.tsx";
import { formatBytes, formatBytesPerSecond, formatPercent, formatRate } from "./format.ts";
import {
  groupContainers,
  matchesFilter,
  sortContainers,
  type Container,
  type HostFigures,
  type SortKey,
  type Spark,
} from "./inventory.ts";
import type { Snapshot } from "./live.ts";
import { containerHref } from "./router.ts";

function Meter({ share, label }: { share: number | undefined; label: string }) {
  if (share === undefined || !Number.isFinite(share)) return <span class="meter" />;
  const percent = Math.min(100, Math.max(0, share * 100));
  const tone = percent >= 90 ? "bad" : percent >= 75 ? "warn" : "";
  return (
    <span class={`meter ${tone}`} role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(percent)}>
      <span style={{ width: `${percent}%` }} />
    </span>
  );
}

function HostCard({ host, figures, cpu, count }: { host: string; figures: HostFigures; cpu: Spark | undefined; count: number }) {
  const { memoryTotalBytes, memoryAvailableBytes, diskSizeBytes, diskAvailableBytes } = figures;
  const memoryUsed =
    memoryTotalBytes !== undefined && memoryAvailableBytes !== undefined ? memoryTotalBytes - memoryAvailableBytes : undefined;
  const diskUsed =
    diskSizeBytes !== undefined && diskAvailableBytes !== undefined ? diskSizeBytes - diskAvailableBytes : undefined;
  return (
    <section class="host-card" data-testid="host-card" data-host={host} aria-label={`Host ${host}`}>
      <header>
        <h2>{host || "unnamed host"}</h2>
        <span class="muted">
          {count} {count === 1 ? "container" : "containers"}
        </span>
      </header>
      <dl>
        <div class="host-cpu">
          <dt>CPU{figures.cores !== undefined && <span class="muted"> {figures.cores} cores</span>}</dt>
          <dd>{formatPercent(figures.cpuShare)}</dd>
          <Sparkline values={cpu} top={1} tone="cpu" />
        </div>
        <div>
          <dt>Memory</dt>
          <dd>
            {formatBytes(memoryUsed)} <span class="muted">of {formatBytes(memoryTotalBytes)}</span>
          </dd>
          <Meter label="Memory used" share={memoryUsed !== undefined && memoryTotalBytes ? memoryUsed / memoryTotalBytes : undefined} />
        </div>
        <div>
          <dt>Disk</dt>
          <dd>
            {formatBytes(diskUsed)} <span class="muted">of {formatBytes(diskSizeBytes)}</span>
          </dd>
          <Meter label="Disk used" share={diskUsed !== undefined && diskSizeBytes ? diskUsed / diskSizeBytes : undefined} />
        </div>
        <div>
          <dt>Load</dt>
          <dd>{figures.load1 === undefined ? "–" : figures.load1.toFixed(2)}</dd>
        </div>
        <div>
          <dt>Network</dt>
          <dd class="pair">
            <span title="received">↓ {formatBytesPerSecond(figures.receiveBytesPerS)}</span>
            <span title="sent">↑ {formatBytesPerSecond(figures.transmitBytesPerS)}</span>
          </dd>
        </div>
      </dl>
    </section>
  );
}

function ContainerRow({ container, snapshot }: { container: Container; snapshot: Snapshot }) {
  const figure = snapshot.figures.get(container.key) ?? {};
  const { cpuCores, memoryBytes, limitBytes, linesPerS } = figure;
  const viaApi = snapshot.status?.hosts.find((host) => host.host === container.host)?.logs[container.name] === "api";
  return (
    <tr class="row" data-testid="container-row" data-name={container.name} data-host={container.host}>
      <td class="cell-name">
        <div class="name-box">
          <span class={`dot ${container.running ? "up" : "down"}`} title={container.running ? "running" : "no fresh readings"}>
            <span class="sr">{container.running ? "running" : "not running"}</span>
          </span>
          <div>
            <a class="row-link" href={containerHref(container.host, container.name)}>
              {container.name}
            </a>
            <div class="muted clip" title={container.image}>
              {container.service && container.service !== container.name ? `${container.service} · ` : ""}
              {container.image}
            </div>
          </div>
          {viaApi && (
            <span class="tag" title="Its log files can't be read, so its lines come through the Docker API.">
              logs by API
            </span>
          )}
        </div>
      </td>
      <td class="cell-figure" data-label="CPU" data-testid="cpu" data-value={cpuCores ?? ""}>
        <Sparkline values={snapshot.cpuSparks.get(container.key)} top={0.1} tone="cpu" />
        <b>{formatPercent(cpuCores)}</b>
      </td>
      <td class="cell-figure" data-label="Memory" data-testid="memory" data-value={memoryBytes ?? ""}>
        <Sparkline values={snapshot.memorySparks.get(container.key)} top={limitBytes ?? 0} tone="memory" />
        <b>
          {formatBytes(memoryBytes)}
          {limitBytes !== undefined && memoryBytes !== undefined && (
            <small title={`limit ${formatBytes(limitBytes)}`} class={memoryBytes / limitBytes > 0.9 ? "bad-text" : "muted"}>
              {formatPercent(memoryBytes / limitBytes)} of {formatBytes(limitBytes)}
            </small>
          )}
        </b>
      </td>
      <td class="cell-figure" data-label="Logs" data-testid="log-rate" data-value={linesPerS ?? ""}>
        <Sparkline values={snapshot.logSparks.get(container.key)} tone="logs" />
        <b>{formatRate(linesPerS)}</b>
      </td>
    </tr>
  );
}

const COLUMNS: { key: SortKey; label: string; explained: string }[] = [
  { key: "name", label: "Container", explained: "by name" },
  { key: "cpu", label: "CPU", explained: "of one core; highest first" },
  { key: "memory", label: "Memory", explained: "working set; highest first" },
  { key: "logs", label: "Log lines", explained: "per second; highest first" },
];

export function Overview({ snapshot }: { snapshot: Snapshot }) {
  const [filter, setFilter] = useState("");
  const [sort, setSort] = useState<SortKey>("name");
  const [grouped, setGrouped] = useState(true);
  const { containers, figures, hosts } = snapshot;
  const shown = useMemo(
    () => sortContainers(containers.filter((container) => matchesFilter(container, filter)), figures, sort),
    [containers, figures, filter, sort],
  );
  const groups = grouped ? groupContainers(shown) : [{ host: "", project: "", containers: shown }];
  const hostNames = [...new Set([...hosts.keys(), ...containers.map((container) => container.host)])].sort();
  const running = containers.filter((container) => container.running).length;

  return (
    <main class="page">
      <h1 class="sr">Containers</h1>
      <div class="hosts">
        {hostNames.map((host) => (
          <HostCard
            key={host}
            host={host}
            figures={hosts.get(host) ?? {}}
            cpu={snapshot.hostCpuSparks.get(host)}
            count={containers.filter((container) => container.host === host && container.running).length}
          />
        ))}
      </div>
      <div class="bar">
        <input
          type="search"
          class="filter"
          placeholder="Filter containers"
          aria-label="Filter containers"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
        <label class="check">
          <input type="checkbox" checked={grouped} onChange={(event) => setGrouped(event.currentTarget.checked)} />
          Group by host and project
        </label>
        <span class="muted push" role="status">
          {shown.length !== containers.length && `${shown.length} shown · `}
          {running} running
        </span>
      </div>
      <table class="containers">
        <thead>
          <tr>
            {COLUMNS.map((column) => (
              <th key={column.key} scope="col" aria-sort={sort === column.key ? (column.key === "name" ? "ascending" : "descending") : "none"}>
                <button type="button" title={column.explained} onClick={() => setSort(column.key)}>
                  {column.label}
                  {sort === column.key && <span aria-hidden="true"> {column.key === "name" ? "↑" : "↓"}</span>}
                </button>
              </th>
            ))}
          </tr>
        </thead>
        {groups.map((group) => (
          <tbody key={`${group.host}\u0000${group.project}`}>
            {grouped && (
              <tr class="group">
                <th colSpan={4} scope="rowgroup">
                  <span class="muted">{group.host} /</span> {group.project || "no project"}
                  <span class="muted"> · {group.containers.length}</span>
                </th>
              </tr>
            )}
            {group.containers.map((container) => (
              <ContainerRow key={container.key} container={container} snapshot={snapshot} />
            ))}
          </tbody>
        ))}
      </table>
      {shown.length === 0 && (
        <p class="empty">
          {!snapshot.loaded
            ? "Loading…"
            : containers.length > 0
              ? "No container matches the filter."
              : snapshot.error
                ? "Nothing could be read yet."
                : "No containers yet. One that is started shows here within a second or two."}
        </p>
      )}
    </main>
  );
}
