//! Jira: an issue for each group, found again by a label.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{Call, Failure, Sent, With, body_text, check_with, json_bytes};
use crate::config::{Jira, Url};
use crate::template::{cut, rendered};

async fn ask(with: &With<'_>, method: Method, url: &str, body: Option<&Value>) -> Sent<Value> {
    let call = Call {
        method,
        url,
        headers: &[
            ("content-type", "application/json"),
            ("accept-language", "en"),
        ],
        body: body.map(json_bytes).unwrap_or_default(),
    };
    let answer = with.call(call).await;
    // Another attempt might make a second issue.
    let answer = answer.map_err(|failure| Failure::lasting(failure.message))?;
    check_with(&answer, &[429], body_text)?;
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
}

fn label(with: &With<'_>) -> String {
    format!("ALERT{{{}}}", with.notice.key_hash())
}

/// The issue of the group, if there is one.
async fn find(with: &With<'_>, section: &Jira, url: &Url) -> Sent<Option<Value>> {
    let quoted = kittiwake_model::quote;
    let minutes = section.reopen_duration.0.as_secs() / 60;
    let mut conditions = Vec::new();
    if !section.wont_fix_resolution.is_empty() {
        let resolution = quoted(&section.wont_fix_resolution);
        conditions.push(format!("resolution != {resolution}"));
    }
    if with.is_firing() && !section.reopen_transition.is_empty() && minutes > 0 {
        conditions.push(format!(
            "(resolutiondate is EMPTY OR resolutiondate >= -{minutes}m)"
        ));
    } else {
        conditions.push("statusCategory != Done".to_owned());
    }
    let project = quoted(&with.text(&section.project));
    let query = format!(
        "{} and project={project} and labels={} order by status ASC,resolutiondate DESC",
        conditions.join(" and "),
        quoted(&label(with))
    );
    let is_cloud = section.api_type == "cloud"
        || section.api_type == "auto" && url.host().ends_with("atlassian.net");
    let search = if is_cloud {
        url.join("search/jql").replacen("/2", "/3", 1)
    } else {
        url.join("search")
    };
    let body = json!({ "jql": query, "maxResults": 2, "fields": ["status"] });
    let mut found = ask(with, Method::POST, &search, Some(&body))
        .await
        .map_err(|mut failure| {
            failure.message = format!("failed to look up existing issues: {}", failure.message);
            failure
        })?;
    let first = found["issues"].get_mut(0).map(Value::take);
    Ok(first)
}

fn issue(with: &With<'_>, section: &Jira, url: &Url, is_new: bool) -> Sent<Value> {
    let description = cut(with.text(&section.description.template), 32767);
    let is_v3 = url.path().trim_end_matches('/').ends_with("/3");
    if is_v3 && serde_json::from_str::<Value>(&description).is_err() {
        return Err(Failure::lasting(
            "description template: invalid JSON for API v3",
        ));
    }
    let mut labels: Vec<String> = section.labels.iter().map(|l| with.text(l)).collect();
    labels.push(label(with));
    labels.sort();
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    if is_new || section.summary.enable_update {
        set(
            "summary",
            cut(with.text(&section.summary.template), 255).into(),
        );
    }
    if is_new || section.description.enable_update {
        set("description", Value::from(description));
    }
    set(
        "issuetype",
        json!({ "name": with.text(&section.issue_type) }),
    );
    set("labels", json!(labels));
    set("project", json!({ "key": with.text(&section.project) }));
    let priority = with.text(&section.priority);
    if !priority.is_empty() {
        set("priority", json!({ "name": priority }));
    }
    let render = |text: &str| with.text(text);
    for (name, value) in &section.fields {
        set(name, rendered(value, &render));
    }
    Ok(json!({ "fields": fields }))
}

pub(super) async fn jira(with: &With<'_>, section: &Jira) -> Sent {
    let url = section.api_url.as_ref();
    let url = url.ok_or_else(|| Failure::lasting("no address is set"))?;
    let known = find(with, section, url).await?;
    let (method, path) = match &known {
        // For what is over no issue is made.
        None if !with.is_firing() => return Ok(()),
        None => (Method::POST, "issue".to_owned()),
        Some(issue) => {
            let key = issue["key"].as_str().unwrap_or_default();
            (Method::PUT, format!("issue/{key}"))
        }
    };
    let body = issue(with, section, url, known.is_none())?;
    ask(with, method, &url.join(&path), Some(&body)).await?;
    match known {
        Some(known) => transition(with, section, url, &known).await,
        None => Ok(()),
    }
}

/// Opens the issue again, or closes it.
async fn transition(with: &With<'_>, section: &Jira, url: &Url, known: &Value) -> Sent {
    let key = known["key"].as_str().unwrap_or_default();
    let status = &known["fields"]["status"];
    if key.is_empty() || status.is_null() {
        return Ok(());
    }
    let is_done = status["statusCategory"]["key"] == "done";
    if with.is_firing() != is_done {
        return Ok(());
    }
    let wanted = if with.is_firing() {
        &section.reopen_transition
    } else {
        &section.resolve_transition
    };
    let path = url.join(&format!("issue/{key}/transitions"));
    let told = ask(with, Method::GET, &path, None).await?;
    let all = told["transitions"].as_array().into_iter().flatten();
    let mut all = all.filter(|t| t["name"].as_str() == Some(wanted));
    let id = all.next().and_then(|t| t["id"].as_str()).ok_or_else(|| {
        Failure::lasting(format!("can't find transition {wanted} for issue {key}"))
    })?;
    let body = json!({ "transition": { "id": id } });
    ask(with, Method::POST, &path, Some(&body)).await?;
    Ok(())
}
