//! What there is: series, labels, metadata and exemplars, under `/api/v1`.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use kittiwake_model::{
    Labels, Matcher, Metadata, MetricsStore as _, QueryContext, StoreError, TimeRange,
};
use kittiwake_promql as promql;

use crate::app::App;
use crate::params::{InPath, Params};
use crate::prometheus_api::{params, timeout};
use crate::reply::{
    Problem, TRUNCATED, push_json_labels, push_json_str, push_json_strs, success, success_noted,
};

/// The selectors of a parameter that may come several times.
pub fn selectors(params: &Params, name: &'static str) -> Result<Vec<Vec<Matcher>>, Problem> {
    params
        .all_given(name)
        .map(|text| {
            promql::parse_selector(text)
                .map_err(|e| Problem::bad_data(format!("invalid parameter {name:?}: {e}")))
        })
        .collect()
}

/// The selectors of `match[]`, each with a matcher that a missing label does not pass: all series
/// are meant by none at all.
pub fn series_selectors(params: &Params) -> Result<Vec<Vec<Matcher>>, Problem> {
    let selectors = selectors(params, "match[]")?;
    if selectors
        .iter()
        .any(|s| s.iter().all(Matcher::matches_empty))
    {
        return Err(Problem::bad_data(
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ));
    }
    Ok(selectors)
}

/// The range of time that is asked for; all of it unless said.
pub fn range(params: &Params) -> Result<TimeRange, Problem> {
    let range = TimeRange::new(
        params.time_ms("start")?.unwrap_or(i64::MIN),
        params.time_ms("end")?.unwrap_or(i64::MAX),
    );
    if range.is_empty() {
        return Err(Problem::bad_data(
            "end timestamp must not be before start timestamp",
        ));
    }
    Ok(range)
}

/// How many at most; 0 is no limit.
pub fn limit(params: &Params) -> Result<usize, Problem> {
    Ok(params.number("limit")?.unwrap_or(0))
}

/// `/api/v1/series`
pub async fn series(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let selectors = series_selectors(&params)?;
    if selectors.is_empty() {
        return Err(Problem::bad_data("no match[] parameter provided"));
    }
    let (limit, range) = (limit(&params)?, range(&params)?);
    let store = app.metrics.clone();
    let find = move |context: &_| {
        let most = if limit == 0 {
            0
        } else {
            limit.saturating_add(1)
        };
        let mut found = store.series(&selectors, range, most, context)?;
        let is_cut = limit > 0 && found.len() > limit;
        if is_cut {
            found.truncate(limit);
        }
        let mut out = String::from("[");
        for (index, labels) in found.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_json_labels(&mut out, labels);
        }
        out.push(']');
        Ok((out, is_cut))
    };
    let (data, is_cut) = app.queries.run(timeout(&params)?, find).await?;
    Ok(noted(&data, is_cut))
}

fn noted(data: &str, is_cut: bool) -> Response {
    let warnings = is_cut.then(|| TRUNCATED.to_owned());
    success_noted(data, warnings.as_slice(), &[])
}

/// `/api/v1/labels`
pub async fn labels(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let (selectors, range) = (series_selectors(&params)?, range(&params)?);
    let store = app.metrics.clone();
    names(&app, &params, move |context| {
        store.label_names(&selectors, range, context)
    })
    .await
}

/// `/api/v1/label/{name}/values`
pub async fn label_values(
    State(app): State<App>,
    InPath(name): InPath,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    // Names with characters of old are given as they are, others escaped with `U__`.
    let name = unescape_name(&name);
    if name.is_empty() {
        return Err(Problem::bad_data("invalid label name: \"\""));
    }
    let (selectors, range) = (series_selectors(&params)?, range(&params)?);
    let store = app.metrics.clone();
    names(&app, &params, move |context| {
        store.label_values(&name, &selectors, range, context)
    })
    .await
}

