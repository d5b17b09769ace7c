//! What is scraped and how that goes, under `/api/v1`; and, until there are some, the empty
//! lists of rules, alerts and Alertmanagers.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use kittiwake_config::{Action, RelabelConfig, ScrapeConfig, apply};
use kittiwake_model::{Labels, LabelsBuilder, Matcher};
use kittiwake_sources::scrape::{ActiveTarget, Pool};
use kittiwake_wire::time::push_rfc3339;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::params::Params;
use crate::prometheus_api::params;
use crate::reply::{Problem, success, success_noted};
use crate::series_api::selectors;

/// The time of something that has not been yet, as Go writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn pools(app: &App) -> BTreeMap<String, Pool> {
    let embedded = app.nodes.embedded();
    embedded.map_or_else(BTreeMap::new, |status| status.targets().pools())
}

/// A time in ms as JSON has it.
pub fn rfc3339(time_ms: i64) -> String {
    if time_ms == 0 {
        return NEVER.to_owned();
    }
    let mut text = String::new();
    push_rfc3339(&mut text, time_ms.saturating_mul(1_000_000));
    text
}

fn object(labels: &Labels) -> Value {
    let pairs = labels.iter().map(|(n, v)| (n.to_owned(), Value::from(v)));
    Value::Object(pairs.collect())
}

/// `/api/v1/scrape_pools`
pub async fn scrape_pools(State(app): State<App>) -> Response {
    let names: Vec<String> = pools(&app).into_keys().collect();
    success(&json!({ "scrapePools": names }).to_string())
}

/// `/api/v1/targets`
pub async fn targets(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let state = params.get("state").unwrap_or("any").to_ascii_lowercase();
    let shows = |kind: &str| state == "any" || state == kind;
    let all = pools(&app);
    let wanted = params.get("scrapePool");
    let mut pools: Vec<(&String, &Pool)> = all.iter().collect();
    pools.retain(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
    let mut data = Map::new();
    let mut active = Vec::new();
    let mut dropped = Vec::new();
    for (name, pool) in pools {
        if shows("active") {
            active.extend(pool.active.iter().map(|target| active_target(name, target)));
        }
        if shows("dropped") {
            dropped.extend(
                pool.dropped.iter().map(
                    |discovered| json!({ "discoveredLabels": discovered, "scrapePool": name }),
                ),
            );
        }
    }
    let counts = all.iter().map(|(name, pool)| (name, pool.dropped.len()));
    let counts: BTreeMap<_, _> = counts.filter(|_| shows("dropped")).collect();
    data.insert("activeTargets".to_owned(), Value::Array(active));
    data.insert("droppedTargets".to_owned(), Value::Array(dropped));
    data.insert("droppedTargetCounts".to_owned(), json!(counts));
    // A pool without targets says why, where that is known.
    let config = app.config.now().config;
    let jobs = config.scrape_configs.iter();
    let jobs = jobs.filter(|job| wanted.is_none_or(|wanted| wanted == job.job_name));
    let warnings: Vec<String> = jobs
        .flat_map(|job| {
            let sections: BTreeSet<&str> = job.other_sd_configs.iter().map(|o| o.section).collect();
            let name = &job.job_name;
            sections.into_iter().map(move |section| {
                format!("scrape pool {name:?}: {section} finds no targets, it is not supported yet")
            })
        })
        .collect();
    Ok(success_noted(
        &Value::Object(data).to_string(),
        &warnings,
        &[],
    ))
}

fn active_target(pool: &str, target: &ActiveTarget) -> Value {
    let last = target.last();
    let health = match (last.time_ms, last.error.is_empty()) {
        (0, _) => "unknown",
        (_, true) => "up",
        (_, false) => "down",
    };
    json!({
        "discoveredLabels": target.discovered,
        "labels": object(&target.labels),
        "scrapePool": pool,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": last.error,
        "lastScrape": rfc3339(last.time_ms),
        "lastScrapeDuration": last.seconds,
        "health": health,
        "scrapeInterval": target.interval,
        "scrapeTimeout": target.timeout,
    })
}

/// `/api/v1/targets/metadata`
pub async fn metadata(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let limit = match params.get("limit") {
        Some(text) => {
            let number: i64 = text
                .parse()
                .map_err(|_| Problem::bad_data("limit must be a number"))?;
            usize::try_from(number).unwrap_or(usize::MAX)
        }
        None => usize::MAX,
    };
    let matchers: Vec<Matcher> = selectors(&params, "match_target")?
        .into_iter()
        .next()
        .unwrap_or_default();
    let metric = params.get("metric");
    let mut found = Vec::new();
    'all: for pool in pools(&app).into_values() {
        for target in &pool.active {
            let matches = |m: &Matcher| m.matches(target.labels.get(m.name()).unwrap_or(""));
            if !matchers.iter().all(matches) {
                continue;
            }
            for (name, said) in target.metadata() {
                if metric.is_some_and(|metric| metric != name) {
                    continue;
                }
                if found.len() >= limit {
                    break 'all;
                }
                let mut one = json!({
                    "target": object(&target.labels),
                    "type": said.kind,
                    "help": said.help,
                    "unit": said.unit,
                });
                if metric.is_none() {
                    one["metric"] = Value::from(name);
                }
                found.push(one);
            }
        }
    }
    Ok(success(&Value::Array(found).to_string()))
}

