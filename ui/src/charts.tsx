// Small and large charts over one time axis.
import uPlot from "uplot";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { Spark } from "./inventory.ts";
import { formatClock, formatDateTime } from "./format.ts";
import type { TimeSpan } from "./timerange.ts";

const SPARK_WIDTH = 120;
const SPARK_HEIGHT = 28;

/** A line without axes; `top` is the value at the upper edge, at least. */
export function Sparkline({ values, top = 0, tone }: { values: Spark | undefined; top?: number; tone: string }) {
  const finite = (values ?? []).filter((value): value is number => value !== null);
  const highest = Math.max(top, ...finite) || 1;
  let line = "";
  let area = "";
  let from = 0;
  let x = 0;
  (values ?? []).forEach((value, index, all) => {
    x = (index / Math.max(1, all.length - 1)) * SPARK_WIDTH;
    if (value === null) return;
    const y = SPARK_HEIGHT - 1 - (Math.max(0, value) / highest) * (SPARK_HEIGHT - 3);
    const starts = index === 0 || all[index - 1] === null;
    if (starts) from = x;
    line += `${starts ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    area += `${starts ? `M${x.toFixed(1)} ${SPARK_HEIGHT}L` : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    if (index === all.length - 1 || all[index + 1] === null) area += `L${x.toFixed(1)} ${SPARK_HEIGHT}L${from.toFixed(1)} ${SPARK_HEIGHT}Z`;
  });
  return (
    <svg class={`spark tone-${tone}`} viewBox={`0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      <path class="spark-area" d={area} />
      <path class="spark-line" d={line} />
    </svg>
  );
}

export interface ChartLine {
  label: string;
  /** Name of a CSS colour variable. */
  color: string;
  values: (number | null)[];
  dashed?: boolean;
}

const CURSOR_GROUP = "kittiwake";
const HEIGHT_PX = 170;
/** The same axis width in every chart lines their times up on the screen. */
const Y_AXIS_PX = 64;
/** Tick distances of binary units, so that axes say 64 MiB and not 61 MiB. */
const BINARY_STEPS = Array.from({ length: 50 }, (_, power) => 2 ** power);

export function Chart(properties: {
  title: string;
  times: readonly number[];
  lines: readonly ChartLine[];
  format: (value: number | undefined) => string;
  binary?: boolean;
  span: TimeSpan | null;
  onSpan: (span: TimeSpan | null) => void;
  note?: string;
}) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(properties);
  latest.current = properties;
  const shape = properties.lines.map((line) => line.label).join("\u0000");

  useLayoutEffect(() => {
    const element = place.current;
    if (!element) return;
    let brushing = false;
    const css = (name: string) => getComputedStyle(element).getPropertyValue(name).trim();
    // Colours are read at each drawing, so that a change of theme shows.
    const axis: uPlot.Axis = {
      stroke: () => css("--muted"),
      grid: { stroke: () => css("--grid"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const options: uPlot.Options = {
      width: Math.max(100, element.clientWidth),
      height: HEIGHT_PX,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: CURSOR_GROUP },
        drag: { x: true, y: false, setScale: false, dist: 4 },
        points: { size: 6 },
      },
      scales: {
        x: { time: true, range: (_, low, high) => [low, high] },
        y: { range: (_, __, high) => [0, high > 0 ? high * 1.1 : 1] },
      },
      axes: [
        { ...axis, size: 28, values: [[86400, "{MM}-{DD}", null, null, null, null, null, null, 1], [3600, "{HH}:{mm}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
        {
          ...axis,
          size: Y_AXIS_PX,
          space: 34,
          values: (_, ticks) => ticks.map((tick) => latest.current.format(tick)),
          ...(properties.binary ? { incrs: BINARY_STEPS } : {}),
        },
      ],
      series: [
        {},
        ...properties.lines.map(
          (line): uPlot.Series => ({
            label: line.label,
            stroke: () => css(line.color),
            width: 1.5,
            points: { show: false },
            ...(line.dashed
              ? { dash: [5, 4] }
              : { fill: () => `color-mix(in srgb, ${css(line.color)} 14%, transparent)` }),
          }),
        ),
      ],
      hooks: {
        ready: [(u) => u.over.addEventListener("pointerdown", () => (brushing = true))],
        setCursor: [(u) => showValues(u)],
        setSelect: [
          (u) => {
            // Charts in the cursor group select along; only the one brushed speaks.
            const { left, width } = u.select;
            if (width > 0) u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            if (!brushing) return;
            brushing = false;
            const fromS = Math.floor(u.posToVal(left, "x"));
            const toS = Math.ceil(u.posToVal(left + width, "x"));
            latest.current.onSpan(width > 3 && toS > fromS ? { fromS, toS } : null);
          },
        ],
        drawClear: [
          (u) => {
            const { span } = latest.current;
            if (!span) return;
            const left = Math.max(u.bbox.left, u.valToPos(span.fromS, "x", true));
            const right = Math.min(u.bbox.left + u.bbox.width, u.valToPos(span.toS, "x", true));
            if (!(right > left)) return;
            u.ctx.fillStyle = css("--brush");
            u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
          },
        ],
      },
    };
    const values = element.parentElement?.querySelector<HTMLElement>(".chart-values") ?? null;
    function showValues(u: uPlot): void {
      if (!values) return;
      const { lines, format } = latest.current;
      const index = u.cursor.idx;
      const hovered = index !== null && index !== undefined;
      const at = hovered ? u.data[0][index] : undefined;
      values.replaceChildren(
        ...lines.map((line) => {
          const item = document.createElement("span");
          item.style.setProperty("--tone", `var(${line.color})`);
          const value = hovered ? line.values[index] : line.values.filter((one) => one !== null).at(-1);
          item.textContent = `${line.label} ${format(value ?? undefined)}`;
          return item;
        }),
      );
      if (at !== undefined) {
        const time = document.createElement("time");
        time.textContent = formatClock(at * 1000);
        time.title = formatDateTime(at * 1000);
        values.append(time);
      }
    }
    const data = () => [[...latest.current.times], ...latest.current.lines.map((line) => line.values)] as uPlot.AlignedData;
    const made = new uPlot(options, data(), element);
    plot.current = made;
    showValues(made);
    const resized = new ResizeObserver(() => made.setSize({ width: Math.max(100, element.clientWidth), height: HEIGHT_PX }));
    resized.observe(element);
    const theme = matchMedia("(prefers-color-scheme: dark)");
    const repaint = () => made.redraw(false, true);
    theme.addEventListener("change", repaint);
    return () => {
      theme.removeEventListener("change", repaint);
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => {
    const data = [[...properties.times], ...properties.lines.map((line) => line.values)] as uPlot.AlignedData;
    plot.current?.setData(data);
    plot.current?.setCursor({ left: plot.current.cursor.left ?? -10, top: plot.current.cursor.top ?? -10 });
  }, [properties.times, properties.lines]);
  useEffect(() => plot.current?.redraw(false, false), [properties.span]);

  return (
    <figure class="chart">
      <figcaption>
        <strong>{properties.title}</strong>
        {properties.note && <span class="muted">{properties.note}</span>}
      </figcaption>
      <div class="chart-values" />
      <div class="chart-place" ref={place} role="img" aria-label={`${properties.title} over time`} />
    </figure>
  );
}
