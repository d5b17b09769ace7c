//! `/loki/api/v1/patterns`: the shapes of lines over time, found in the lines themselves.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use axum::body::Body;
use axum::extract::{Request, State};
use kittiwake_logql::patterns::{Pattern, PatternFinder};
use kittiwake_logql::{Expr, LineQuery, Window, level};
use kittiwake_model::{Direction, QueryContext, each_entry};

use crate::app::App;
use crate::loki_api::{Answer, HOUR_NS, eval_problem, parse, range, step_ms};
use crate::prometheus_api::params;
use crate::reply::{Problem, push_json_str, success};

/// `/loki/api/v1/patterns`
pub async fn patterns(State(app): State<App>, request: Request<Body>) -> Answer {
    let params = params(request).await?;
    let Expr::Log(expr) = parse(params.get("query").unwrap_or(""))? else {
        return Err(Problem::bad_data("only log queries have patterns").into());
    };
    let (start_ns, end_ns) = range(&app, &params, HOUR_NS)?;
    let step_ns = step_ms(&params, start_ns, end_ns)?.saturating_mul(1_000_000);
    let query = LineQuery::new(&expr).map_err(eval_problem)?;
    let store = app.logs.clone();
    let find = move |context: &QueryContext| {
        let window = Window {
            start_ns,
            end_ns,
            direction: Direction::Forward,
            limit: 0,
            interval_ns: 0,
        };
        let mut scan = query.scan(&window);
        scan.ordered = false;
        let mut finder = PatternFinder::new(step_ns);
        each_entry(store.as_ref(), &scan, context, |batch, index| {
            let entry = &batch.entries[index];
            if let Some((_, line)) = query.show(batch.labels(index), entry) {
                let level = entry.metadata.get(level::LEVEL).unwrap_or_default();
                finder.add(line.time_ns, level, &line.text);
            }
            ControlFlow::Continue(())
        })?;
        Ok(shown(&finder.patterns()))
    };
    Ok(success(&app.queries.run(None, find).await?))
}

/// `[{"pattern":"…","level":"…","samples":[[s,count],…]},…]`
fn shown(patterns: &[Pattern]) -> String {
    let mut out = String::from("[");
    for pattern in patterns {
        out.push_str(if out.len() > 1 { "," } else { "" });
        out.push_str(r#"{"pattern":"#);
        push_json_str(&mut out, &pattern.text);
        out.push_str(r#","level":"#);
        push_json_str(&mut out, &pattern.level);
        out.push_str(r#","samples":["#);
        for (index, (time_ns, count)) in pattern.counts.iter().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            let _ = write!(out, "[{},{count}]", time_ns.div_euclid(1_000_000_000));
        }
        out.push_str("]}");
    }
    out.push(']');
    out
}
