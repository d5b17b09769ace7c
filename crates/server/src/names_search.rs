//! Searching for names and values, for editors that complete them: `/api/v1/search/*`, each
//! answer a stream of JSON lines.

use std::cmp::Ordering;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{Matcher, MetricsStore as _, QueryContext, StoreError, TimeRange};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::fuzzy::{Filter, FuzzyKind};
use crate::params::Params;
use crate::prometheus_api::params;
use crate::reply::Problem;
use crate::series_api::series_selectors;
use crate::targets_api::parse_bool;

const LIMIT_DEFAULT: usize = 100;
const BATCH_DEFAULT: usize = 100;
/// What the parameter `limit` may be at most.
const LIMIT_MAX: usize = 10_000;
const TERMS_MAX: usize = 32;
/// How far back is searched unless said, in ms.
const BACK_MS: i64 = 3_600_000;

struct Search {
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
    filter: Option<Filter>,
    by_score: bool,
    is_descending: bool,
    with_score: bool,
    limit: usize,
    batch: usize,
}

fn flag(params: &Params, name: &str, default: bool) -> Result<bool, Problem> {
    let Some(text) = params.get(name) else {
        return Ok(default);
    };
    parse_bool(text)
        .ok_or_else(|| Problem::bad_data(format!("invalid {name} {text:?}: must be boolean")))
}

fn positive(params: &Params, name: &str, default: usize) -> Result<usize, Problem> {
    let Some(text) = params.get(name) else {
        return Ok(default);
    };
    let number = text.parse::<usize>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        Problem::bad_data(format!(
            "invalid {name} {text:?}: must be a positive integer"
        ))
    })
}

impl Search {
    fn of(params: &Params, now_ms: i64, what: &str) -> Result<Self, Problem> {
        let bad = |text: String| Err(Problem::bad_data(text));
        let range = TimeRange::new(
            params.time_ms("start")?.unwrap_or(now_ms - BACK_MS),
            params.time_ms("end")?.unwrap_or(now_ms),
        );
        if range.is_empty() {
            return bad("end timestamp must not be before start timestamp".to_owned());
        }
        let terms: Vec<&str> = params.all_given("search[]").collect();
        if terms.len() > TERMS_MAX {
            return bad(format!(
                "too many search[] terms: got {}, maximum is {TERMS_MAX}",
                terms.len()
            ));
        }
        let threshold = match params.get("fuzz_threshold") {
            None => 0,
            Some(text) => match text.parse::<u8>() {
                Ok(threshold) if threshold <= 100 => threshold,
                _ => return bad(format!("invalid fuzz_threshold {text:?}: must be 0-100")),
            },
        };
        let kind = match params.get("fuzz_alg") {
            None | Some("subsequence") => FuzzyKind::Subsequence,
            Some("jarowinkler") => FuzzyKind::JaroWinkler,
            Some(other) => {
                return bad(format!(
                    "unsupported fuzz_alg {other:?}: must be one of [subsequence jarowinkler]"
                ));
            }
        };
        let is_case_sensitive = flag(params, "case_sensitive", true)?;
        let with_score = flag(params, "include_score", false)?;
        let (by, direction) = (params.get("sort_by"), params.get("sort_dir"));
        match (by, direction) {
            (None, Some(_)) => {
                return bad("sort_dir is only valid when sort_by is set".to_owned());
            }
            (Some("score"), Some(_)) => {
                return bad("sort_dir is not supported for sort_by=score".to_owned());
            }
            (Some("score"), None) if terms.is_empty() => {
                return bad("sort_by=score requires search[] to be set".to_owned());
            }
            (_, Some(other)) if other != "asc" && other != "dsc" => {
                return bad(format!(
                    "invalid sort_dir {other:?}: must be \"asc\" or \"dsc\""
                ));
            }
            (Some(other), _) if other != "alpha" && other != "score" => {
                return bad(format!(
                    "invalid sort_by {other:?} for {what}: must be \"alpha\" or \"score\""
                ));
            }
            _ => {}
        }
        let limit = positive(params, "limit", LIMIT_DEFAULT)?;
        if limit > LIMIT_MAX {
            return bad(format!(
                "limit {limit} exceeds the configured maximum ({LIMIT_MAX}, see --web.search.max-limit)"
            ));
        }
        Ok(Self {
            selectors: series_selectors(params)?,
            range,
            filter: Filter::new(
                &terms,
                f64::from(threshold) / 100.0,
                kind,
                is_case_sensitive,
            ),
            by_score: by == Some("score"),
            is_descending: direction == Some("dsc"),
            with_score,
            limit,
            batch: positive(params, "batch_size", BATCH_DEFAULT)?,
        })
    }

