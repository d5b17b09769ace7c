// One container: its charts on one time axis, and its log below them.
import { useEffect, useMemo, useReducer, useState } from "preact/hooks";
import * as api from "./api.ts";
import { Chart, type ChartLine } from "./charts.tsx";
import { formatBytes, formatBytesPerSecond, formatClock, formatDateTime, formatDuration, formatPercent } from "./format.ts";
import { containerKey } from "./inventory.ts";
import type { Live, Snapshot } from "./live.ts";
import { LogFeed } from "./logfeed.ts";
import { LogList } from "./loglist.tsx";
import { containerQuery, type StreamChoice } from "./logql.ts";
import { poll } from "./poll.ts";
import { selector, type MatrixSeries } from "./promql.ts";
import { containerHref } from "./router.ts";
import { alignToGrid, COLLECT_INTERVAL_S, gridBefore, gridTimes, rateWindow, type Grid, type TimeSpan } from "./timerange.ts";

const CHART_POINTS = 240;
const FILTER_DELAY_MS = 250;

interface ChartData {
  times: number[];
  cpu: ChartLine[];
  memory: ChartLine[];
  network: ChartLine[];
  blocks: ChartLine[];
}

const EMPTY: ChartData = { times: [], cpu: [], memory: [], network: [], blocks: [] };

async function readCharts(host: string, name: string, grid: Grid, signal: AbortSignal): Promise<ChartData> {
  const labels = { host, name };
  const window = rateWindow(grid.stepS);
  const rate = (metric: string, more = {}) =>
    api.range(`sum by (host, name) (rate(${metric}${selector({ ...labels, ...more })}[${window}]))`, grid, signal);
  const highest = (metric: string) => api.range(`max by (host, name) (${metric}${selector(labels)})`, grid, signal);
  // Engines without fs figures still count block I/O by operation.
  const blocks = async (metric: string, operation: string) => {
    const series = await rate(metric);
    return series.length > 0 ? series : rate("container_blkio_device_usage_total", { operation });
  };
  const line = (label: string, color: string, series: readonly MatrixSeries[]): ChartLine => ({
    label,
    color,
    values: alignToGrid(series[0]?.points ?? [], grid),
  });
  const [cpu, memory, limit, receive, transmit, reads, writes] = await Promise.all([
    rate("container_cpu_usage_seconds_total"),
    highest("container_memory_working_set_bytes"),
    highest("container_spec_memory_limit_bytes"),
    rate("container_network_receive_bytes_total"),
    rate("container_network_transmit_bytes_total"),
    blocks("container_fs_reads_bytes_total", "Read"),
    blocks("container_fs_writes_bytes_total", "Write"),
  ]);
  const limits = line("limit", "--bad", limit);
  const limited = limits.values.some((value) => value !== null && value > 0 && value < 2 ** 60);
  return {
    times: gridTimes(grid),
    cpu: [line("CPU", "--cpu", cpu)],
    memory: [line("working set", "--memory", memory), ...(limited ? [{ ...limits, dashed: true }] : [])],
    network: [line("in", "--in", receive), line("out", "--out", transmit)],
    blocks: [line("read", "--in", reads), line("write", "--out", writes)],
  };
}

