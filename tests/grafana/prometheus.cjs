// Grafana's Prometheus data source, its own code, against a server at KITTIWAKE_URL that has the
// samples of the test `grafana_asks_with_its_own_code`. What its front end asks through Grafana's
// proxy goes straight to the server; what it asks of Grafana's back end (/api/ds/query) is asked
// here as that back end does, and given back as data frames.

'use strict';

const assert = require('node:assert');
const Module = require('node:module');
const path = require('node:path');
const { JSDOM } = require('jsdom');

// The bundles expect a browser when they load.
const dom = new JSDOM('<!doctype html>', { url: 'http://localhost/', pretendToBeVisual: true });
for (const name of Object.getOwnPropertyNames(dom.window)) {
  if (!(name in globalThis)) globalThis[name] = dom.window[name];
}
globalThis.window = dom.window;
globalThis.self = dom.window;
dom.window.grafanaBootData = { user: {}, settings: {}, navTree: [] };
const idle = () => {};
const query = () => ({ matches: false, addListener: idle, addEventListener: idle });
globalThis.matchMedia = query;
dom.window.matchMedia = query;
// Node's events are not this window's, and nothing here waits for any.
dom.window.dispatchEvent = () => true;
class Observer {
  observe() {}
  unobserve() {}
  disconnect() {}
}
globalThis.ResizeObserver ??= Observer;
globalThis.IntersectionObserver ??= Observer;
dom.window.ResizeObserver ??= Observer;

// Styles, pictures and the editor of text are for bundlers.
for (const kind of ['.css', '.svg']) require.extensions[kind] = idle;
const load = Module._load;
const editor = { promLanguageDefinition: { id: 'promql' } };
Module._load = (name, ...rest) => (name.startsWith('monaco-') ? editor : load(name, ...rest));

const rxjs = require('rxjs');
const data = require('@grafana/data');
const runtime = require('@grafana/runtime');
const source = path.dirname(require.resolve('@grafana/prometheus'));
const { PrometheusDatasource } = require(path.join(source, 'datasource.cjs'));
const { PromApplication } = require(path.join(source, 'types.cjs'));

const base = process.env.KITTIWAKE_URL;
const UID = 'kittiwake';
const RESOURCES = `/api/datasources/uid/${UID}/resources/`;
const asked = new Set();

function form(params) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(params ?? {})) {
    if (value === undefined || value === null) continue;
    for (const one of [value].flat()) out.append(name, String(one));
  }
  return out;
}

/** Asks the server as Grafana's proxy would. */
function forward(request) {
  const url = request.url.replace(/^\/?/, '/');
  assert(url.startsWith(RESOURCES), url);
  const name = url.slice(RESOURCES.length);
  const isPost = request.method === 'POST';
  asked.add(`${request.method ?? 'GET'} ${name}`);
  const query = request.params ? `?${form(request.params)}` : '';
  return fetch(`${base}/${name}${query}`, {
    method: request.method ?? 'GET',
    body: isPost ? form(request.data) : undefined,
  });
}

async function proxied(request) {
  const response = await forward(request);
  const body = await response.json();
  const answer = { data: body, status: response.status, statusText: response.statusText, ok: response.ok };
  if (!response.ok) throw { ...answer, config: request };
  return answer;
}

async function prometheus(name, params) {
  asked.add(`POST ${name}`);
  const response = await fetch(`${base}/${name}`, { method: 'POST', body: form(params) });
  const body = await response.json();
  if (body.status !== 'success') throw new Error(`${params.query}: ${body.errorType}: ${body.error}`);
  return body;
}

function frame(refId, type, labels, pairs) {
  const name = labels.__name__;
  const values = [pairs.map(([t]) => t * 1000), pairs.map(([, v]) => Number(v))];
  return {
    schema: {
      refId,
      name,
      meta: { type, custom: { resultType: type.includes('multi') ? 'matrix' : 'vector' } },
      fields: [
        { name: 'Time', type: 'time' },
        { name: 'Value', type: 'number', labels },
      ],
    },
    data: { values },
  };
}

/** What Grafana's back end does with queries. */
async function backEnd(request) {
  const { queries, from, to } = request.data;
  const [start, end] = [Number(from) / 1000, Number(to) / 1000];
  const results = {};
  for (const one of queries) {
    const frames = [];
    try {
      if (one.range) {
        const step = Math.max(one.intervalMs, 1000) / 1000;
        const query = one.expr.replaceAll('$__rate_interval', '1m').replaceAll('$__interval', `${step}s`);
        const body = await prometheus('api/v1/query_range', { query, start, end, step });
        assert.strictEqual(body.data.resultType, 'matrix');
        for (const { metric, values } of body.data.result) {
          frames.push(frame(one.refId, 'timeseries-multi', metric, values));
        }
      }
      if (one.instant) {
        const body = await prometheus('api/v1/query', { query: one.expr, time: end });
        assert.strictEqual(body.data.resultType, 'vector');
        for (const { metric, value } of body.data.result) {
          frames.push(frame(one.refId, 'numeric-multi', metric, [value]));
        }
      }
      results[one.refId] = { status: 200, frames };
    } catch (error) {
      results[one.refId] = { status: 400, error: String(error.message) };
    }
  }
  return { data: { results }, status: 200, statusText: 'OK', ok: true };
}

