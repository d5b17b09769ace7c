//! Evaluation: what rules write and tell.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_config::NameScheme;
use kittiwake_env::SimClock;
use kittiwake_model::{Labels, MetricsStore as _, QueryContext, Select, TimeRange, is_stale_nan};
use kittiwake_rules::file::Check;
use kittiwake_rules::{AlertState, Group, GroupSource, Health, Manager, Settings};

use crate::engine::{Kept, Memory, environment};

const S: i64 = 1_000_000_000;

struct World {
    memory: Memory,
    clock: Arc<SimClock>,
    kept: Arc<Kept>,
}

impl World {
    fn new() -> Self {
        Self {
            memory: Memory::default(),
            clock: Arc::new(SimClock::new(0)),
            kept: Arc::default(),
        }
    }

    fn environment(&self) -> kittiwake_rules::Environment {
        environment(&self.memory, self.clock.clone(), self.kept.clone())
    }

    fn load(&self, series: &str, time_s: i64, value: f64) {
        let pairs = series.split(',').map(|pair| pair.split_once('=').unwrap());
        let labels = Labels::from_pairs(pairs).unwrap();
        self.memory.0.append(&labels, time_s * 1000, value);
    }

    /// The samples of a metric: labels but the name, time in s, value; a stale marker is none.
    fn samples(&self, metric: &str) -> Vec<(String, i64, Option<f64>)> {
        let matcher =
            kittiwake_model::Matcher::new(kittiwake_model::MatchOp::Equal, "__name__", metric);
        let select = Select::new(vec![matcher.unwrap()], TimeRange::ALL);
        let context = QueryContext::default();
        let mut cursor = self.memory.0.select(&select, &context).unwrap();
        let mut found = Vec::new();
        while let Some(labels) = cursor.next_series().unwrap() {
            let mut columns = kittiwake_model::Columns::default();
            while cursor.next_batch(&mut columns).unwrap() {}
            let labels = labels.without(|name| name == "__name__").to_string();
            for (time, value) in columns.times.iter().zip(&columns.values) {
                let value = Some(*value).filter(|value| !is_stale_nan(*value));
                found.push((labels.clone(), time / 1000, value));
            }
        }
        found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        found
    }
}

fn group(text: &str) -> Group {
    let engine = Memory::default();
    group_over(&engine, text)
}

fn group_over(engine: &Memory, text: &str) -> Group {
    let check = Check {
        engine,
        names: NameScheme::Utf8,
        ignores_unknown_fields: false,
    };
    let file = check.parse(text, Path::new("r.yml")).unwrap();
    Group::new("r.yml", &file.groups[0], Duration::from_mins(1))
}

#[test]
fn an_alert_waits_fires_lingers_and_ends() {
    let world = World::new();
    let environment = world.environment();
    let group = group_over(
        &world.memory,
        "groups:\n- name: g\n  rules:\n  - alert: Down\n    expr: up == 0\n    for: 2m\n    keep_firing_for: 2m\n    labels: {severity: page, job: 'x-{{ $labels.job }}'}\n    annotations: {text: '{{ $labels.job }} is {{ $value }} in {{ $externalLabels.dc }}', empty: ''}\n",
    );
    let rule = &group.rules[0];
    rule.set_restored();
    assert_eq!(rule.state(), AlertState::Unknown);
    let mut states = Vec::new();
    for minute in 0..30 {
        world.load("__name__=up,job=a", minute * 60, f64::from(minute >= 5));
        group.evaluate(minute * 60 * S, &environment);
        states.push(rule.state());
    }
    let firsts = |state: AlertState| states.iter().position(|s| *s == state);
    assert_eq!(firsts(AlertState::Pending), Some(0));
    assert_eq!(firsts(AlertState::Firing), Some(2));
    // Wrong up to minute 4, kept for two minutes from minute 5.
    assert_eq!(firsts(AlertState::Inactive), Some(7));
    // Resolved at minute 7, forgotten when that is more than 15 minutes ago.
    assert!(rule.alerts().is_empty());
    let sent = world.kept.0.lock();
    assert_eq!(sent[0].starts_at_ns, 120 * S);
    assert_eq!(
        sent[0].labels.to_string(),
        "{alertname=\"Down\", job=\"x-a\", severity=\"page\"}"
    );
    assert_eq!(sent[0].annotations["text"], "a is 0 in x");
    assert_eq!(sent[0].annotations["empty"], "");
    assert_eq!(sent[0].ends_at_ns, (120 + 240) * S);
    assert_eq!(
        sent[0].generator_url,
        "http://k.example/graph?g0.expr=up+%3D%3D+0&g0.tab=1"
    );
    // Again only when more than the delay went by, once at its end, and on while remembered.
    let times: Vec<i64> = sent.iter().map(|alert| alert.ends_at_ns / S / 60).collect();
    assert_eq!(times[..4], [6, 8, 10, 7]);
    let alerts = world.samples("ALERTS");
    let firing = "{alertname=\"Down\", alertstate=\"firing\", job=\"x-a\", severity=\"page\"}";
    let firing: Vec<_> = alerts
        .iter()
        .filter(|(labels, ..)| labels == firing)
        .collect();
    assert_eq!(firing.len(), 6, "{firing:?}");
    assert_eq!((firing[0].1, firing[0].2), (120, Some(1.0)));
    assert_eq!((firing[5].1, firing[5].2), (420, None));
    let since = world.samples("ALERTS_FOR_STATE");
    assert!(
        since
            .iter()
            .take(6)
            .all(|(_, _, value)| *value == Some(0.0))
    );
}