function Logs(properties: { host: string; name: string; live: Live; span: TimeSpan | null; onSpan: (span: TimeSpan | null) => void }) {
  const { host, name, live, span, onSpan } = properties;
  const [stream, setStream] = useState<StreamChoice>("all");
  const [typed, setTyped] = useState("");
  const [text, setText] = useState("");
  const [paused, setPaused] = useState(false);
  const [atTop, setAtTop] = useState(true);
  const [toTop, scrollToTop] = useReducer((count: number, _: void) => count + 1, 0);
  const [, redraw] = useReducer((count: number, _: void) => count + 1, 0);
  useEffect(() => {
    const timer = setTimeout(() => setText(typed), FILTER_DELAY_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const query = containerQuery(host, name, stream, text);
  const feed = useMemo(() => new LogFeed(query, span, () => live.nowS(), redraw), [query, span?.fromS, span?.toS]);
  useEffect(() => {
    feed.hold(paused);
    setAtTop(true);
    scrollToTop();
    feed.open();
    return () => feed.close();
  }, [feed]);
  useEffect(() => feed.hold(paused || !atTop), [feed, paused, atTop]);

  const waiting = feed.buffer.waitingCount;
  const { lines } = feed.buffer;
  const state = {
    loading: "Loading…",
    live: paused ? "Paused" : "Live",
    reconnecting: "Connecting again…",
    fixed: "Selected time",
    failed: "Failed",
  }[feed.state];
  return (
    <section class="logs panel" aria-label="Logs">
      <div class="bar">
        <h2>Logs</h2>
        <span class={`state ${feed.state} ${paused ? "paused" : ""}`} role="status">
          {state}
        </span>
        {span && (
          <span class="chip">
            {formatDateTime(span.fromS * 1000)} – {formatClock(span.toS * 1000)} ({formatDuration(span.toS - span.fromS)})
            <button type="button" aria-label="Back to live lines" onClick={() => onSpan(null)}>
              ✕
            </button>
          </span>
        )}
        <input
          type="search"
          class="filter push"
          placeholder="Filter lines"
          aria-label="Filter lines"
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
        <select aria-label="Stream" value={stream} onChange={(event) => setStream(event.currentTarget.value as StreamChoice)}>
          <option value="all">stdout + stderr</option>
          <option value="stdout">stdout</option>
          <option value="stderr">stderr</option>
        </select>
        {!span && (
          <button type="button" class="button" aria-pressed={paused} onClick={() => setPaused(!paused)}>
            {paused ? "Resume" : "Pause"}
          </button>
        )}
      </div>
      {feed.error && (
        <p class="notice bad" role="alert">
          {feed.error}{" "}
          <button type="button" class="link" onClick={() => feed.retry()}>
            Try again
          </button>
        </p>
      )}
      {feed.droppedLines > 0 && (
        <p class="notice warn">{feed.droppedLines} lines came too fast to be shown live; open the page anew to see them.</p>
      )}
      <div class="log-frame">
        {waiting > 0 && (
          <button
            type="button"
            class="waiting"
            onClick={() => {
              setPaused(false);
              setAtTop(true);
              scrollToTop();
            }}
          >
            ↑ {waiting} new {waiting === 1 ? "line" : "lines"}
          </button>
        )}
        <LogList
          lines={lines}
          label={`Log of ${name}, newest first`}
          onAtTop={setAtTop}
          onNearEnd={() => void feed.readOlder()}
          toTop={toTop}
          end={
            lines.length === 0
              ? feed.state === "loading"
                ? "Loading…"
                : `No lines${text ? " match" : span ? " in this time" : " yet"}.`
              : feed.full
                ? "The view is full. Brush a time on a chart to see older lines."
                : feed.atStart
                  ? "Start of the log."
                  : "Older lines load as you scroll."
          }
        />
      </div>
    </section>
  );
}

export function ContainerView(properties: { host: string; name: string; span: TimeSpan | null; live: Live; snapshot: Snapshot }) {
  const { host, name, span, live, snapshot } = properties;
  const [data, setData] = useState<ChartData>(EMPTY);
  const [error, setError] = useState<string | null>(null);
  const [startedS, setStartedS] = useState<number | undefined>();
  const { rangeS } = snapshot;
  const spanEndS = span?.toS;
  useEffect(() => {
    const reading = poll(
      async (signal) => {
        // A linked time that lies before the range moves the axis to it.
        const nowS = live.nowS();
        const endS = spanEndS !== undefined && spanEndS < nowS - rangeS ? spanEndS + rangeS / 2 : nowS;
        const grid = gridBefore(Math.min(nowS, endS), rangeS, CHART_POINTS);
        try {
          const charts = await readCharts(host, name, grid, signal);
          if (signal.aborted) return;
          setData(charts);
          setError(null);
        } catch (failed) {
          if (!signal.aborted) setError(api.inWords(failed));
        }
      },
      () => Math.max(COLLECT_INTERVAL_S, gridBefore(0, rangeS, CHART_POINTS).stepS / 2) * 1000,
    );
    return () => reading.stop();
  }, [host, name, rangeS, spanEndS]);
  useEffect(() => {
    setStartedS(undefined);
    const gone = new AbortController();
    api
      .instant(`max by (host, name) (container_start_time_seconds${selector({ host, name })})`, gone.signal)
      .then((samples) => setStartedS(samples[0]?.value))
      .catch(() => undefined);
    return () => gone.abort();
  }, [host, name]);

  const key = containerKey(host, name);
  const container = snapshot.containers.find((one) => one.key === key);
  const figures = snapshot.figures.get(key) ?? {};
  const logMode = snapshot.status?.hosts.find((one) => one.host === host)?.logs[name];
  const onSpan = (chosen: TimeSpan | null) => {
    location.hash = containerHref(host, name, chosen);
  };
  const chart = { times: data.times, span, onSpan };
  return (
    <main class="page detail" data-testid="container-detail">
      <header class="detail-head">
        <a class="back" href="#/" aria-label="All containers">
          ←
        </a>
        <span class={`dot ${container?.running ? "up" : "down"}`} />
        <h1>{name}</h1>
        <span class="muted">{container ? (container.running ? "running" : "no fresh readings") : snapshot.loaded ? "not running" : ""}</span>
        <dl class="facts">
          <div>
            <dt>Host</dt>
            <dd>{host}</dd>
          </div>
          {container?.image && (
            <div>
              <dt>Image</dt>
              <dd>{container.image}</dd>
            </div>
          )}
          {container?.project && (
            <div>
              <dt>Project</dt>
              <dd>
                {container.project}
                {container.service && ` / ${container.service}`}
              </dd>
            </div>
          )}
          {startedS !== undefined && startedS > 0 && container?.running && (
            <div>
              <dt>Up</dt>
              <dd title={formatDateTime(startedS * 1000)}>{formatDuration(live.nowS() - startedS)}</dd>
            </div>
          )}
        </dl>
      </header>
      {logMode === "api" && (
        <p class="notice" data-testid="logs-by-api">
          The log files of this container can't be read, so its lines come through the Docker API. Lines written while the collector is
          down may be missing once Docker has rotated them away.
        </p>
      )}
      {logMode === "none" && (
        <p class="notice warn">Docker keeps no readable log of this container (its log driver gives nothing back), so there are no lines to show.</p>
      )}
      {error && (
        <p class="notice bad" role="alert">
          Charts: {error}
        </p>
      )}
      <div class="charts">
        <Chart {...chart} title="CPU" lines={data.cpu} format={formatPercent} note="of one core" />
        <Chart
          {...chart}
          title="Memory"
          lines={data.memory}
          format={formatBytes}
          binary
          {...(figures.limitBytes !== undefined ? { note: `limit ${formatBytes(figures.limitBytes)}` } : {})}
        />
        <Chart {...chart} title="Network" lines={data.network} format={formatBytesPerSecond} binary />
        <Chart {...chart} title="Block I/O" lines={data.blocks} format={formatBytesPerSecond} binary />
      </div>
      <Logs host={host} name={name} live={live} span={span} onSpan={onSpan} />
    </main>
  );
}
