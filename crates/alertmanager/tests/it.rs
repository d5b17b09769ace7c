//! The engine by a clock that is set, over a disk that loses and is killed.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_alertmanager::Config;
use kittiwake_alertmanager::alert::{Alert, Annotations};
use kittiwake_alertmanager::engine::{Delivery, Engine, EngineError, Options};
use kittiwake_alertmanager::matchers;
use kittiwake_alertmanager::silence::{Silence, SilenceState};
use kittiwake_env::{Clock, Fs, SeededRng, SimClock, SimFs};
use kittiwake_model::Labels;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_700_000_000 * SECOND;

const CONFIG: &str = "
route:
  receiver: a
  group_by: [alertname]
  group_wait: 10s
  group_interval: 1m
  repeat_interval: 1h
  routes:
  - matchers: [team=db]
    receiver: b
    continue: true
  - matchers: [team=~\"db|web\"]
    receiver: a
receivers:
- name: a
  webhook_configs: [{url: 'http://x/a'}]
- name: b
  webhook_configs: [{url: 'http://x/b', send_resolved: false}]
inhibit_rules:
- source_matchers: [severity=critical]
  target_matchers: [severity=warning]
  equal: [team]
";

struct World {
    fs: SimFs,
    clock: SimClock,
    engine: Engine,
}

fn open(fs: &SimFs, clock: &SimClock, options: Options) -> Result<Engine, EngineError> {
    let config = Config::parse(CONFIG, Path::new("/")).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    Engine::open(fs, &clock, Path::new("/am"), Arc::new(config), options)
}

impl World {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let (fs, clock) = (SimFs::new(1), SimClock::new(START));
        let engine = open(&fs, &clock, options).unwrap();
        Self { fs, clock, engine }
    }

    fn put(&mut self, labels: &[(&str, &str)], ends_s: i64) -> bool {
        let now_ns = self.clock.now_ns();
        let alert = Alert {
            labels: Labels::from_pairs(labels.iter().copied()).unwrap(),
            annotations: Annotations::from_pairs([("summary", "s")]),
            starts_ns: now_ns,
            ends_ns: now_ns + ends_s * SECOND,
            generator_url: String::new(),
            updated_ns: now_ns,
            is_timeout: false,
        };
        self.engine.put(alert, now_ns).unwrap()
    }

    /// Lets time pass, and takes what is due meanwhile; all is well received.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        let mut told = Vec::new();
        for second in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            let now_ns = self.clock.now_ns();
            for delivery in self.engine.poll(now_ns) {
                told.push(format!("{} {}", second + 1, shown(&delivery)));
                self.engine.delivered(&delivery, true, now_ns);
            }
        }
        told.sort();
        told
    }

    fn silence(&mut self, text: &str, seconds: i64) -> String {
        let now_ns = self.clock.now_ns();
        let silence = Silence {
            id: String::new(),
            matchers: matchers::parse(text).unwrap(),
            starts_ns: now_ns,
            ends_ns: now_ns + seconds * SECOND,
            updated_ns: 0,
            created_by: "me".to_owned(),
            comment: String::new(),
        };
        // Two of the same moment must not have the same name.
        let seed = now_ns as u64 + self.engine.silences().all().count() as u64;
        let mut rng = SeededRng::new(seed);
        let (id, sequence) = self.engine.set_silence(silence, now_ns, &mut rng).unwrap();
        self.engine.journal().sync(sequence).unwrap();
        id
    }

    fn reopen(&mut self) {
        self.engine = open(&self.fs, &self.clock, Options::default()).unwrap();
    }
}

fn shown(delivery: &Delivery) -> String {
    let alerts: Vec<String> = delivery
        .data
        .alerts
        .iter()
        .map(|told| {
            let name = told.alert.labels.get("n").unwrap_or("-");
            format!("{name}{}", if told.is_resolved { " over" } else { "" })
        })
        .collect();
    format!("{} [{}]", delivery.data.receiver, alerts.join(", "))
}

#[test]
fn groups_wait_then_tell_changes_then_repeat() {
    let mut world = World::new();
    world.put(&[("alertname", "x"), ("n", "1")], 10_000);
    assert_eq!(world.pass(9), [""; 0]);
    world.put(&[("alertname", "x"), ("n", "2")], 10_000);
    assert_eq!(world.pass(1), ["1 a [1, 2]"]);
    world.put(&[("alertname", "x"), ("n", "3")], 10_000);
    world.put(&[("alertname", "y"), ("n", "4")], 10_000);
    // The new group waits for itself, the old one for its interval.
    assert_eq!(world.pass(60), ["10 a [4]", "60 a [1, 2, 3]"]);
    assert_eq!(world.pass(3_500), [""; 0]);
    assert_eq!(world.pass(240).len(), 2);
}