#[test]
fn what_is_recorded_no_longer_ends() {
    let world = World::new();
    let environment = world.environment();
    let group = group_over(
        &world.memory,
        "groups:\n- name: g\n  query_offset: 30s\n  labels: {team: t}\n  rules:\n  - record: job:up\n    expr: up\n    labels: {extra: '{{ plain }}', job: ''}\n",
    );
    world.load("__name__=up,job=a,i=1", 60, 1.0);
    world.load(
        "__name__=up,job=a,i=2",
        60,
        f64::from_bits(kittiwake_model::STALE_NAN_BITS),
    );
    world.load("__name__=up,job=a,i=2", 0, 2.0);
    group.evaluate(60 * S, &environment);
    group.evaluate(120 * S, &environment);
    let written = world.samples("job:up");
    let labels = |i: u8| format!("{{extra=\"{{{{ plain }}}}\", i=\"{i}\", team=\"t\"}}");
    assert_eq!(
        written,
        [
            (labels(1), 90, Some(1.0)),
            (labels(2), 30, Some(2.0)),
            (labels(2), 90, None),
        ]
    );
}

#[test]
fn mistakes_of_an_evaluation_are_kept_with_the_rule() {
    let world = World::new();
    let environment = world.environment();
    for i in ["1", "2", "3"] {
        world.load(&format!("__name__=up,job=a,i={i}"), 0, 1.0);
    }
    let group = group_over(
        &world.memory,
        "groups:\n- name: g\n  limit: 2\n  rules:\n  - {record: a, expr: up}\n  - {record: b, expr: up, labels: {i: x}}\n  - {alert: C, expr: up}\n  - {alert: D, expr: up, labels: {i: x}}\n  - {record: e, expr: 'up / on(job) group_left up'}\n  - {record: f, expr: sum(up)}\n",
    );
    group.evaluate(0, &environment);
    let errors: Vec<String> = group
        .rules
        .iter()
        .map(|rule| rule.status().last_error.unwrap_or_default())
        .collect();
    assert_eq!(errors[0], "exceeded limit of 2 with 3 series");
    assert_eq!(
        errors[1],
        "vector contains metrics with the same labelset after applying rule labels"
    );
    assert_eq!(errors[2], "exceeded limit of 2 with 3 alerts");
    assert_eq!(
        errors[3],
        "vector contains metrics with the same labelset after applying alert labels"
    );
    assert!(!errors[4].is_empty());
    assert_eq!(group.rules[5].status().health, Health::Good);
    let figures = group.figures();
    assert_eq!(
        (figures.evaluations, figures.failures, figures.samples),
        (6, 5, 1)
    );
}

struct Files(tempfile::TempDir);

impl Files {
    fn source(&self, texts: &[(&str, &str)]) -> GroupSource {
        let files = texts.iter().map(|(name, text)| {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        });
        GroupSource {
            files: files.collect(),
            interval: Duration::from_mins(1),
            names: NameScheme::Utf8,
            settings: Settings {
                external_labels: Labels::empty(),
                query_offset: Duration::ZERO,
            },
        }
    }
}

fn run_until(manager: &Manager, clock: &SimClock, end_ns: i64) {
    while let Some(due) = manager.run_due() {
        if due > end_ns {
            break;
        }
        clock.set_ns(due);
    }
}