    /// What fits, with its score, in order; and whether there is more.
    fn pick(&self, all: Vec<String>) -> (Vec<(String, f64)>, bool) {
        let score = |text: &str| match &self.filter {
            None => Some(1.0),
            Some(filter) => filter.score(text),
        };
        let mut found: Vec<(String, f64)> = all
            .into_iter()
            .filter_map(|text| score(&text).map(|score| (text, score)))
            .collect();
        found.sort_by(|a, b| {
            if self.by_score {
                b.1.partial_cmp(&a.1)
                    .unwrap_or(Ordering::Equal)
                    .then_with(|| a.0.cmp(&b.0))
            } else if self.is_descending {
                b.0.cmp(&a.0)
            } else {
                a.0.cmp(&b.0)
            }
        });
        let has_more = found.len() > self.limit;
        found.truncate(self.limit);
        (found, has_more)
    }

    /// The lines of an answer; `more` adds fields to a result.
    fn lines(
        &self,
        all: Vec<String>,
        field: &str,
        more: impl Fn(&str, &mut Map<String, Value>),
    ) -> String {
        let (found, has_more) = self.pick(all);
        let mut out = String::new();
        let mut batches = found.chunks(self.batch).peekable();
        if batches.peek().is_none() {
            out.push_str("{\"results\":[]}\n");
        }
        for batch in batches {
            let results = batch.iter().map(|(text, score)| {
                let mut result = Map::new();
                result.insert(field.to_owned(), Value::from(text.as_str()));
                if self.with_score {
                    result.insert("score".to_owned(), Value::from(*score));
                }
                more(text, &mut result);
                Value::Object(result)
            });
            let results: Vec<Value> = results.collect();
            out.push_str(&json!({ "results": results }).to_string());
            out.push('\n');
        }
        out.push_str(&json!({ "status": "success", "has_more": has_more }).to_string());
        out.push('\n');
        out
    }
}

fn answer(lines: String) -> Response {
    let kind = "application/x-ndjson; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], lines).into_response()
}

/// `/api/v1/search/metric_names`
pub async fn metric_names(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    let search = Search::of(&params, app.now_ms(), "metric_names")?;
    let with_metadata = flag(&params, "include_metadata", false)?;
    let store = app.metrics.clone();
    let find = move |context: &QueryContext| -> Result<String, Problem> {
        let all = store.label_values(METRIC_NAME, &search.selectors, search.range, context)?;
        let metadata = if with_metadata {
            store.metadata(None, context)?
        } else {
            Vec::new()
        };
        Ok(search.lines(all, "name", |name, result| {
            let at = metadata.binary_search_by(|(known, _)| known.as_str().cmp(name));
            let said = at.ok().and_then(|at| metadata[at].1.first());
            let Some(said) = said else { return };
            for (field, value) in [
                ("type", &said.kind),
                ("help", &said.help),
                ("unit", &said.unit),
            ] {
                if !value.is_empty() {
                    result.insert(field.to_owned(), Value::from(value.as_str()));
                }
            }
        }))
    };
    Ok(answer(app.queries.run(None, find).await?))
}

/// `/api/v1/search/label_names`
pub async fn label_names(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    let search = Search::of(&params, app.now_ms(), "label_names")?;
    let store = app.metrics.clone();
    names(&app, search, "name", move |search, context| {
        store.label_names(&search.selectors, search.range, context)
    })
    .await
}

/// `/api/v1/search/label_values`
pub async fn label_values(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    let search = Search::of(&params, app.now_ms(), "label_values")?;
    let label = params
        .get("label")
        .ok_or_else(|| Problem::bad_data("missing required parameter \"label\""))?
        .to_owned();
    let store = app.metrics.clone();
    names(&app, search, "value", move |search, context| {
        store.label_values(&label, &search.selectors, search.range, context)
    })
    .await
}

async fn names(
    app: &App,
    search: Search,
    field: &'static str,
    find: impl FnOnce(&Search, &QueryContext) -> Result<Vec<String>, StoreError> + Send + 'static,
) -> Result<Response, Problem> {
    let find = move |context: &QueryContext| -> Result<String, Problem> {
        let all = find(&search, context)?;
        Ok(search.lines(all, field, |_, _| {}))
    };
    Ok(answer(app.queries.run(None, find).await?))
}