fn pool_config<'c>(
    params: &Params,
    configs: &'c [ScrapeConfig],
) -> Result<&'c ScrapeConfig, Problem> {
    let pool = params
        .get("scrapePool")
        .ok_or_else(|| Problem::bad_data("no scrapePool parameter provided"))?;
    let found = configs.iter().find(|job| job.job_name == pool);
    found.ok_or_else(|| {
        Problem::bad_data(format!(
            "error retrieving scrape config: scrape pool {pool:?} not found"
        ))
    })
}

/// `/api/v1/scrape_pools/config`
pub async fn scrape_pool_config(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    let loaded = app.config.now();
    let job = pool_config(&params, &loaded.config.scrape_configs)?;
    let yaml = kittiwake_config::job_without_secrets(&loaded.shown, &job.job_name);
    Ok(success(&json!({ "yaml": yaml }).to_string()))
}

/// `/api/v1/targets/relabel_steps`: what each rule of a job makes of a target's labels.
pub async fn relabel_steps(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    if params.get("scrapePool").is_none() {
        return Err(Problem::bad_data("no scrapePool parameter provided"));
    }
    let text = params
        .get("labels")
        .ok_or_else(|| Problem::bad_data("no labels parameter provided"))?;
    let pairs: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|e| Problem::bad_data(format!("error parsing labels: {e}")))?;
    let loaded = app.config.now();
    let job = pool_config(&params, &loaded.config.scrape_configs)?;
    let mut labels = LabelsBuilder::new();
    for (name, value) in &pairs {
        labels.set(name, value);
    }
    let mut kept = Some(labels);
    let mut steps = Vec::new();
    for rule in &job.relabel_configs {
        kept = kept.and_then(|labels| apply(std::slice::from_ref(rule), labels));
        let output: BTreeMap<&str, &str> = kept
            .iter()
            .flat_map(LabelsBuilder::iter)
            .filter(|(_, value)| !value.is_empty())
            .collect();
        steps.push(json!({
            "rule": rule_json(rule),
            "output": output,
            "keep": kept.is_some(),
        }));
    }
    Ok(success(&json!({ "steps": steps }).to_string()))
}

/// A rule as its fields; those that say nothing are left out.
fn rule_json(rule: &RelabelConfig) -> Value {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    if !rule.source_labels.is_empty() {
        set("source_labels", json!(rule.source_labels));
    }
    set("separator", Value::from(rule.separator.as_str()));
    set("regex", Value::from(rule.pattern()));
    if rule.modulus > 0 {
        set("modulus", Value::from(rule.modulus));
    }
    for (name, text) in [
        ("target_label", &rule.target_label),
        ("replacement", &rule.replacement),
    ] {
        if !text.is_empty() {
            set(name, Value::from(text.as_str()));
        }
    }
    let mut actions = Action::ALL.iter();
    if let Some((name, _)) = actions.find(|(_, action)| *action == rule.action) {
        set("action", Value::from(*name));
    }
    Value::Object(fields)
}

/// A truth value as Go reads it.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