#[test]
fn a_reload_keeps_what_is_the_same() {
    let world = World::new();
    world.clock.set_ns(1_000_000 * S);
    for second in (999_000..1_010_000).step_by(60) {
        world.load("__name__=up,job=a", second, 0.0);
    }
    let manager = Manager::new(world.environment());
    let files = Files(tempfile::tempdir().unwrap());
    let first = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up == 0, for: 5m}\n  - {record: r, expr: up}\n- name: h\n  rules: [{record: s, expr: up}]\n";
    manager.update(&files.source(&[("r.yml", first)])).unwrap();
    run_until(&manager, &world.clock, 1_000_200 * S);
    let groups = manager.groups();
    assert_eq!(groups.len(), 2);
    let since = groups[0].rules[0].alerts()[0].active_at_ns;
    assert!(
        world
            .samples("s")
            .iter()
            .all(|(_, _, value)| value.is_some())
    );
    // A mistake changes nothing.
    let errors = manager.update(&files.source(&[("r.yml", "groups: [{nam: x}]")]));
    assert!(errors.is_err());
    assert_eq!(manager.groups().len(), 2);
    // A changed group takes its state along; one that is gone ends its series.
    let second = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up == 0, for: 6m}\n";
    manager.update(&files.source(&[("r.yml", second)])).unwrap();
    let groups = manager.groups();
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].rules[0].alerts()[0].active_at_ns, since);
    run_until(&manager, &world.clock, 1_000_700 * S);
    assert_eq!(manager.groups()[0].rules[0].state(), AlertState::Firing);
    for metric in ["r", "s"] {
        let last = world.samples(metric).pop().unwrap();
        assert_eq!(last.2, None, "{metric}");
    }
    // Nothing new: the same group goes on.
    manager.update(&files.source(&[("r.yml", second)])).unwrap();
    assert!(Arc::ptr_eq(&groups[0], &manager.groups()[0]));
}

#[test]
fn pending_time_survives_a_restart() {
    let world = World::new();
    world.clock.set_ns(2_000_000 * S);
    for second in (1_999_000..2_010_000).step_by(60) {
        world.load("__name__=up,job=a", second, 0.0);
    }
    let files = Files(tempfile::tempdir().unwrap());
    let text = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: up == 0, for: 30m}\n";
    let source = files.source(&[("r.yml", text)]);
    let before = Manager::new(world.environment());
    before.update(&source).unwrap();
    run_until(&before, &world.clock, 2_000_600 * S);
    let since_ns = before.groups()[0].rules[0].alerts()[0].active_at_ns;
    drop(before);
    world.clock.set_ns(2_001_200 * S);
    let after = Manager::new(world.environment());
    after.update(&source).unwrap();
    run_until(&after, &world.clock, 2_001_400 * S);
    let alert = after.groups()[0].rules[0].alerts().remove(0);
    let moved_s = (alert.active_at_ns - since_ns) / S;
    // The time from the last sample of before to the restore does not count.
    assert!((600..800).contains(&moved_s), "{moved_s}");
}

#[test]
fn runs_that_are_too_late_are_counted() {
    let world = World::new();
    world.clock.set_ns(3_000_000 * S);
    let files = Files(tempfile::tempdir().unwrap());
    let text = "groups:\n- name: g\n  interval: 10s\n  rules: [{record: r, expr: vector(1)}]\n";
    let manager = Manager::new(world.environment());
    manager.update(&files.source(&[("r.yml", text)])).unwrap();
    let due_ns = manager.run_due().unwrap();
    world.clock.set_ns(due_ns + 35 * S);
    let next_ns = manager.run_due().unwrap();
    assert_eq!(next_ns, due_ns + 40 * S);
    let figures = manager.groups()[0].figures();
    assert_eq!((figures.iterations, figures.missed), (4, 3));
    assert_eq!(world.samples("r")[0].1, (due_ns + 30 * S) / S);
}

#[test]
fn slots_are_those_of_prometheus() {
    let group = group("groups:\n- name: g\n  interval: 10s\n");
    let now_ns = 1_700_000_000 * S;
    let slot = group.slot(now_ns);
    assert!(slot <= now_ns && now_ns - slot < 10 * S);
    assert_eq!(group.slot(slot), slot);
    assert_eq!(group.slot(slot + 10 * S - 1), slot);
}
