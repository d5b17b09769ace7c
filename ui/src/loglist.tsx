// A long list of log lines, of which only those in view are in the document.
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import { useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { parseAnsi } from "./ansi.ts";
import { formatDateTime, formatLineTime } from "./format.ts";
import { severity, type LogLine } from "./logql.ts";
import { containerHref } from "./router.ts";

/** Longer lines are shown in part, with a button for the rest. */
const SHOWN_CHARS = 4_000;
const ROW_HEIGHT_PX = 20;
const NEAR_END_PX = 600;
/** A link from a search hit shows this much time around it. */
const AROUND_S = 60;

function LineText({ text }: { text: string }) {
  const [whole, setWhole] = useState(false);
  const cut = !whole && text.length > SHOWN_CHARS;
  const runs = useMemo(() => parseAnsi(cut ? text.slice(0, SHOWN_CHARS) : text), [text, cut]);
  return (
    <span class="line-text">
      {runs.map((run, index) =>
        run.classes.length === 0 && !run.color && !run.background ? (
          run.text
        ) : (
          <span
            key={index}
            class={run.classes.join(" ")}
            style={{ color: run.color ?? "", backgroundColor: run.background ?? "" }}
          >
            {run.text}
          </span>
        ),
      )}
      {cut && (
        <button type="button" class="link" onClick={() => setWhole(true)}>
          … {text.length - SHOWN_CHARS} more characters
        </button>
      )}
    </span>
  );
}

function Line({ line, source, nowMs }: { line: LogLine; source: boolean; nowMs: number }) {
  const timeMs = Number(line.timeNs / 1_000_000n);
  const stream = line.labels["stream"] ?? "";
  const host = line.labels["host"] ?? "";
  const name = line.labels["container"] ?? line.labels["service_name"] ?? "";
  const atS = Math.floor(timeMs / 1000);
  return (
    <>
      <time class="line-time" dateTime={isoTime(timeMs)} title={formatDateTime(timeMs)}>
        {formatLineTime(timeMs, nowMs)}
      </time>
      {source && (
        <a
          class="line-source"
          title={`${name} on ${host}`}
          href={containerHref(host, name, { fromS: atS - AROUND_S, toS: atS + AROUND_S })}
        >
          {name}
        </a>
      )}
      <span class={`line-stream ${stream === "stderr" ? "stderr" : ""}`} title={stream}>
        {stream === "stderr" ? "err" : stream === "stdout" ? "out" : stream}
      </span>
      <LineText text={line.text} />
    </>
  );
}

function isoTime(timeMs: number): string {
  const at = new Date(timeMs);
  return Number.isNaN(at.getTime()) ? "" : at.toISOString();
}

export function LogList(properties: {
  lines: readonly LogLine[];
  /** Shows which container a line is from. */
  source?: boolean;
  label: string;
  onAtTop?: (atTop: boolean) => void;
  onNearEnd: () => void;
  /** A change of this number scrolls to the newest line. */
  toTop?: number;
  end: ComponentChildren;
}) {
  const { lines, onAtTop, onNearEnd } = properties;
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef(properties);
  latest.current = properties;
  const [, redraw] = useReducer((count: number, _: void) => count + 1, 0);
  const [virtualizer] = useState(
    () =>
      new Virtualizer<HTMLDivElement, HTMLDivElement>({
        count: 0,
        getScrollElement: () => box.current,
        estimateSize: () => ROW_HEIGHT_PX,
        observeElementRect,
        observeElementOffset,
        scrollToFn: elementScroll,
      }),
  );
  virtualizer.setOptions({
    count: lines.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW_HEIGHT_PX,
    getItemKey: (index) => latest.current.lines[index]?.id ?? index,
    overscan: 20,
    paddingStart: 5,
    observeElementRect,
    observeElementOffset,
    scrollToFn: elementScroll,
    onChange: () => redraw(),
  });
  useLayoutEffect(() => virtualizer._didMount(), [virtualizer]);
  useLayoutEffect(() => virtualizer._willUpdate());
  useLayoutEffect(() => {
    if (box.current) box.current.scrollTop = 0;
  }, [properties.toTop]);

  const total = virtualizer.getTotalSize();
  function scrolled(): void {
    const element = box.current;
    if (!element) return;
    onAtTop?.(element.scrollTop < ROW_HEIGHT_PX);
    if (element.scrollTop + element.clientHeight > element.scrollHeight - NEAR_END_PX) onNearEnd();
  }
  // A first page shorter than the box can't be scrolled: ask for more at once.
  useEffect(() => {
    const element = box.current;
    if (lines.length > 0 && element && element.scrollHeight <= element.clientHeight + NEAR_END_PX) onNearEnd();
  }, [lines.length]);

  const nowMs = Date.now();
  return (
    <div class="log-list" ref={box} onScroll={scrolled} role="log" aria-live="off" aria-label={properties.label} tabIndex={0}>
      <div class="log-canvas" style={{ height: `${total}px` }}>
        {virtualizer.getVirtualItems().map((item) => {
          const line = lines[item.index];
          if (!line) return null;
          return (
            <div
              key={line.id}
              ref={(element: HTMLDivElement | null) => virtualizer.measureElement(element)}
              data-index={item.index}
              data-testid="log-line"
              class={`log-line ${severity(line.text)}`}
              style={{ transform: `translateY(${item.start}px)` }}
            >
              <Line line={line} source={properties.source ?? false} nowMs={nowMs} />
            </div>
          );
        })}
      </div>
      <div class="log-end">{properties.end}</div>
    </div>
  );
}
