//! A real Alertmanager and Kittiwake's with the same generated configuration, the same alerts
//! and the same silences over time, both telling one capture server: what comes there must be the
//! same, at the same times.
//!
//! `AM_SECONDS` says how long, `E2E_SEED` repeats a run.

// A test's way to fail; the lint knows test functions only, not what they share.
#![allow(clippy::unwrap_used)]

#[path = "alertmanager/capture.rs"]
mod capture;
#[path = "alertmanager/generate.rs"]
mod generate;
#[allow(dead_code, unused_imports)]
#[path = "../../e2e/tests/it/harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use capture::Capture;
use generate::{Event, PACE, Plan};
use harness::{Alertmanager, Api, Random, Server, oracle};
use serde_json::Value;

/// Seconds of alerts unless `AM_SECONDS` says otherwise, and the seed.
const SECONDS: u64 = 25;
const SEED: u64 = 11;
/// What is told at the same time comes within this of each other, on a busy machine too.
const APART_MS: u128 = 3_500;
/// What is done later than this would come near to a flush.
const LATE_MAX: Duration = Duration::from_millis(220 * PACE);
/// Runs before the machine counts as too busy.
const TRIES: usize = 8;
/// Notifications under way at the end arrive within this time.
const TAIL: Duration = Duration::from_secs(2 * PACE);

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

const FLAGS: [&str; 3] = [
    "--web.external-url=http://am.example/alertmanager",
    "--web.route-prefix=/",
    "--dispatch.maintenance-interval=1h",
];

/// Sleeps until so long after a moment.
fn sleep_until(at: SystemTime) {
    if let Ok(left) = at.duration_since(SystemTime::now()) {
        std::thread::sleep(left);
    }
}

/// Whether more time than this has passed since a moment in which something was to be done.
fn is_late(at: SystemTime) -> bool {
    let late = SystemTime::now().duration_since(at).unwrap_or_default();
    if late > LATE_MAX {
        eprintln!("{late:?} late: the machine is too busy, once more");
    }
    late > LATE_MAX
}

/// Does what a plan says in one second, to one of both.
fn apply(api: &Api, event: &Event, silences: &mut BTreeMap<usize, String>) {
    match event {
        Event::Alerts(alerts) => {
            let body = alerts.to_string();
            let answer = api.post("/api/v2/alerts", &JSON, body.as_bytes()).unwrap();
            assert_eq!(answer.status, 200, "{}: {body}", answer.text);
        }
        Event::Silence(number, silence) => {
            let mut silence = silence.clone();
            if let Some(id) = silences.get(number) {
                silence["id"] = Value::from(id.as_str());
            }
            let body = silence.to_string();
            let answer = api.post("/api/v2/silences", &JSON, body.as_bytes());
            let answer = answer.unwrap();
            assert_eq!(answer.status, 200, "{}: {body}", answer.text);
            let id = answer.json()["silenceID"].as_str().unwrap().to_owned();
            silences.insert(*number, id);
        }
        Event::Expire(number) => {
            let Some(id) = silences.get(number) else {
                return;
            };
            let url = format!("{}/api/v2/silence/{id}", api.base);
            let answer = ureq::delete(url).call().unwrap();
            assert_eq!(answer.status().as_u16(), 200);
        }
    }
}

/// What the API tells, without what depends on the millisecond or on chance.
fn view(api: &Api, path: &str, params: &[(&str, &str)]) -> Value {
    let answer = api.get(path, params).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    let mut value = answer.json();
    plain(&mut value);
    // Silences of one end and groups of two routes with the same labels have no order.
    if let Some(items) = value.as_array_mut()
        && (path.ends_with("silences") || path.ends_with("groups"))
    {
        items.sort_by_key(ToString::to_string);
    }
    value
}

fn plain(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Object(fields) => {
            fields.remove("updatedAt");
            fields.remove("id");
            for (name, field) in fields {
                match (name.as_str(), &field) {
                    ("endsAt" | "startsAt", Value::String(text)) => {
                        *field = Value::from(&text[..19]);
                    }
                    // Of several that inhibit, Alertmanager names the one it heard of last.
                    ("silencedBy" | "inhibitedBy", Value::Array(ids)) => {
                        *field = Value::from(ids.len());
                    }
                    _ => plain(field),
                }
            }
        }
        _ => {}
    }
}

/// Where two values differ first, theirs and ours.
fn difference(a: &Value, b: &Value, at: &str) -> Option<String> {
    match (a, b) {
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let mut pairs = x.iter().zip(y).enumerate();
            pairs.find_map(|(i, (x, y))| difference(x, y, &format!("{at}[{i}]")))
        }
        (Value::Object(x), Value::Object(y)) if x.len() == y.len() => {
            let mut names = x.keys();
            names.find_map(|name| {
                let there = y.get(name).unwrap_or(&Value::Null);
                difference(&x[name], there, &format!("{at}.{name}"))
            })
        }
        (Value::Array(x), Value::Array(y)) => {
            let only = |x: &[Value], y: &[Value]| -> Vec<String> {
                let only = x.iter().filter(|item| !y.contains(item));
                only.map(ToString::to_string).collect()
            };
            let (theirs, ours) = (only(x, y).join("\n"), only(y, x).join("\n"));
            Some(format!("{at}: only theirs: {theirs}\nonly ours: {ours}"))
        }
        _ if a == b => None,
        _ => Some(format!("{at}: {a} and {b}")),
    }
}

