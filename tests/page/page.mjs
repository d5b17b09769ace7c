// The page in Chromium, against a real server and a real container. Says how long each thing
// took to be seen. Wants KITTIWAKE_URL, DOCKER_HOST and CHROMIUM (the browser's path).
import { execFileSync } from "node:child_process";
import { chromium } from "playwright-core";

const url = process.env.KITTIWAKE_URL;
// A name is looked up as a shell does.
const executablePath = process.env.CHROMIUM && execFileSync("sh", ["-c", 'command -v "$CHROMIUM"'], { encoding: "utf8" }).trim();
if (!url || !executablePath) throw new Error("KITTIWAKE_URL and CHROMIUM must be set");

const name = `page-${process.pid}`;
// Nothing here may take longer: two collections of 5 s, and time for a busy machine.
const PATIENCE_MS = 60_000;

const docker = (...words) => execFileSync("docker", words, { encoding: "utf8" });

const started = Date.now();
const seen = (what) => console.log(`${what}: seen after ${((Date.now() - started) / 1000).toFixed(1)} s`);

// What was there when it failed: the page's text, and what the server and Docker say.
async function tell() {
  const shown = await browser.contexts()[0]?.pages()[0]?.locator("body").innerText().catch(String);
  console.log(`the page shows:\n${shown?.slice(0, 2_000)}`);
  const query = new URLSearchParams({ query: `{container="${name}"}`, limit: "3" });
  const answer = await fetch(`${url}loki/api/v1/query_range?${query}`).then((r) => r.text(), String);
  console.log(`the server answers:\n${answer}`);
  try {
    console.log(`the container says:\n${docker("logs", "--tail", "3", "--timestamps", name)}`);
  } catch (error) {
    console.log(`the container says nothing: ${error}`);
  }
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(url);

  const script = 'i=0; while true; do echo "hello $i of the page test"; i=$((i+1)); j=0; while [ $j -lt 20000 ]; do j=$((j+1)); done; done';
  docker("run", "-d", "--name", name, "--network=none", "busybox:local", "sh", "-c", script);

  const row = page.locator(`[data-testid=container-row][data-name="${name}"]`);
  await row.waitFor({ timeout: PATIENCE_MS });
  seen("the container's name");

  await page.waitForFunction(
    (name) => {
      const row = document.querySelector(`[data-testid=container-row][data-name="${name}"]`);
      const cpu = row?.querySelector("[data-testid=cpu]")?.getAttribute("data-value");
      return Number(cpu) > 0;
    },
    name,
    { timeout: PATIENCE_MS },
  );
  seen("its CPU above 0");

  const host = await row.getAttribute("data-host");
  await page.goto(`${url}#/container/${encodeURIComponent(host)}/${name}`);
  await page.locator("[data-testid=container-detail]").waitFor({ timeout: PATIENCE_MS });
  const line = page.locator("[data-testid=log-line]", { hasText: "of the page test" }).first();
  await line.waitFor({ timeout: PATIENCE_MS });
  const numberOf = (text) => Number(/hello (\d+) of/.exec(text ?? "")?.[1] ?? -1);
  const first = numberOf(await line.textContent());
  await page.waitForFunction(
    (first) =>
      [...document.querySelectorAll("[data-testid=log-line]")].some(
        (line) => Number(/hello (\d+) of/.exec(line.textContent ?? "")?.[1] ?? -1) > first,
      ),
    first,
    { timeout: PATIENCE_MS },
  );
  seen("a new line of its log");

  await page.goto(`${url}#/logs?q=${encodeURIComponent("of the page test")}`);
  await page.locator("[data-testid=log-line]", { hasText: "of the page test" }).first().waitFor({ timeout: PATIENCE_MS });
  seen("a line by searching");

  const banners = await page.locator("[data-testid=error-banner]").count();
  if (banners > 0) throw new Error("the page shows an error");
  if (errors.length > 0) throw new Error(`the page reports: ${errors.join("; ")}`);
  console.log("page test: ok");
} catch (error) {
  await tell();
  throw error;
} finally {
  try {
    docker("rm", "-f", name);
  } catch {
    // It was never started; that error is the one that is shown.
  }
  await browser.close();
}
