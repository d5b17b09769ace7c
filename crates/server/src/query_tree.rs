//! A query as text or as a tree: `/api/v1/format_query` and `/api/v1/parse_query`, and the
//! exemplars of what it selects.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use kittiwake_model::{MatchOp, Matcher, MetricsStore as _, TimeRange};
use kittiwake_promql::ast::{
    At, Binary, Call, DurationExpr, DurationValue, Edges, Length, Number, Selector, Shift, Subquery,
};
use kittiwake_promql::{Expr, ValueType, text};
use kittiwake_vector::{Cardinality, Grouping, Matching};
use serde_json::{Value, json};

use crate::app::App;
use crate::prometheus_api::{params, parse, timeout};
use crate::reply::{Problem, push_json_str, success};
use crate::series_api::push_exemplars;

/// `/api/v1/format_query`
pub async fn format_query(request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let expr = parse(params.required("query")?)?;
    let mut data = String::new();
    push_json_str(&mut data, &expr.pretty());
    Ok(success(&data))
}

/// `/api/v1/parse_query`
pub async fn parse_query(request: Request<Body>) -> Result<Response, Problem> {
    let params = params(request).await?;
    let expr = parse(params.required("query")?)?;
    Ok(success(&tree(&expr).to_string()))
}

/// `/api/v1/query_exemplars`
pub async fn query_exemplars(
    State(app): State<App>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let params = params(request).await?;
    let start_ms = params.time_ms("start")?.unwrap_or(i64::MIN);
    let end_ms = params.time_ms("end")?.unwrap_or(i64::MAX);
    if end_ms < start_ms {
        return Err(Problem::bad_data(
            "end timestamp must not be before start timestamp",
        ));
    }
    let expr = parse(params.required("query")?)?;
    let selectors: Vec<Vec<Matcher>> = expr
        .selectors()
        .into_iter()
        .map(|s| s.matchers.clone())
        .collect();
    if selectors.is_empty() {
        return Ok(success("null"));
    }
    let store = app.metrics.clone();
    let read = move |context: &_| {
        let range = TimeRange::new(start_ms, end_ms);
        let found = store.exemplars(&selectors, range, context)?;
        let mut data = String::new();
        push_exemplars(&mut data, &found);
        Ok(success(&data))
    };
    app.queries.run(timeout(&params)?, read).await
}

/// An expression as Prometheus' page draws it. The parser bounds its depth.
fn tree(expr: &Expr) -> Value {
    match expr {
        Expr::Number(number) => json!({"type": "numberLiteral", "val": plain(number.value)}),
        Expr::Text(text) => json!({"type": "stringLiteral", "val": text.value}),
        Expr::Vector(selector) => selector_tree("vectorSelector", selector),
        Expr::Matrix(matrix) => {
            let mut node = selector_tree("matrixSelector", &matrix.selector);
            node["range"] = length(&matrix.range);
            node["rangeExpr"] = length_expr(&matrix.range);
            node
        }
        Expr::Subquery(subquery) => subquery_tree(subquery),
        Expr::Call(call) => call_tree(call),
        Expr::Aggregate(aggregation) => json!({
            "type": "aggregation",
            "op": aggregation.op.as_str(),
            "expr": tree(&aggregation.inner),
            "param": aggregation.param.as_deref().map(tree),
            "grouping": aggregation.grouping,
            "without": aggregation.is_without,
        }),
        Expr::Binary(binary) => binary_tree(binary),
        Expr::Unary(unary) => json!({
            "type": "unaryExpr",
            "op": if unary.is_negative { "-" } else { "+" },
            "expr": tree(&unary.inner),
        }),
        Expr::Paren(paren) => json!({"type": "parenExpr", "expr": tree(&paren.inner)}),
    }
}

