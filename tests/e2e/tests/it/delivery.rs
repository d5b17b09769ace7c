//! From a container's log to an answered query, each line once and in order, whatever is
//! killed on the way.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::harness::{Collector, Container, Engine, PATIENCE, Random, Server};

/// Lines per stream.
const LINES: usize = 12_000;
/// A line is about this long in the engine's file, of which one holds some 600.
const ROTATION: [&str; 6] = [
    "--log-driver=json-file",
    "--log-opt=max-size=64k",
    "--log-opt=max-file=90",
    "--log-opt=compress=false",
    "--label=com.docker.compose.project=e2e",
    "--label=com.docker.compose.service=printer",
];
/// User and group ids that own nothing here.
const NOBODY: u32 = 64_123;

fn script() -> String {
    format!(
        "i=0; while [ $i -lt {LINES} ]; do \
         echo \"out line $i of the numbered lines\"; echo \"err line $i of the numbered lines\" >&2; \
         i=$((i+1)); [ $((i%100)) = 0 ] && usleep 60000; done; sleep 600"
    )
}

/// Kills one or the other at random while the container prints, then waits for all lines.
fn killed_at_random(user: Option<(u32, u32)>) {
    let Some(engine) = Engine::for_tests() else {
        return;
    };
    let mut random = Random::new();
    let dir = tempfile::tempdir().unwrap();
    if let Some((uid, _)) = user {
        std::os::unix::fs::chown(dir.path(), Some(uid), Some(uid)).unwrap();
    }
    let mut server = Server::start(dir.path(), None, &[]);
    let mut collector = Collector::start(dir.path(), &server, &engine, user);
    let container = engine.run("numbered", &ROTATION, &script());
    let api = server.api();
    let count = || -> usize {
        let of = |stream| api.lines(&selector(&container, stream)).len();
        of("stdout") + of("stderr")
    };
    let started = Instant::now();
    let (mut kills, mut seen) = (0, 0);
    // At least as often as this, and until all has been printed.
    while kills < 8 || (seen < 2 * LINES && started.elapsed() < PATIENCE) {
        std::thread::sleep(Duration::from_millis(300 + random.below(900)));
        if kills < 40 && random.below(2) == 0 {
            collector.program.kill();
            std::thread::sleep(Duration::from_millis(random.below(400)));
            collector.restart();
            kills += 1;
        } else if kills < 40 {
            server.program.kill();
            std::thread::sleep(Duration::from_millis(random.below(400)));
            server.restart();
            kills += 1;
        }
        seen = count();
    }
    eprintln!("{kills} kills, {:.1} s", started.elapsed().as_secs_f64());
    for (stream, word) in [("stdout", "out"), ("stderr", "err")] {
        let lines = api.lines(&selector(&container, stream));
        assert_numbered(&lines, word);
    }
    // The server is away, or was when the collector came back.
    let away = ["cannot be reached", "server", "delivery"];
    collector.program.assert_quiet(&away);
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
    assert!(collector.program.stop().success());
}

fn selector(container: &Container, stream: &str) -> String {
    format!("{{container=\"{}\",stream=\"{stream}\"}}", container.name)
}

fn assert_numbered(lines: &[(i64, String)], word: &str) {
    let want = |i: usize| format!("{word} line {i} of the numbered lines");
    let wrong = lines.iter().enumerate().find(|(i, (_, l))| *l != want(*i));
    let distinct: HashSet<&str> = lines.iter().map(|(_, l)| l.as_str()).collect();
    assert!(
        wrong.is_none() && lines.len() == LINES,
        "{word}: {} lines, {} of them distinct, wanted {LINES}; the first out of place: {wrong:?}",
        lines.len(),
        distinct.len(),
    );
}

#[test]
fn lines_are_stored_once_and_in_order_while_both_sides_are_killed() {
    killed_at_random(None);
}

#[test]
fn the_same_as_a_user_who_is_only_in_the_docker_group() {
    let Some(engine) = Engine::for_tests() else {
        return;
    };
    let group = std::fs::metadata(engine.socket()).unwrap().gid();
    killed_at_random(Some((NOBODY, group)));
}

#[test]
fn a_container_that_lives_a_moment_leaves_its_lines() {
    let Some(engine) = Engine::for_tests() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), Some(&engine), &[]);
    let api = server.api();
    crate::harness::wait_for("the collector to be there", || {
        api.value("container_last_seen{name=~\".+\"} or node_time_seconds")
            .or_else(|| (!api.instant("node_time_seconds").is_empty()).then_some(1.0))
    });
    // It removes itself, and its log with it, as soon as it ends.
    let script = "echo first; echo second; usleep 100000; echo last";
    let container = engine.run("moment", &["--rm"], script);
    let lines = crate::harness::wait_for("the lines of a container that is gone", || {
        let lines = api.lines(&selector(&container, "stdout"));
        (lines.len() >= 3).then_some(lines)
    });
    let lines: Vec<&str> = lines.iter().map(|(_, l)| l.as_str()).collect();
    assert_eq!(lines, ["first", "second", "last"]);
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}
