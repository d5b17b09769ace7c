// Lines of one container for a log view: the newest page, then whatever a
// WebSocket tail brings, older pages on demand. The tail is opened before the
// first page is read, and overlapping lines merge by identity, so that no
// line falls between the two.
import * as api from "./api.ts";
import { LogBuffer } from "./logbuffer.ts";
import { parseTailFrame, Repeats } from "./logql.ts";
import type { TimeSpan } from "./timerange.ts";

const PAGE_LINES = 300;
const TAIL_LINES = 100;
/** How far back the newest page may reach; older pages go further. */
const FIRST_REACH_S = 7 * 86_400;
const FULL_REACH_S = 366 * 86_400;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 8_000;
/** New lines are shown at most this often. */
const SHOW_INTERVAL_MS = 100;

export type FeedState = "loading" | "live" | "reconnecting" | "fixed" | "failed";

export class LogFeed {
  readonly buffer = new LogBuffer();
  state: FeedState = "loading";
  error: string | null = null;
  droppedLines = 0;
  atStart = false;
  full = false;
  private held = false;
  private socket: WebSocket | undefined;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private showTimer: ReturnType<typeof setTimeout> | undefined;
  private retryMs = RETRY_MIN_MS;
  private loadingOlder = false;
  private closed = new AbortController();

  constructor(
    private readonly query: string,
    private readonly span: TimeSpan | null,
    private readonly nowS: () => number,
    private readonly changed: () => void,
  ) {}

  open(): void {
    if (this.span) void this.readNewest();
    else this.connect();
  }

  close(): void {
    this.closed.abort();
    clearTimeout(this.retryTimer);
    clearTimeout(this.showTimer);
    this.socket?.close();
  }

  retry(): void {
    clearTimeout(this.retryTimer);
    this.retryMs = RETRY_MIN_MS;
    this.state = "loading";
    this.error = null;
    this.changed();
    this.open();
  }

  /** While held, new lines wait aside and are counted. */
  hold(held: boolean): void {
    if (this.held === held) return;
    this.held = held;
    if (held) return;
    if (this.buffer.overflowed) this.atStart = false;
    this.buffer.release();
    this.changed();
  }

  private show(): void {
    if (this.showTimer !== undefined) return;
    this.showTimer = setTimeout(() => {
      this.showTimer = undefined;
      this.changed();
    }, SHOW_INTERVAL_MS);
  }

  private connect(): void {
    const repeats = new Repeats();
    const before = this.socket;
    const socket = new WebSocket(api.tailAddress(this.query, TAIL_LINES));
    this.socket = socket;
    before?.close();
    socket.onopen = () => {
      this.retryMs = RETRY_MIN_MS;
      this.state = "live";
      void this.readNewest();
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket || typeof event.data !== "string") return;
      try {
        const frame = parseTailFrame(event.data, repeats);
        this.droppedLines += frame.dropped;
        this.buffer.addNew(frame.lines, this.held);
        this.show();
      } catch (error) {
        this.error = api.inWords(error);
        this.show();
      }
    };
    socket.onclose = () => {
      if (this.closed.signal.aborted || this.socket !== socket) return;
      this.state = "reconnecting";
      // The page is read even so: where sockets don't get through, this polls.
      void this.readNewest();
      this.retryTimer = setTimeout(() => this.connect(), this.retryMs);
      this.retryMs = Math.min(RETRY_MAX_MS, this.retryMs * 2);
    };
  }

  private bounds(): { startNs: bigint; endNs: bigint } {
    if (this.span) {
      return { startNs: nanoseconds(this.span.fromS), endNs: nanoseconds(this.span.toS) };
    }
    const nowS = this.nowS();
    return { startNs: nanoseconds(nowS - FIRST_REACH_S), endNs: nanoseconds(nowS + 60) };
  }

  private async readNewest(): Promise<void> {
    try {
      const { startNs, endNs } = this.bounds();
      const known = this.buffer.lines[0];
      const lines = await api.logLines(this.query, startNs, endNs, PAGE_LINES, this.closed.signal);
      const oldest = lines.at(-1);
      if (known && oldest && lines.length >= PAGE_LINES && oldest.timeNs > known.timeNs) {
        // More was missed than one page holds: start over rather than show a gap.
        this.buffer.clear();
        this.atStart = false;
      }
      this.buffer.addNew(lines, this.held);
      if (this.span && lines.length < PAGE_LINES) this.atStart = true;
      this.error = null;
      if (this.span) this.state = "fixed";
    } catch (error) {
      if (this.closed.signal.aborted) return;
      this.error = api.inWords(error);
      if (this.span || (error instanceof api.RequestFailed && error.status >= 400 && error.status < 500)) this.state = "failed";
    }
    this.changed();
  }

  async readOlder(): Promise<void> {
    const oldest = this.buffer.lines.at(-1);
    if (!oldest || this.loadingOlder || this.atStart || this.full || this.state === "failed") return;
    this.loadingOlder = true;
    try {
      const startNs = this.span ? nanoseconds(this.span.fromS) : nanoseconds(this.nowS() - FULL_REACH_S);
      // One nanosecond of overlap: its lines may have been cut by the last page's limit.
      let lines = await api.logLines(this.query, startNs, oldest.timeNs + 1n, PAGE_LINES, this.closed.signal);
      if (lines.length >= PAGE_LINES && lines.at(-1)?.timeNs === oldest.timeNs) {
        lines = await api.logLines(this.query, startNs, oldest.timeNs, PAGE_LINES, this.closed.signal);
      }
      this.atStart = lines.length < PAGE_LINES;
      this.full = !this.buffer.addOlder(lines);
    } catch (error) {
      if (!this.closed.signal.aborted) this.error = api.inWords(error);
    } finally {
      this.loadingOlder = false;
      if (!this.closed.signal.aborted) this.changed();
    }
  }
}

function nanoseconds(seconds: number): bigint {
  return BigInt(Math.round(seconds * 1e3)) * 1_000_000n;
}
