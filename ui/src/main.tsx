// The frame of the page: where we are, the time range, and what is wrong.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ContainerView } from "./container.tsx";
import { Live, useLive } from "./live.ts";
import { LogsView } from "./logsview.tsx";
import { Overview } from "./overview.tsx";
import { parseRoute, type Route } from "./router.ts";
import { RANGES } from "./timerange.ts";

function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const changed = () => setRoute(parseRoute(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path class="wings" d="M2 12c6-5 10-3 14 5 4-8 8-10 14-5-6-1-9 3-11 10l-3 2-3-2C11 15 8 11 2 12z" />
      <path class="beak" d="M14.2 23.6 16 29l1.8-5.4-1.8 1.1z" />
    </svg>
  );
}

function App({ live }: { live: Live }) {
  const snapshot = useLive(live);
  const route = useRoute();
  useEffect(() => {
    document.title = route.view === "container" ? `${route.name} · Kittiwake` : route.view === "logs" ? "Logs · Kittiwake" : "Kittiwake";
    if (route.view !== "container" || !route.span) scrollTo(0, 0);
  }, [route.view, route.view === "container" ? route.name : ""]);
  const dockerTroubles = (snapshot.status?.hosts ?? []).filter((host) => host.docker !== "ok");
  return (
    <>
      <header class="top">
        <a class="brand" href="#/">
          <Mark />
          Kittiwake
        </a>
        <nav aria-label="Views">
          <a href="#/" aria-current={route.view === "logs" ? undefined : "page"}>
            Containers
          </a>
          <a href="#/logs" aria-current={route.view === "logs" ? "page" : undefined}>
            Logs
          </a>
        </nav>
        <div class="ranges" role="group" aria-label="Time range">
          {RANGES.map((range) => (
            <button
              type="button"
              key={range.label}
              aria-pressed={snapshot.rangeS === range.seconds}
              onClick={() => live.setRange(range.seconds)}
            >
              {range.label}
            </button>
          ))}
        </div>
      </header>
      {snapshot.error && (
        <div class="banner bad" role="alert" data-testid="error-banner">
          {snapshot.error} {snapshot.containers.length > 0 && "What you see is the last that was read. "}
          <button type="button" class="link" onClick={() => live.retry()}>
            Try again
          </button>
        </div>
      )}
      {dockerTroubles.map((host) => (
        <div key={host.host} class="banner warn" role="status" data-testid="docker-banner">
          <b>{host.host}</b>: Docker can't be reached, so only the host itself is shown. {host.docker}
        </div>
      ))}
      {route.view === "overview" && <Overview snapshot={snapshot} />}
      {route.view === "container" && (
        <ContainerView
          key={`${route.host}\u0000${route.name}`}
          host={route.host}
          name={route.name}
          span={route.span}
          live={live}
          snapshot={snapshot}
        />
      )}
      {route.view === "logs" && <LogsView text={route.text} live={live} snapshot={snapshot} />}
    </>
  );
}

const root = document.getElementById("app");
if (root) {
  const live = new Live();
  live.start();
  render(<App live={live} />, root);
}
