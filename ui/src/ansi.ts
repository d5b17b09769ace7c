// Terminal colours (SGR sequences) as runs of text with a style. All other
// control sequences are left out: they move a cursor that a page doesn't have.

export interface Run {
  text: string;
  /** CSS classes: ansi-fg-0..15, ansi-bg-0..15, ansi-bold, ansi-dim, ansi-italic, ansi-underline. */
  classes: string[];
  /** Colours outside the 16 of the theme, as #rrggbb. */
  color?: string;
  background?: string;
}

interface Style {
  flags: Set<string>;
  fg?: string;
  bg?: string;
}

// CSI sequences, OSC strings ended by BEL or ST, and two-byte escapes.
const ESCAPES = /\u001b(?:\[([0-9:;<=>?]*)[ -/]*([@-~])|\][^\u0007\u001b]{0,2048}(?:\u0007|\u001b\\)|[ -/]*[0-Z\\-~])/g;
const FLAGS: Readonly<Record<number, string>> = { 1: "bold", 2: "dim", 3: "italic", 4: "underline" };

function hex(red: number, green: number, blue: number): string {
  return `#${[red, green, blue].map((c) => Math.min(255, Math.max(0, c)).toString(16).padStart(2, "0")).join("")}`;
}

/** xterm's 256 colours: 16 of the theme, a 6x6x6 cube, 24 greys. */
function indexed(index: number): string | undefined {
  if (!(index >= 0 && index <= 255)) return undefined;
  if (index < 16) return String(index);
  if (index >= 232) return hex(8 + (index - 232) * 10, 8 + (index - 232) * 10, 8 + (index - 232) * 10);
  const level = (n: number) => (n === 0 ? 0 : 55 + n * 40);
  const cube = index - 16;
  return hex(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6));
}

function apply(style: Style, parameters: string): void {
  const codes = parameters === "" ? [0] : parameters.split(/[;:]/).map((code) => Number(code || "0"));
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i] ?? 0;
    if (code === 0) {
      style.flags.clear();
      delete style.fg;
      delete style.bg;
    } else if (FLAGS[code]) style.flags.add(FLAGS[code]);
    else if (code === 22) {
      style.flags.delete("bold");
      style.flags.delete("dim");
    } else if (code === 23) style.flags.delete("italic");
    else if (code === 24) style.flags.delete("underline");
    else if (code >= 30 && code <= 37) style.fg = String(code - 30);
    else if (code >= 90 && code <= 97) style.fg = String(code - 82);
    else if (code === 39) delete style.fg;
    else if (code >= 40 && code <= 47) style.bg = String(code - 40);
    else if (code >= 100 && code <= 107) style.bg = String(code - 92);
    else if (code === 49) delete style.bg;
    else if (code === 38 || code === 48) {
      let color: string | undefined;
      if (codes[i + 1] === 5) {
        color = indexed(codes[i + 2] ?? -1);
        i += 2;
      } else if (codes[i + 1] === 2) {
        color = hex(codes[i + 2] || 0, codes[i + 3] || 0, codes[i + 4] || 0);
        i += 4;
      }
      if (color !== undefined) style[code === 38 ? "fg" : "bg"] = color;
    }
  }
}

function run(text: string, style: Style): Run {
  const result: Run = { text, classes: [...style.flags].map((flag) => `ansi-${flag}`) };
  if (style.fg?.startsWith("#")) result.color = style.fg;
  else if (style.fg) result.classes.push(`ansi-fg-${style.fg}`);
  if (style.bg?.startsWith("#")) result.background = style.bg;
  else if (style.bg) result.classes.push(`ansi-bg-${style.bg}`);
  return result;
}

/** The text without any control sequence. */
export function stripAnsi(text: string): string {
  return text.includes("\u001b") ? text.replace(ESCAPES, "") : text;
}

export function parseAnsi(text: string): Run[] {
  if (!text.includes("\u001b")) return [{ text, classes: [] }];
  const runs: Run[] = [];
  const style: Style = { flags: new Set() };
  let from = 0;
  for (const match of text.matchAll(ESCAPES)) {
    if (match.index !== undefined && match.index > from) runs.push(run(text.slice(from, match.index), style));
    from = (match.index ?? 0) + match[0].length;
    if (match[2] === "m") apply(style, match[1] ?? "");
  }
  if (from < text.length) runs.push(run(text.slice(from), style));
  return runs;
}
