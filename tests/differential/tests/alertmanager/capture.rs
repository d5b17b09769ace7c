//! A server that takes whatever comes, and answers as each kind of receiver does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// What came.
#[derive(Debug, Clone)]
pub struct Got {
    pub at: SystemTime,
    pub method: String,
    /// The path without the side, and the query.
    pub path: String,
    /// Those that matter.
    pub headers: String,
    /// In one form, whichever way it was written.
    pub body: String,
}

impl Got {
    /// The kind of receiver, like `slack`.
    pub fn kind(&self) -> String {
        let part = self.path.split('/').nth(2).unwrap_or_default();
        part.strip_suffix(['0', '1']).unwrap_or(part).to_owned()
    }
}

/// Issues by their labels: the key, and whether it is done.
type Issues = BTreeMap<String, (String, bool)>;

#[derive(Default)]
struct State {
    got: BTreeMap<String, Vec<Got>>,
    /// Bodies that were refused once.
    refused: BTreeMap<String, usize>,
    issues: BTreeMap<String, Issues>,
}

pub struct Capture {
    pub base: String,
    state: Arc<Mutex<State>>,
}

impl Capture {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // It ends when its client does.
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { base, state }
    }

    /// What a side has sent so far.
    pub fn taken(&self, side: &str) -> Vec<Got> {
        let state = self.state.lock().unwrap();
        state.got.get(side).cloned().unwrap_or_default()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let mut words = first.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => {
                    headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
                }
                None => break,
            }
        }
        let len = headers.get("content-length").and_then(|l| l.parse().ok());
        let mut body = vec![0; len.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let (side, path) = target.trim_start_matches('/').split_once('/')?;
        let path = format!("/{path}");
        let (status, kind, text) = take(state, side, &method, &path, &headers, &body);
        if path.contains("/hang") {
            std::thread::sleep(Duration::from_mins(2));
        }
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

/// A body in one form.
fn canonical(kind: &str, body: &[u8]) -> String {
    if kind.contains("json") {
        let mut value: Value = serde_json::from_slice(body).unwrap_or_default();
        cut_times(&mut value);
        return value.to_string();
    }
    let text = String::from_utf8_lossy(body);
    if kind.contains("form") {
        let mut parts: Vec<&str> = text.split('&').collect();
        parts.sort_unstable();
        return parts.join("&");
    }
    text.into_owned()
}

/// The end of an alert that nobody ended depends on the millisecond in which it came.
fn cut_times(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(cut_times),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "endsAt" => text.truncate(19),
                    field => cut_times(field),
                }
            }
        }
        _ => {}
    }
}

fn take(
    state: &Mutex<State>,
    side: &str,
    method: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> (u16, &'static str, String) {
    const JSON: &str = "application/json";
    const MATTER: [&str; 5] = [
        "content-type",
        "authorization",
        "x-auth-token",
        "x-user-id",
        "accept-language",
    ];
    let kind = headers.get("content-type").map_or("", String::as_str);
    let shown: Vec<String> = MATTER
        .iter()
        .filter_map(|name| {
            let value = headers.get(*name)?;
            // A signature depends on the second.
            let value = value.split("Signature=").next().unwrap_or_default();
            let value = value.split("Credential=").next().unwrap_or_default();
            Some(format!("{name}: {value}"))
        })
        .collect();
    let got = Got {
        at: SystemTime::now(),
        method: method.to_owned(),
        path: path.to_owned(),
        headers: shown.join(", "),
        body: canonical(kind, body),
    };
    let mut state = state.lock().unwrap();
    let is_refused = path.contains("flaky") && {
        let tries = state.refused.entry(format!("{side} {}", got.body));
        let tries = tries.or_default();
        *tries += 1;
        *tries % 2 == 1
    };
    let receiver = got.kind();
    state.got.entry(side.to_owned()).or_default().push(got);
    if is_refused {
        return (503, "text/plain", "later".to_owned());
    }
    let json = |value: Value| (200, JSON, value.to_string());
    match receiver.as_str() {
        "rocketchat" => json(json!({ "success": true })),
        "telegram" => json(json!({
            "ok": true,
            "result": { "message_id": 1, "date": 1, "chat": { "id": 1, "type": "group" } },
        })),
        "wechat" => json(json!({ "access_token": "T", "errcode": 0, "errmsg": "" })),
        "jira" => {
            // Each receiver has a Jira of its own: two would make two issues at once.
            let mut place = path.split('/');
            let place = (place.nth(1), place.next());
            let issues = state.issues.entry(format!("{side} {place:?}")).or_default();
            json(jira(issues, method, path, body))
        }
        "sns" => {
            let text = "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult><MessageId>m</MessageId></PublishResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishResponse>";
            (200, "text/xml", text.to_owned())
        }
        _ => (200, "text/plain", "ok".to_owned()),
    }
}

/// Issues that are made, found, changed, and closed.
fn jira(issues: &mut Issues, method: &str, path: &str, body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if path.ends_with("/search") {
        let query = body["jql"].as_str().unwrap_or_default();
        let found = issues.iter().filter(|(label, (_, is_done))| {
            query.contains(label.as_str()) && !(*is_done && query.contains("!= Done"))
        });
        let found: Vec<Value> = found
            .map(|(_, (key, is_done))| {
                let category = if *is_done { "done" } else { "new" };
                json!({
                    "key": key,
                    "fields": { "status": { "name": "x", "statusCategory": { "key": category } } },
                })
            })
            .collect();
        return json!({ "issues": found });
    }
    if path.ends_with("/transitions") {
        if method == "GET" {
            return json!({ "transitions": [
                { "id": "11", "name": "Reopen" },
                { "id": "31", "name": "Close" },
            ]});
        }
        let is_done = body["transition"]["id"] == "31";
        for (key, done) in issues.values_mut() {
            if path.contains(&format!("/{key}/")) {
                *done = is_done;
            }
        }
        return Value::Null;
    }
    if method == "POST" {
        let labels = body["fields"]["labels"].as_array().into_iter().flatten();
        let mut labels = labels.filter_map(Value::as_str);
        let label = labels.find(|l| l.starts_with("ALERT")).unwrap_or_default();
        // The same on both sides, in whichever order they come.
        let key = format!("K-{}", &label[6..18]);
        issues.insert(label.to_owned(), (key.clone(), false));
        return json!({ "key": key });
    }
    Value::Null
}
