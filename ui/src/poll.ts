// Work that repeats while the page is visible. The next round is counted from
// the end of the last one, so that a slow server is never asked twice at once.

export interface Poll {
  /** Runs now instead of at the next interval. */
  hurry(): void;
  stop(): void;
}

export function poll(task: (signal: AbortSignal) => Promise<void>, intervalMs: () => number): Poll {
  const stopped = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let running = false;
  let again = false;

  async function round(): Promise<void> {
    clearTimeout(timer);
    if (stopped.signal.aborted || document.hidden) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    again = false;
    try {
      await task(stopped.signal);
    } finally {
      running = false;
      if (!stopped.signal.aborted) timer = setTimeout(round, again ? 0 : intervalMs());
    }
  }

  const wake = () => void round();
  document.addEventListener("visibilitychange", wake);
  wake();
  return {
    hurry: wake,
    stop() {
      stopped.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", wake);
    },
  };
}