#[test]
fn ends_are_told_once_and_only_to_those_who_want_them() {
    let mut world = World::new();
    let labels = [("alertname", "x"), ("team", "db"), ("n", "1")];
    world.put(&labels, 1_000);
    assert_eq!(world.pass(10), ["10 a [1]", "10 b [1]"]);
    world.put(&labels, 0);
    assert_eq!(world.pass(120), ["60 a [1 over]"]);
    // It fires once more: that is news to both.
    world.put(&labels, 1_000);
    let told = world.pass(70);
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn what_is_inhibited_or_silenced_is_not_told() {
    let mut world = World::new();
    let id = world.silence("n=1", 30);
    let of = |name, severity, n| {
        [
            ("alertname", name),
            ("team", "db"),
            ("severity", severity),
            ("n", n),
        ]
    };
    world.put(&of("x", "critical", "1"), 20);
    world.put(&of("y", "warning", "2"), 500);
    assert_eq!(world.pass(15), [""; 0]);
    // What inhibited is over by then, and the silence too.
    assert_eq!(world.pass(120), ["55 a [2]", "55 b [2]"]);
    let silence = world.engine.silences().get(&id).unwrap();
    assert_eq!(silence.state(world.clock.now_ns()), SilenceState::Expired);
}

#[test]
fn who_fails_is_told_again_and_holds_up_only_his_group() {
    let mut world = World::new();
    world.put(&[("alertname", "x"), ("n", "1")], 10_000);
    world.put(&[("alertname", "y"), ("n", "2")], 10_000);
    world.clock.advance(Duration::from_secs(10));
    let now_ns = world.clock.now_ns();
    let due = world.engine.poll(now_ns);
    assert_eq!(due.len(), 2);
    let (hangs, other): (Vec<_>, Vec<_>) = due.into_iter().partition(|d| shown(d) == "a [1]");
    world.engine.delivered(&other[0], true, now_ns);
    world.put(&[("alertname", "y"), ("n", "3")], 10_000);
    world.put(&[("alertname", "x"), ("n", "4")], 10_000);
    assert_eq!(world.pass(120), ["60 a [2, 3]"]);
    let now_ns = world.clock.now_ns();
    world.engine.delivered(&hangs[0], false, now_ns);
    assert_eq!(world.pass(1), ["1 a [1, 4]"]);
}

#[test]
fn a_kill_loses_nothing_and_repeats_nothing_that_was_taken() {
    let mut world = World::new();
    world.put(&[("alertname", "x"), ("n", "1")], 10_000);
    let id = world.silence("n=9", 1_000);
    assert_eq!(world.pass(10).len(), 1);
    world.put(&[("alertname", "z"), ("n", "2")], 10_000);
    world.fs.kill();
    world.reopen();
    // The alert that nobody was told of is told; the other one is known to have been.
    assert_eq!(world.pass(30), ["10 a [2]"]);
    assert!(world.engine.silences().get(&id).is_some());
    // An end that was reported, but not told, is told too.
    world.put(&[("alertname", "x"), ("n", "1")], 0);
    world.fs.kill();
    world.reopen();
    assert_eq!(world.pass(60), ["1 a [1 over]"]);
}

#[test]
fn a_power_cut_loses_no_silence() {
    for seed in 0..50 {
        let mut world = World::new();
        let first = world.silence("n=1", 1_000);
        world.put(&[("alertname", "x"), ("n", "1")], 10_000);
        let second = world.silence("n=2", 1_000);
        world.put(&[("alertname", "x"), ("n", "2")], 10_000);
        let now_ns = world.clock.now_ns();
        let sequence = world.engine.expire_silence(&first, now_ns).unwrap();
        world.engine.journal().sync(sequence).unwrap();
        world.put(&[("alertname", "x"), ("n", "3")], 10_000);
        world.fs.crash(&mut SeededRng::new(seed));
        world.clock.advance(Duration::from_secs(1));
        world.reopen();
        let now_ns = world.clock.now_ns();
        let state = |id: &str| world.engine.silences().get(id).unwrap().state(now_ns);
        assert_eq!(state(&first), SilenceState::Expired, "seed {seed}");
        assert_eq!(state(&second), SilenceState::Active, "seed {seed}");
        // What was written before the last sync is there as well.
        assert!(world.engine.active(now_ns).count() >= 2, "seed {seed}");
    }
}

#[test]
fn a_storm_is_bounded_and_counted() {
    let mut world = World::with(Options {
        alerts_max: 10,
        groups_max: 3,
        ..Options::default()
    });
    for at in 0..20 {
        let name = format!("x{}", at % 5);
        let taken = world.put(&[("alertname", &name), ("n", &at.to_string())], 10_000);
        assert_eq!(taken, at < 10);
    }
    assert_eq!(world.engine.sizes(), (10, 3, 0));
    let stats = world.engine.stats();
    let dropped = |labels| stats.get("alertmanager_dropped_total", labels);
    assert_eq!(dropped("reason=\"alerts\""), 10);
    assert_eq!(dropped("reason=\"groups\""), 4);
    assert_eq!(world.pass(10).len(), 3);
}

#[test]
fn a_long_life_does_not_grow_the_journal() {
    let mut world = World::new();
    for round in 0..400 {
        for at in 0..200 {
            let n = format!("{at} {}", "x".repeat(100));
            let ends_s = if round % 2 == 0 { 0 } else { 1_000 };
            world.put(&[("alertname", "x"), ("n", &n)], ends_s);
        }
        world.pass(31);
    }
    let bytes = world.engine.journal().bytes();
    assert!(bytes < 16 << 20, "{bytes} bytes");
    world.fs.kill();
    world.reopen();
    let now_ns = world.clock.now_ns();
    assert_eq!(world.engine.active(now_ns).count(), 200);
}

#[test]
fn any_of_several_alerts_inhibits() {
    // Alertmanager remembers one of them only (tests/deviations.md).
    let mut world = World::new();
    let source = |n| {
        [
            ("alertname", "s"),
            ("team", "ops"),
            ("severity", "critical"),
            ("n", n),
        ]
    };
    world.put(&source("1"), 5);
    world.put(&source("2"), 10_000);
    world.put(
        &[
            ("alertname", "t"),
            ("team", "ops"),
            ("severity", "warning"),
            ("n", "3"),
        ],
        10_000,
    );
    let told = world.pass(100);
    assert!(told.iter().all(|line| !line.contains('3')), "{told:?}");
}
