// Bundles the page into dist/, or (--tests) each test file into build/tests/.
// File names under dist/assets/ carry a hash of their content, so the server
// may let browsers keep them for ever; index.html is the only name that stays.
import { context, build } from "esbuild";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL(".", import.meta.url));
const dist = join(root, "dist");

const page = {
  absWorkingDir: root,
  entryPoints: { app: "src/main.tsx", style: "src/app.css", favicon: "static/favicon.svg" },
  entryNames: "[name]-[hash]",
  outdir: join(dist, "assets"),
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".svg": "copy" },
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
  plugins: [{ name: "index", setup: (b) => b.onEnd(writeIndex) }],
};

async function writeIndex(result) {
  if (result.errors.length > 0) return;
  const outputs = Object.keys(result.metafile.outputs).map((path) => basename(path));
  let html = await readFile(join(root, "static/index.html"), "utf8");
  for (const [mark, ending] of [["app", ".js"], ["style", ".css"], ["favicon", ".svg"]]) {
    const name = outputs.find((file) => file.startsWith(`${mark}-`) && file.endsWith(ending));
    if (!name) throw new Error(`the bundle holds no ${mark}${ending}`);
    html = html.replace(`{{${mark}}}`, `./assets/${name}`);
  }
  await mkdir(dist, { recursive: true });
  await writeFile(join(dist, "index.html"), html);
  for (const [path, { bytes }] of Object.entries(result.metafile.outputs)) {
    console.log(`${String(bytes).padStart(8)}  ${path}`);
  }
}

async function buildTests() {
  const outdir = join(root, "build/tests");
  await rm(outdir, { recursive: true, force: true });
  const files = (await readdir(join(root, "test"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    absWorkingDir: root,
    entryPoints: files.map((name) => `test/${name}`),
    outdir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: ["node18"],
    sourcemap: "inline",
    logLevel: "warning",
  });
}

if (process.argv.includes("--tests")) {
  await buildTests();
} else {
  await rm(dist, { recursive: true, force: true });
  if (process.argv.includes("--watch")) {
    await (await context(page)).watch();
  } else {
    await build(page);
  }
}