/// All that one side was told, with the times in ms.
fn told(capture: &Capture, side: &str, start: SystemTime) -> BTreeMap<String, Vec<u128>> {
    let mut all: BTreeMap<String, Vec<u128>> = BTreeMap::new();
    for got in capture.taken(side) {
        let line = format!("{} {} {} {}", got.method, got.path, got.headers, got.body);
        let at = got.at.duration_since(start).unwrap_or_default();
        all.entry(line).or_default().push(at.as_millis());
    }
    for (line, times) in &mut all {
        times.sort_unstable();
        // Notifications at the same time may each ask for a token.
        if line.contains("/gettoken") {
            times.truncate(1);
        }
    }
    all
}

/// Whether the same was told as often, and about when.
fn are_alike(a: Option<&Vec<u128>>, b: &[u128]) -> bool {
    a.is_some_and(|a| {
        let mut pairs = a.iter().zip(b);
        a.len() == b.len() && pairs.all(|(a, b)| a.abs_diff(*b) < APART_MS)
    })
}

#[test]
fn the_same_is_told_as_by_alertmanager() {
    let Some(path) = oracle("alertmanager") else {
        return;
    };
    let seconds = std::env::var("AM_SECONDS").ok();
    let seconds = seconds.and_then(|s| s.parse().ok()).unwrap_or(SECONDS);
    let done = (0..TRIES).any(|_| tell(&path, seconds));
    assert!(done, "the machine was too busy {TRIES} times");
}

/// Runs both. False when the machine was so busy that what happened when is not known.
fn tell(path: &Path, seconds: u64) -> bool {
    let mut random = Random::seeded(SEED);
    let capture = Capture::start();
    let mut plan = Plan::new(&mut random);
    let dir = tempfile::tempdir().unwrap();
    let of = |side: &str| {
        plan.config
            .replace("BASE", &format!("{}/{side}", capture.base))
    };
    let theirs = Alertmanager::start(path, dir.path(), &of("theirs"), &FLAGS);
    let file = dir.path().join("ours.yml");
    std::fs::write(&file, of("ours")).unwrap();
    let flag = format!("--alertmanager.config.file={}", file.display());
    let server = Server::start(
        dir.path(),
        None,
        &[
            &flag,
            "--web.external-url=http://am.example",
            "--alertmanager.maintenance-interval=1h",
        ],
    );
    let ours = Api {
        base: format!("{}/alertmanager", server.api().base),
    };
    let theirs_api = theirs.api();
    // A little after a whole second, so that no time is near the end of one.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let start = UNIX_EPOCH + Duration::from_secs(now.as_secs() + 2) + Duration::from_millis(100);
    let mut ids = [BTreeMap::new(), BTreeMap::new()];
    for second in 0..seconds {
        sleep_until(start + Duration::from_secs(second * PACE));
        for event in plan.second(second, start, &mut random) {
            apply(&theirs_api, &event, &mut ids[0]);
            apply(&ours, &event, &mut ids[1]);
        }
        if is_late(start + Duration::from_secs(second * PACE)) {
            return false;
        }
        if second % 5 == 1 {
            sleep_until(start + Duration::from_millis((second * 1000 + 700) * PACE));
            for (path, params) in [
                ("/api/v2/alerts", vec![]),
                (
                    "/api/v2/alerts",
                    vec![("silenced", "false"), ("inhibited", "false")],
                ),
                (
                    "/api/v2/alerts",
                    vec![("filter", "severity=~\"crit.*\""), ("receiver", "r[0-4]")],
                ),
                ("/api/v2/alerts", vec![("active", "false")]),
                ("/api/v2/alerts/groups", vec![]),
                ("/api/v2/alerts/groups", vec![("muted", "false")]),
                ("/api/v2/receivers", vec![]),
                ("/api/v2/silences", vec![]),
            ] {
                let (a, b) = (view(&theirs_api, path, &params), view(&ours, path, &params));
                let difference = difference(&a, &b, "");
                assert_eq!(difference, None, "{path} {params:?} in second {second}");
            }
        }
    }
    std::thread::sleep(TAIL);
    let (a, b) = (
        told(&capture, "theirs", start),
        told(&capture, "ours", start),
    );
    let count: usize = a.values().map(Vec::len).sum();
    eprintln!("{count} notifications in {seconds} s; {}", plan.features());
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for got in capture.taken("theirs") {
        *kinds.entry(got.kind()).or_default() += 1;
    }
    eprintln!("receivers: {kinds:?}");
    let differs = |a: &BTreeMap<String, Vec<u128>>, b: &BTreeMap<String, Vec<u128>>| {
        let lines = a
            .iter()
            .filter(|(line, times)| !are_alike(b.get(*line), times));
        lines
            .map(|(line, times)| format!("{times:?} {line}"))
            .collect::<Vec<_>>()
    };
    let (only_theirs, only_ours) = (differs(&a, &b), differs(&b, &a));
    assert!(
        only_theirs.is_empty() && only_ours.is_empty(),
        "only Alertmanager:\n{}\nonly ours:\n{}",
        only_theirs.join("\n"),
        only_ours.join("\n")
    );
    assert!(count > 50, "nothing much was told");
    assert!(kinds.len() >= generate::KINDS.len(), "{kinds:?}");
    server.program.assert_quiet(&["a notification was not"]);
    true
}
