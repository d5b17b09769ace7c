//! `/loki/api/v1/detected_fields` and the values of one field.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::{Request, State};
use kittiwake_logql::{Expr, FieldFinder, LineQuery, Window};
use kittiwake_model::{Direction, QueryContext};

use crate::app::App;
use crate::loki_api::{Answer, HOUR_NS, LINES_MAX, eval_problem, parse, range};
use crate::params::{InPath, Params};
use crate::prometheus_api::params;
use crate::reply::{Problem, json, push_json_str, push_json_strs};

/// Lines that are looked at, and fields or values in an answer, without limits in the request.
const LINES: usize = 100;
const FIELDS: usize = 1000;
/// Fields of an answer at most.
const FIELDS_MAX: usize = 10_000;

/// What is found in the newest lines, with the limit of fields.
async fn found(app: &App, params: &Params) -> Result<(FieldFinder, usize), Problem> {
    let Expr::Log(expr) = parse(params.get("query").unwrap_or(""))? else {
        return Err(Problem::bad_data("only log selector is supported"));
    };
    let (start_ns, end_ns) = range(app, params, HOUR_NS)?;
    let lines = params.number("line_limit")?.unwrap_or(LINES);
    if lines > LINES_MAX {
        return Err(Problem::bad_data(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({lines} > {LINES_MAX})"
        )));
    }
    let limit = match params.number("limit")? {
        Some(limit) => limit,
        None => params.number("field_limit")?.unwrap_or(FIELDS),
    };
    let limit = limit.min(FIELDS_MAX);
    let window = Window {
        start_ns,
        end_ns,
        direction: Direction::Backward,
        limit: lines.max(1),
        interval_ns: 0,
    };
    let store = app.logs.clone();
    let find = move |context: &QueryContext| {
        let streams = LineQuery::new(&expr)
            .and_then(|query| query.run(store.as_ref(), &window, context))
            .map_err(eval_problem)?;
        let mut finder = FieldFinder::new(limit).map_err(Problem::internal)?;
        for line in streams.iter().flat_map(|s| &s.lines) {
            finder.add(line);
        }
        Ok(finder)
    };
    Ok((app.queries.run(None, find).await?, limit))
}

/// `/loki/api/v1/detected_fields`
pub async fn fields(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let (finder, limit) = found(&app, &params).await?;
    let mut out = String::from(r#"{"fields":["#);
    for (index, (name, field)) in finder.fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(r#"{"label":"#);
        push_json_str(&mut out, name);
        let (kind, count) = (field.kind, field.values.len());
        // Writing to a string cannot fail.
        let _ = write!(out, r#","type":"{kind}","cardinality":{count},"parsers":"#);
        if field.parsers.is_empty() {
            out.push_str("null");
        } else {
            push_json_strs(&mut out, &field.parsers);
        }
        if !field.json_path.is_empty() {
            out.push_str(r#","jsonPath":"#);
            push_json_strs(&mut out, &field.json_path);
        }
        out.push('}');
    }
    let _ = write!(out, r#"],"limit":{limit}}}"#);
    Ok(json(out))
}

/// `/loki/api/v1/detected_field/{name}/values`
pub async fn values(
    State(app): State<App>,
    InPath(name): InPath,
    request: Request<Body>,
) -> Answer {
    let params = params(request).await?;
    let (finder, limit) = found(&app, &params).await?;
    let none = BTreeSet::new();
    let values = finder.fields.get(&name).map_or(&none, |f| &f.values);
    let mut out = String::from(r#"{"values":"#);
    push_json_strs(&mut out, values.iter().take(limit));
    let _ = write!(out, r#","limit":{limit}}}"#);
    Ok(json(out))
}