async fn names(
    app: &App,
    params: &Params,
    find: impl FnOnce(&QueryContext) -> Result<Vec<String>, StoreError> + Send + 'static,
) -> Result<Response, Problem> {
    let limit = limit(params)?;
    let find = move |context: &_| {
        let mut found = find(context)?;
        let is_cut = limit > 0 && found.len() > limit;
        if is_cut {
            found.truncate(limit);
        }
        let mut out = String::new();
        push_json_strs(&mut out, found);
        Ok((out, is_cut))
    };
    let (data, is_cut) = app.queries.run(timeout(params)?, find).await?;
    Ok(noted(&data, is_cut))
}

/// Prometheus' escaping of names: `U__` in front, `_xHH_` for a character, `__` for `_`.
pub fn unescape_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else {
        return name.to_owned();
    };
    let mut out = String::new();
    let mut rest = rest;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let Some((code, after)) = rest.split_once('_') else {
            return name.to_owned();
        };
        match u32::from_str_radix(code, 16).ok().and_then(char::from_u32) {
            Some(c) => out.push(c),
            None => return name.to_owned(),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A limit that may be 0 for none at all, as the metadata APIs have it; `None` is no limit.
fn strict_limit(params: &Params, name: &str) -> Result<Option<usize>, Problem> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    let number: i64 = text
        .parse()
        .map_err(|_| Problem::bad_data(format!("{name} must be a number")))?;
    Ok(usize::try_from(number).ok())
}

/// `/api/v1/metadata`
pub async fn metadata(State(app): State<App>, request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let limit = strict_limit(&params, "limit")?;
    let per_metric = strict_limit(&params, "limit_per_metric")?.filter(|limit| *limit > 0);
    let metric = params.get("metric").map(str::to_owned);
    let store = app.metrics.clone();
    let find = move |context: &_| {
        let found = store.metadata(metric.as_deref(), context)?;
        let mut out = String::from("{");
        for (index, (name, said)) in found.iter().take(limit.unwrap_or(usize::MAX)).enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_json_str(&mut out, name);
            out.push_str(":[");
            let said = said.iter().take(per_metric.unwrap_or(usize::MAX));
            for (index, metadata) in said.enumerate() {
                out.push_str(if index > 0 { ",{" } else { "{" });
                push_metadata(&mut out, metadata);
                out.push('}');
            }
            out.push(']');
        }
        out.push('}');
        Ok(out)
    };
    let data = app.queries.run(None, find).await?;
    Ok(success(&data))
}

/// Appends the fields of what is said of a metric.
pub fn push_metadata(out: &mut String, metadata: &Metadata) {
    for (index, (name, value)) in [
        ("type", &metadata.kind),
        ("help", &metadata.help),
        ("unit", &metadata.unit),
    ]
    .into_iter()
    .enumerate()
    {
        if index > 0 {
            out.push(',');
        }
        push_json_str(out, name);
        out.push(':');
        push_json_str(out, value);
    }
}

/// Appends exemplars of series as `/api/v1/query_exemplars` gives them.
pub fn push_exemplars(out: &mut String, found: &[(Labels, Vec<kittiwake_model::Exemplar>)]) {
    out.push('[');
    let with_some = found.iter().filter(|(_, exemplars)| !exemplars.is_empty());
    for (index, (labels, exemplars)) in with_some.enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        out.push_str(r#"{"seriesLabels":"#);
        push_json_labels(out, labels);
        out.push_str(r#","exemplars":["#);
        for (index, exemplar) in exemplars.iter().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            out.push_str(r#"{"labels":"#);
            push_json_labels(out, &exemplar.labels);
            out.push_str(r#","value":""#);
            crate::reply::push_value(out, exemplar.value);
            out.push_str(r#"","timestamp":"#);
            crate::reply::push_seconds(out, exemplar.time_ms);
            out.push('}');
        }
        out.push_str("]}");
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_come_back() {
        assert_eq!(unescape_name("job"), "job");
        assert_eq!(unescape_name("U__http_2e_status"), "http.status");
        assert_eq!(unescape_name("U__a__b"), "a_b");
        assert_eq!(unescape_name("U__a_zz_"), "U__a_zz_");
    }
}