fn selector_tree(kind: &str, selector: &Selector) -> Value {
    let matchers = selector.matchers.iter().map(|matcher| {
        let kind = match matcher.op() {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        json!({"name": matcher.name(), "value": matcher.value(), "type": kind})
    });
    let mut node = json!({
        "type": kind,
        "name": selector.name,
        "matchers": matchers.collect::<Vec<_>>(),
        "anchored": selector.edges == Edges::Anchored,
        "smoothed": selector.edges == Edges::Smoothed,
    });
    put_shift(&mut node, &selector.shift);
    node
}

fn put_shift(node: &mut Value, shift: &Shift) {
    node["offset"] = length(&shift.offset);
    node["offsetExpr"] = length_expr(&shift.offset);
    node["timestamp"] = match shift.at {
        Some(At::Time(ms)) => json!(ms),
        _ => Value::Null,
    };
    node["startOrEnd"] = match shift.at {
        Some(At::Start) => json!("start"),
        Some(At::End) => json!("end"),
        _ => Value::Null,
    };
}

fn subquery_tree(subquery: &Subquery) -> Value {
    let step = subquery.step.as_ref();
    let mut node = json!({
        "type": "subquery",
        "expr": tree(&subquery.inner),
        "range": length(&subquery.range),
        "rangeExpr": length_expr(&subquery.range),
        "step": step.map_or(json!(0), length),
        "stepExpr": step.map_or(Value::Null, length_expr),
    });
    put_shift(&mut node, &subquery.shift);
    node
}

fn call_tree(call: &Call) -> Value {
    let function = call.function;
    let kinds = function.args.iter().map(|kind| ValueType::as_str(*kind));
    json!({
        "type": "call",
        "func": {
            "name": function.name,
            "argTypes": kinds.collect::<Vec<_>>(),
            "variadic": function.variadic,
            "returnType": function.gives.as_str(),
        },
        "args": call.args.iter().map(tree).collect::<Vec<_>>(),
    })
}

fn binary_tree(binary: &Binary) -> Value {
    json!({
        "type": "binaryExpr",
        "op": binary.op.as_str(),
        "lhs": tree(&binary.left),
        "rhs": tree(&binary.right),
        "matching": binary.matching.as_ref().map(matching_tree),
        "bool": binary.returns_bool,
    })
}

fn matching_tree(matching: &Matching) -> Value {
    let (labels, is_on) = match &matching.on {
        Grouping::By(labels) => (labels, true),
        Grouping::Without(labels) => (labels, false),
    };
    let cardinality = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
    };
    json!({
        "card": cardinality,
        "labels": labels,
        "on": is_on,
        "include": matching.include,
        "fillValues": {"lhs": matching.fill.left, "rhs": matching.fill.right},
    })
}

/// In ms; 0 when it depends on the query.
fn length(length: &Length) -> Value {
    match length {
        Length::Fixed(ms) => json!(ms),
        Length::Computed(_) => json!(0),
    }
}

fn length_expr(length: &Length) -> Value {
    match length {
        Length::Fixed(_) => Value::Null,
        Length::Computed(expr) => duration_tree(expr),
    }
}

fn duration_tree(expr: &DurationExpr) -> Value {
    let side = |side: &Option<Box<DurationValue>>| match side.as_deref() {
        None => Value::Null,
        Some(DurationValue::Number(number)) => number_tree(number),
        Some(DurationValue::Expr(expr)) => duration_tree(expr),
    };
    json!({
        "type": "durationExpr",
        "op": expr.op.as_str(),
        "lhs": side(&expr.left),
        "rhs": side(&expr.right),
        "wrapped": expr.is_wrapped,
    })
}

fn number_tree(number: &Number) -> Value {
    json!({
        "type": "numberLiteral",
        "val": plain(number.value),
        "duration": number.is_duration,
    })
}

/// A number without an exponent, as Go's format `f` has it.
fn plain(value: f64) -> String {
    if value.is_finite() {
        value.to_string()
    } else {
        text::number(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Value {
        tree(&kittiwake_promql::parse(query).unwrap())
    }

    #[test]
    fn a_tree_is_as_prometheus_draws_it() {
        let node =
            of("sum by (job) (rate(a{b=~\"c\"}[5m] offset 1m)) > bool on (x) group_left (y) 2 * d");
        assert_eq!(node["type"], "binaryExpr");
        assert_eq!(node["matching"]["card"], "many-to-one");
        assert_eq!(node["matching"]["include"], json!(["y"]));
        let sum = &node["lhs"];
        assert_eq!(
            (&sum["op"], &sum["grouping"]),
            (&json!("sum"), &json!(["job"]))
        );
        let rate = &sum["expr"];
        assert_eq!(
            rate["func"],
            json!({
                "name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector",
            })
        );
        let range = &rate["args"][0];
        assert_eq!(
            (&range["range"], &range["offset"]),
            (&json!(300_000), &json!(60_000))
        );
        assert_eq!(
            range["matchers"][0],
            json!({"name": "b", "value": "c", "type": "=~"})
        );
        assert_eq!(of("1e3")["val"], "1000");
        assert_eq!(of("a @ start()")["startOrEnd"], "start");
        assert_eq!(of("a[5m + 1m:]")["rangeExpr"]["op"], "+");
        assert_eq!(of("a[5m:]")["step"], 0);
    }
}
