// Search over all logs, newest first.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import * as api from "./api.ts";
import type { Live, Snapshot } from "./live.ts";
import { LogList } from "./loglist.tsx";
import type { LogLine } from "./logql.ts";
import { selector } from "./promql.ts";
import { logsHref } from "./router.ts";
import { RANGES, toNanoseconds } from "./timerange.ts";

const PAGE_LINES = 200;
/** As many lines as one view holds; a narrower search shows the rest. */
const MAX_LINES = 5_000;

export function LogsView({ text, live, snapshot }: { text: string; live: Live; snapshot: Snapshot }) {
  const [typed, setTyped] = useState(text);
  const [chosen, setChosen] = useState("");
  const [lines, setLines] = useState<LogLine[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const [round, setRound] = useState(0);
  const request = useRef<{ signal: AbortSignal; parameters: Record<string, string>; reading: boolean } | null>(null);
  const { rangeS, containers } = snapshot;
  useEffect(() => setTyped(text), [text]);

  async function read(next: string | null): Promise<void> {
    const current = request.current;
    if (!current || current.reading) return;
    current.reading = true;
    setBusy(true);
    try {
      const parameters = next === null ? current.parameters : { ...current.parameters, cursor: next };
      const page = await api.search(parameters, current.signal);
      if (current.signal.aborted) return;
      setLines((before) => (next === null ? page.lines : [...before, ...page.lines]));
      setCursor(page.cursor);
      setError(null);
    } catch (failed) {
      if (!current.signal.aborted) setError(api.inWords(failed));
    } finally {
      current.reading = false;
      if (!current.signal.aborted) setBusy(false);
    }
  }

  useEffect(() => {
    const gone = new AbortController();
    const nowS = live.nowS();
    const [host, container] = chosen.split("\u0000");
    const parameters: Record<string, string> = {
      query: text,
      start: toNanoseconds(nowS - rangeS),
      end: toNanoseconds(nowS),
      limit: String(PAGE_LINES),
    };
    if (host !== undefined && container !== undefined) parameters["selector"] = selector({ host, container });
    request.current = { signal: gone.signal, parameters, reading: false };
    setLines([]);
    setCursor(null);
    void read(null);
    return () => gone.abort();
  }, [text, chosen, rangeS, round]);

  const names = useMemo(
    () => [...containers].sort((a, b) => a.name.localeCompare(b.name) || a.host.localeCompare(b.host)),
    [containers],
  );
  const several = new Set(names.map((container) => container.host)).size > 1;
  const rangeLabel = RANGES.find((range) => range.seconds === rangeS)?.label ?? "";
  return (
    <main class="page logs-page">
      <h1 class="sr">Logs</h1>
      <form
        class="bar"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          if (logsHref(typed) === location.hash || typed === text) setRound(round + 1);
          else location.hash = logsHref(typed);
        }}
      >
        <input
          type="search"
          class="filter wide"
          placeholder="Search all logs: every word must occur"
          aria-label="Search all logs"
          data-testid="search"
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
        <select aria-label="Container" value={chosen} onChange={(event) => setChosen(event.currentTarget.value)}>
          <option value="">All containers</option>
          {names.map((container) => (
            <option key={container.key} value={container.key}>
              {container.name}
              {several && ` (${container.host})`}
            </option>
          ))}
        </select>
        <button type="submit" class="button primary">
          Search
        </button>
        <span class="muted" role="status">
          {busy ? "Searching…" : `${lines.length}${cursor ? "+" : ""} lines in the last ${rangeLabel}`}
        </span>
      </form>
      {error && (
        <p class="notice bad" role="alert">
          {error}{" "}
          <button type="button" class="link" onClick={() => setRound(round + 1)}>
            Try again
          </button>
        </p>
      )}
      <div class="panel log-frame tall">
        <LogList
          lines={lines}
          source
          label="Lines found, newest first"
          toTop={round}
          onNearEnd={() => {
            if (cursor !== null && !error && lines.length < MAX_LINES) void read(cursor);
          }}
          end={
            busy
              ? "Searching…"
              : lines.length === 0
                ? error
                  ? ""
                  : `Nothing found in the last ${rangeLabel}.`
                : cursor === null
                  ? "No older lines in this range."
                  : lines.length >= MAX_LINES
                    ? "The view is full. Add a word to narrow the search."
                    : ""
          }
        />
      </div>
    </main>
  );
}
