// The lines a log view holds: newest first, without repeats, never more than
// a fixed number. While the reader is elsewhere in the list, new lines wait
// aside, so that what is being read does not move.
import { newestFirst, type LogLine } from "./logql.ts";

export const MAX_LINES = 5_000;

export class LogBuffer {
  lines: LogLine[] = [];
  private waiting: LogLine[] = [];
  private ids = new Set<string>();
  /** Lines that arrived while held and found no room. */
  overflowed = false;

  constructor(private readonly maxLines: number = MAX_LINES) {}

  get waitingCount(): number {
    return this.waiting.length;
  }

  clear(): void {
    this.lines = [];
    this.waiting = [];
    this.ids.clear();
    this.overflowed = false;
  }

  private unknown(batch: readonly LogLine[]): LogLine[] {
    return batch.filter((line) => !this.ids.has(line.id) && this.ids.add(line.id));
  }

  /** Lines of a live stream: shown at once, or kept aside while `held`. */
  addNew(batch: readonly LogLine[], held: boolean): void {
    const fresh = this.unknown(batch);
    if (fresh.length === 0) return;
    if (held) {
      this.waiting = newestFirst([...fresh, ...this.waiting]);
      if (this.waiting.length > this.maxLines) {
        this.overflowed = true;
        this.forget(this.waiting.splice(this.maxLines));
      }
      return;
    }
    this.lines = newestFirst([...fresh, ...this.lines]);
    this.trim();
  }

  /** Shows what waited. Lines lost in between leave no silent gap: older ones go and are read again. */
  release(): void {
    if (this.overflowed) {
      this.forget(this.lines);
      this.lines = [];
      this.overflowed = false;
    }
    this.lines = newestFirst([...this.waiting, ...this.lines]);
    this.waiting = [];
    this.trim();
  }

  /** A page of older lines; false when the view is full and no more may be loaded. */
  addOlder(batch: readonly LogLine[]): boolean {
    const room = this.maxLines - this.lines.length;
    const fresh = this.unknown(batch);
    this.forget(fresh.slice(Math.max(0, room)));
    this.lines = newestFirst([...this.lines, ...fresh.slice(0, Math.max(0, room))]);
    return this.lines.length < this.maxLines;
  }

  private trim(): void {
    if (this.lines.length > this.maxLines) this.forget(this.lines.splice(this.maxLines));
  }

  private forget(gone: readonly LogLine[]): void {
    for (const line of gone) this.ids.delete(line.id);
  }
}
