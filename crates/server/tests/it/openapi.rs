//! Prometheus' description of its API: each operation with its example parameters is answered
//! with the shape that it promises. Read from `prometheus/openapi_3.2.yaml` under
//! `$CONFORMANCE_DIR`, else in `../shared/conformance` beside the workspace.

use kittiwake_server::app::Options;
use kittiwake_wire::remote_write::{SeriesParts, v2};
use serde_json::Value;

use crate::harness::{Server, configured, labels, percent};

/// Operations that answer with something else than JSON, and are tested by themselves.
const NOT_JSON: [&str; 7] = [
    "/read",
    "/write",
    "/otlp/v1/metrics",
    "/notifications/live",
    "/search/metric_names",
    "/search/label_names",
    "/search/label_values",
];

/// What in a value is not as its schema says.
fn problem(spec: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = spec.pointer(reference.trim_start_matches('#'));
        return problem(spec, target.unwrap(), value, at);
    }
    for kind in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[kind].as_array() {
            let mut problems = choices.iter().map(|c| problem(spec, c, value, at));
            if problems.any(|p| p.is_none()) {
                return None;
            }
            return Some(format!("{at}: no choice fits {value}"));
        }
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Some(format!("{at}: {value} is none of {allowed:?}"));
    }
    let is_right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    if !is_right {
        return Some(format!("{at}: {value} is no {}", schema["type"]));
    }
    if let Some(items) = value.as_array() {
        let mut items = items.iter().enumerate();
        return items
            .find_map(|(i, item)| problem(spec, &schema["items"], item, &format!("{at}[{i}]")));
    }
    let fields = value.as_object()?;
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        if !fields.contains_key(name) {
            return Some(format!("{at}: {name} is missing"));
        }
    }
    for (name, field) in fields {
        let at = format!("{at}.{name}");
        let known = &schema["properties"][name];
        let others = &schema["additionalProperties"];
        let found = if !known.is_null() {
            problem(spec, known, field, &at)
        } else if *others == Value::Bool(false) && schema["properties"].is_object() {
            Some(format!("{at} is not known"))
        } else if others.is_object() {
            problem(spec, others, field, &at)
        } else {
            None
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

async fn filled() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yml");
    let rules = "groups:\n- name: g\n  rules:\n  - {record: r, expr: up}\n  - {alert: A, expr: up == 1, annotations: {a: b}}\n  - {alert: HighErrorRate, expr: up == 1, labels: {severity: critical}}\n";
    std::fs::write(&file, rules).unwrap();
    let yaml = format!(
        "rule_files: ['{}']\nscrape_configs:\n- job_name: prometheus\n  relabel_configs: [{{source_labels: [__address__], target_label: instance}}]\n",
        file.display()
    );
    let options = Options {
        is_admin_enabled: true,
        ..Options::default()
    };
    let server = configured(&yaml, options);
    let mut encoder = v2::RequestEncoder::new();
    let up = labels(&[
        ("__name__", "up"),
        ("job", "prometheus"),
        ("instance", "h:1"),
    ]);
    let about = kittiwake_model::Metadata {
        kind: "gauge".into(),
        help: "h".into(),
        unit: String::new(),
    };
    let now = server.app.now_ms();
    encoder.series(&up, [(now, 1.0, 0)], &SeriesParts::default(), Some(&about));
    let headers = [("content-type", v2::CONTENT_TYPE)];
    server
        .post("/api/v1/write", &headers, encoder.finish().unwrap())
        .await;
    server.app.load_rules().unwrap();
    for group in server.app.rules.groups() {
        group.evaluate(server.app.now_ns(), server.app.rules.environment());
    }
    server
}

/// The first example of a parameter, as text.
fn example(parameter: &Value) -> Option<String> {
    // A page's token is good only where it was given.
    if parameter["name"] == "group_next_token" {
        return None;
    }
    let examples = parameter["examples"].as_object();
    let first = examples.and_then(|e| e.values().next().map(|e| e["value"].clone()));
    let value = first.or_else(|| Some(parameter["schema"]["example"].clone()))?;
    let value = match value {
        Value::Array(mut items) => items.drain(..).next()?,
        other => other,
    };
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

#[tokio::test]
async fn operations_answer_in_the_shapes_that_are_described() {
    let Some(file) = kittiwake_conformance::conformance("prometheus/openapi_3.2.yaml") else {
        return;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let spec: Value = serde_saphyr::from_str(&text).unwrap();
    let server = filled().await;
    let (mut asked, mut wrong) = (0, Vec::new());
    for (path, operations) in spec["paths"].as_object().unwrap() {
        if NOT_JSON.contains(&path.as_str()) {
            continue;
        }
        for method in ["get", "post"] {
            let operation = &operations[method];
            if operation.is_null() {
                continue;
            }
            let mut pairs = Vec::new();
            let mut route = path.clone();
            // A form has the parameters of the query string.
            let parameters = &operations["get"]["parameters"];
            let own = &operation["parameters"];
            let parameters = if own.is_array() { own } else { parameters };
            for parameter in parameters.as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap();
                let Some(value) = example(parameter) else {
                    continue;
                };
                if parameter["in"] == "path" {
                    route = route.replace(&format!("{{{name}}}"), &percent(&value));
                } else {
                    pairs.push(format!("{}={}", percent(name), percent(&value)));
                }
            }
            let (form, route) = (pairs.join("&"), format!("/api/v1{route}"));
            let answer = if method == "get" {
                server.get(&format!("{route}?{form}")).await
            } else {
                server.form(&route, &form).await
            };
            asked += 1;
            let status = answer.status.as_u16();
            // Prometheus itself has nothing to say of these, whatever the description says.
            if route.starts_with("/api/v1/admin/") && status == 204 {
                continue;
            }
            let promised = &operation["responses"][status.to_string()];
            if promised.is_null() {
                wrong.push(format!(
                    "{method} {route}?{form}: {status} {}",
                    answer.text()
                ));
                continue;
            }
            let schema = &promised["content"]["application/json"]["schema"];
            if schema.is_object()
                && let Some(problem) = problem(&spec, schema, &answer.json(), "answer")
            {
                wrong.push(format!("{method} {route}?{form}: {problem}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked >= 37, "only {asked} operations");
}