/** The body piece by piece, for the search API's lines. */
function chunked(request) {
  return new rxjs.Observable((subscriber) => {
    (async () => {
      const response = await forward(request);
      const head = { status: response.status, statusText: response.statusText, ok: response.ok };
      for await (const piece of response.body) subscriber.next({ ...head, data: piece });
      subscriber.next({ ...head, data: undefined });
      subscriber.complete();
    })().catch((error) => subscriber.error(error));
  });
}

runtime.setBackendSrv({
  fetch: (request) =>
    rxjs.from(request.url.startsWith('/api/ds/query') ? backEnd(request) : proxied(request)),
  chunked,
});
const templates = {
  replace: (text) => text,
  containsTemplate: () => false,
  getVariables: () => [],
  getAdhocFilters: () => [],
  updateTimeRange: idle,
};
runtime.setTemplateSrv(templates);

function dataSource(options) {
  return new PrometheusDatasource(
    {
      id: 1,
      uid: UID,
      type: 'prometheus',
      name: 'Kittiwake',
      access: 'proxy',
      url: '/proxy',
      meta: { id: 'prometheus', info: {} },
      jsonData: {
        httpMethod: 'POST',
        prometheusType: PromApplication.Prometheus,
        prometheusVersion: process.env.PROMETHEUS_VERSION,
        ...options,
      },
    },
    templates,
  );
}

const to = data.dateTime(Number(process.env.END_MS));
const from = data.dateTime(to).subtract(1, 'hours');
const range = { from, to, raw: { from, to } };

/** Runs targets of a panel and gives the frames. */
async function panel(source, targets) {
  const request = {
    app: 'dashboard',
    requestId: 'Q1',
    targets: targets.map((target, index) => ({ refId: 'ABCDEF'[index], ...target })),
    range,
    rangeRaw: range.raw,
    interval: '15s',
    intervalMs: 15_000,
    maxDataPoints: 1000,
    scopedVars: {},
    timezone: 'utc',
    startTime: 0,
    panelId: 1,
  };
  const answer = await rxjs.lastValueFrom(source.query(request));
  assert(!answer.error && !answer.errors?.length, JSON.stringify(answer.errors ?? answer.error));
  return answer.data;
}

const texts = (found) => found.map((one) => one.text).sort();

async function asks(name, options) {
  const source = dataSource(options);
  await source.init();
  assert.strictEqual(source.exemplarsAvailable, true);
  const provider = source.languageProvider;
  await provider.start(range);
  assert(provider.retrieveMetrics().includes('requests_total'), `${name}: metrics`);
  assert(provider.retrieveHistogramMetrics().includes('took_seconds_bucket'), `${name}: histograms`);
  assert(provider.retrieveLabelKeys().includes('code'), `${name}: labels`);
  assert.strictEqual(provider.retrieveMetricsMetadata().requests_total?.type, 'counter');
  assert.strictEqual(provider.retrieveMetricsMetadata().requests_total?.help, 'Requests.');

  const codes = await provider.queryLabelValues(range, 'code', '{__name__="requests_total"}');
  assert.deepStrictEqual([...codes].sort(), ['200', '404', '500'], `${name}: values`);
  const dotted = await provider.queryLabelValues(range, 'service.name');
  assert.deepStrictEqual([...dotted], ['web ü'], `${name}: a name of UTF-8`);
  const keys = await source.getTagKeys({ filters: [], timeRange: range });
  assert(texts(keys).includes('service.name'));
  const filters = [{ key: 'code', operator: '=', value: '404' }];
  const values = await source.getTagValues({ key: 'path', filters, timeRange: range });
  assert.deepStrictEqual(texts(values), ['/missing']);

  const find = async (query) => texts(await source.metricFindQuery(query, { range }));
  assert.deepStrictEqual(await find('label_values(requests_total, path)'), ['/', '/fails', '/missing']);
  assert.deepStrictEqual(await find('label_values(code)'), ['200', '404', '500']);
  assert((await find('label_names()')).includes('path'));
  assert.deepStrictEqual(await find('metrics(requests.*)'), ['requests_total']);
  assert.strictEqual((await find('requests_total{code="500"}')).length, 1);
  const [told] = await find('query_result(sum by (code) (requests_total{code="500"}))');
  assert.match(told, /^\{code="500"\} 720 \d+$/, told);

  const [series] = await panel(source, [
    { expr: 'sum by (code) (rate(requests_total{code="200"}[$__rate_interval]))', range: true },
  ]);
  const [times, rates] = series.fields;
  assert.deepStrictEqual(rates.labels, { code: '200' });
  assert(times.values.length > 200, `${times.values.length} points`);
  assert(rates.values.slice(8).every((v) => Math.abs(v - 2) < 1e-9), `${rates.values.slice(0, 9)}`);
  const table = await panel(source, [
    { expr: 'sort_desc(requests_total)', instant: true, format: 'table' },
  ]);
  assert.strictEqual(table[0].length, 3);
  const heat = await panel(source, [
    { expr: 'sum by (le) (took_seconds_bucket)', range: true, format: 'heatmap' },
  ]);
  assert(heat[0].fields.length >= 3, 'a heatmap has a field a bucket');
  const hints = source.getQueryHints({ expr: 'requests_total' }, []);
  assert(hints.some((hint) => hint.type === 'APPLY_RATE'), JSON.stringify(hints));
}

(async () => {
  await asks('labels', {});
  await asks('labels with GET', { httpMethod: 'GET' });
  await asks('series', { seriesEndpoint: true });
  await asks('search', { enableSearchApi: true });
  console.log([...asked].sort().join('\n'));
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
