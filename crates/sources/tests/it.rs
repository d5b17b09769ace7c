//! The host's files, a container's cgroup of both versions, and a real engine.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_model::{Labels, is_stale_nan};
use kittiwake_sources::host::{Collect, HostReader};
use kittiwake_sources::{CgroupReader, DockerState, Gathered, LogReading, Settings, Status, run};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn value(samples: &[(Labels, f64)], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut found = samples.iter().filter(|(l, _)| {
        l.metric_name() == Some(name) && labels.iter().all(|(n, v)| l.get(n) == Some(v))
    });
    found.next().map(|(_, v)| *v)
}

#[test]
fn host_figures_are_named_and_scaled_as_node_exporters() {
    let dir = tempfile::tempdir().unwrap();
    let proc = dir.path().join("proc");
    write(
        &proc,
        "stat",
        "cpu  30 0 0 0 0 0 0 0 0 0\ncpu0 44490 19 21045 1087069 220 1 3410 7 2 1\nintr 8885917 17 0\n\
         ctxt 38014093\nbtime 1418183276\nprocesses 26442\nprocs_running 2\nprocs_blocked 0\n",
    );
    write(
        &proc,
        "meminfo",
        "MemTotal: 3742148 kB\nActive(anon): 2020004 kB\nHugePages_Free: 3\n",
    );
    write(&proc, "loadavg", "0.21 0.37 0.39 1/719 19737\n");
    write(
        &proc,
        "diskstats",
        "8 0 sda 25354637 34367663 1003346126 18492372 28444756 11134226 505697032 63877960 0 9653880 82621804\n8 1 sda1 1 1 1 1 1 1 1 1 1 1 1\n",
    );
    write(
        &proc,
        "1/net/dev",
        "h\nh\n eth0: 68210035552 520993275 1 2 0 0 0 0 9315587528 43451486 3 4 0 0 0 0\n",
    );
    write(
        &proc,
        "vmstat",
        "pgpgin 7344136\noom_kill 3\nnr_free_pages 5\n",
    );
    write(&proc, "sys/fs/file-nr", "1024\t0\t1631329\n");
    write(&proc, "sys/kernel/osrelease", "6.1.0\n");
    write(&proc, "sys/kernel/hostname", "h9\n");
    let settings = Settings {
        procfs: proc,
        sysfs: dir.path().join("sys"),
        ..Settings::default()
    };
    let mut out = Vec::new();
    let mut reader = HostReader::new(&settings, "h1");
    reader.collect(1_700_000_000_500, &mut out);
    let eth0 = [("device", "eth0")];
    let sda = [("device", "sda")];
    for (name, labels, wanted) in [
        (
            "node_cpu_seconds_total",
            &[("cpu", "0"), ("mode", "idle")][..],
            10870.69,
        ),
        ("node_cpu_guest_seconds_total", &[("mode", "nice")], 0.01),
        ("node_memory_MemTotal_bytes", &[], 3_831_959_552.0),
        ("node_memory_Active_anon_bytes", &[], 2_068_484_096.0),
        ("node_memory_HugePages_Free", &[], 3.0),
        ("node_load15", &[], 0.39),
        ("node_boot_time_seconds", &[], 1_418_183_276.0),
        ("node_time_seconds", &[], 1_700_000_000.5),
        ("node_intr_total", &[], 8_885_917.0),
        ("node_disk_read_bytes_total", &sda, 513_713_216_512.0),
        ("node_disk_io_time_seconds_total", &sda, 9653.88),
        ("node_network_receive_bytes_total", &eth0, 68_210_035_552.0),
        ("node_network_transmit_drop_total", &eth0, 4.0),
        ("node_vmstat_oom_kill", &[], 3.0),
        ("node_filefd_maximum", &[], 1_631_329.0),
        (
            "node_uname_info",
            &[("release", "6.1.0"), ("nodename", "h9")],
            1.0,
        ),
        (
            "up",
            &[("job", "node"), ("instance", "h1"), ("host", "h1")],
            1.0,
        ),
    ] {
        let found = value(&out, name, labels).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(
            (found - wanted).abs() <= wanted.abs() * 1e-12,
            "{name}: {found}, not {wanted}"
        );
    }
    assert_eq!(value(&out, "node_disk_io_now", &[("device", "sda1")]), None);
    assert_eq!(value(&out, "node_cpu_seconds_total", &[("cpu", "")]), None);
    let before = out.len();
    out.clear();
    reader.end(&mut out);
    assert_eq!(out.len(), before);
    assert!(out.iter().all(|(_, v)| is_stale_nan(*v)));
}

/// Every family that this machine's host gives is one that the real exporter has, with the
/// same label names.
#[test]
fn families_are_the_real_exporters() {
    let Some(file) = kittiwake_conformance::conformance("exporters/node_exporter.prom") else {
        return;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let mut theirs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        // Some families of theirs are listed without samples.
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let name = family.split(' ').next().unwrap();
            theirs.entry(name.to_owned()).or_default();
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let labels = theirs.entry(line[..end].to_owned()).or_default();
        if let Some((inside, _)) = line[end..]
            .strip_prefix('{')
            .and_then(|r| r.rsplit_once('}'))
        {
            let names = inside.split("\",").filter_map(|pair| pair.split_once('='));
            labels.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
    let mut out = Vec::new();
    HostReader::new(&Settings::default(), "h1").collect(0, &mut out);
    let (mut checked, mut absent) = (0, Vec::new());
    for (labels, _) in &out {
        let name = labels.metric_name().unwrap();
        let Some(wanted) = theirs.get(name) else {
            absent.push(name.to_owned());
            continue;
        };
        let ours = labels
            .iter()
            .map(|(n, _)| n)
            .filter(|n| !["__name__", "job", "instance", "host"].contains(n));
        for label in ours.filter(|_| !wanted.is_empty()) {
            assert!(wanted.contains(label), "{name} has no label {label}");
        }
        checked += 1;
    }
    absent.dedup();
    // Depends on the kernel that their data was taken from.
    absent.retain(|n| !n.starts_with("node_memory_") && !n.starts_with("node_uname") && n != "up");
    absent.retain(|n| !n.starts_with("node_vmstat_") && !n.starts_with("node_network_speed"));
    assert_eq!(absent, Vec::<String>::new());
    assert!(checked > 20, "only {checked} series compared");
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_cgroup_of_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let (proc, sys) = (dir.path().join("proc"), dir.path().join("sys"));
    write(
        &proc,
        "42/cgroup",
        &format!(
            "5:memory:/docker/{ID}\n4:cpu,cpuacct:/docker/{ID}\n3:blkio:/docker/{ID}\n2:pids:/docker/{ID}\n0::/\n"
        ),
    );
    write(
        &proc,
        "42/net/dev",
        "h\nlo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\neth0: 10 2 0 1 0 0 0 0 20 3 0 0 0 0 0 0\n",
    );
    let group = |mount: &str, file: &str| format!("fs/cgroup/{mount}/docker/{ID}/{file}");
    let cpu = |file| group("cpu,cpuacct", file);
    write(&sys, &cpu("cpuacct.usage"), "2500000000\n");
    write(&sys, &cpu("cpuacct.stat"), "user 150\nsystem 90\n");
    write(&sys, &cpu("cpu.cfs_quota_us"), "50000\n");
    write(&sys, &cpu("cpu.cfs_period_us"), "100000\n");
    write(&sys, &cpu("cpu.shares"), "512\n");
    write(
        &sys,
        &cpu("cpu.stat"),
        "nr_periods 9\nnr_throttled 4\nthrottled_time 5000000\n",
    );
    write(&sys, &cpu("cgroup.procs"), "42\n43\n");
    let memory = |file| group("memory", file);
    write(&sys, &memory("memory.usage_in_bytes"), "1000\n");
    write(
        &sys,
        &memory("memory.stat"),
        "cache 1\ntotal_cache 600\ntotal_rss 300\ntotal_inactive_file 400\n",
    );
    write(
        &sys,
        &memory("memory.limit_in_bytes"),
        "9223372036854771712\n",
    );
    write(&sys, &memory("memory.failcnt"), "7\n");
    write(
        &sys,
        &memory("memory.oom_control"),
        "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    );
    write(
        &sys,
        &group("blkio", "blkio.throttle.io_service_bytes_recursive"),
        "8:0 Read 4096\n8:0 Write 8192\nTotal 12288\n",
    );
    write(
        &sys,
        &group("blkio", "blkio.throttle.io_serviced_recursive"),
        "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
    );
    write(&sys, &group("pids", "pids.current"), "5\n");
    write(&sys, &group("pids", "pids.max"), "max\n");
    std::fs::create_dir_all(sys.join("dev/block")).unwrap();
    std::os::unix::fs::symlink("../../devices/x/sda", sys.join("dev/block/8:0")).unwrap();
    let mut reader = CgroupReader::find(&proc, &sys, ID, 42, true).unwrap();
    assert_eq!(reader.path, format!("/docker/{ID}"));
    let f = reader.read().unwrap();
    assert_eq!(
        (f.cpu_usage_ns, f.cpu_user_ns),
        (2_500_000_000, 1_500_000_000)
    );
    assert_eq!(f.cfs, Some((9, 4, 5_000_000)));
    assert_eq!(f.cpu_quota_us, Some((100_000, 50_000)));
    assert_eq!((f.memory_usage_bytes, f.memory_cache_bytes), (1000, 600));
    assert_eq!(
        (f.memory_limit_bytes, f.memory_failcnt, f.oom_kills),
        (0, Some(7), Some(2))
    );
    assert_eq!((f.processes, f.threads), (Some(2), Some((5, 0))));
    let d = &f.devices[0];
    assert_eq!(
        (d.device.as_str(), d.read_bytes, d.writes),
        ("/dev/sda", 4096, 2)
    );
    assert_eq!(f.networks.len(), 1);
    assert_eq!((f.networks[0].0.as_str(), f.networks[0].1[8]), ("eth0", 20));
}

#[test]
fn a_cgroup_of_version_2() {
    for member in [
        format!("0::/system.slice/docker-{ID}.scope\n"),
        "0::/\n".to_owned(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (proc, sys) = (dir.path().join("proc"), dir.path().join("sys"));
        write(&proc, "42/cgroup", &member);
        write(&sys, "fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
        let group = |file: &str| format!("fs/cgroup/system.slice/docker-{ID}.scope/{file}");
        write(
            &sys,
            &group("cpu.stat"),
            "usage_usec 2500000\nuser_usec 1500000\nsystem_usec 1000000\nnr_periods 9\nnr_throttled 4\nthrottled_usec 5000\n",
        );
        write(&sys, &group("cpu.max"), "50000 100000\n");
        write(&sys, &group("cpu.weight"), "100\n");
        write(&sys, &group("memory.current"), "1000\n");
        write(
            &sys,
            &group("memory.stat"),
            "anon 300\nfile 600\ninactive_file 400\npgfault 8\n",
        );
        write(&sys, &group("memory.max"), "max\n");
        write(
            &sys,
            &group("memory.events"),
            "low 0\nmax 7\noom 3\noom_kill 2\n",
        );
        write(
            &sys,
            &group("io.stat"),
            "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n",
        );
        write(&sys, &group("pids.current"), "5\n");
        write(&sys, &group("pids.max"), "20\n");
        let mut reader = CgroupReader::find(&proc, &sys, ID, 42, true).unwrap();
        assert_eq!(reader.path, format!("/system.slice/docker-{ID}.scope"));
        let f = reader.read().unwrap();
        assert_eq!(
            (f.cpu_usage_ns, f.cpu_system_ns),
            (2_500_000_000, 1_000_000_000)
        );
        assert_eq!(f.cfs, Some((9, 4, 5_000_000)));
        assert_eq!(f.cpu_shares, Some(2597));
        assert_eq!((f.memory_rss_bytes, f.memory_cache_bytes), (300, 600));
        assert_eq!((f.memory_limit_bytes, f.oom_kills), (0, Some(2)));
        assert_eq!(f.threads, Some((5, 20)));
        assert_eq!((f.devices[0].written_bytes, f.devices[0].reads), (8192, 1));
        std::fs::remove_dir_all(sys.join("fs/cgroup/system.slice")).unwrap();
        assert!(reader.read().is_err());
    }
}

/// The engine for tests, if there is one.
fn engine() -> Option<String> {
    let address =
        std::env::var("KITTIWAKE_TEST_DOCKER").unwrap_or("/var/run/docker.sock".to_owned());
    let path = address
        .strip_prefix("unix://")
        .unwrap_or(&address)
        .to_owned();
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Some(format!("unix://{path}"));
    }
    let required = std::env::var("E2E_DOCKER").is_ok_and(|v| v == "required");
    assert!(
        !required,
        "E2E_DOCKER=required, but there is no Docker engine at {path}"
    );
    println!("skipped: no Docker engine at {path}");
    None
}

fn docker(engine: &str, args: &[&str]) -> String {
    let out = Command::new("docker")
        .args(["-H", engine])
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "docker {args:?}: {errors}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// An image with busybox alone.
fn image(engine: &str) -> &'static str {
    let name = "kittiwake-test-busybox:local";
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", bin.join("sh")).unwrap();
    let tar = dir.path().join("image.tar");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(dir.path())
        .arg("-cf")
        .arg(&tar)
        .arg("bin")
        .status();
    assert!(packed.unwrap().success());
    docker(engine, &["import", tar.to_str().unwrap(), name]);
    name
}

/// What was gathered, by container.
#[derive(Default)]
struct Seen {
    lines: HashMap<(String, String), Vec<String>>,
    cursors: HashMap<String, Vec<u8>>,
    forgotten: Vec<String>,
    samples: Vec<(Labels, f64)>,
}

impl Seen {
    fn take(&mut self, gathered: Gathered) {
        match gathered {
            Gathered::Samples(batch) => self.samples.extend(batch.samples),
            Gathered::Forget { cursor } => {
                self.cursors.remove(&cursor);
                self.forgotten.push(cursor);
            }
            Gathered::Lines(batch) => {
                let label = |name| batch.stream.get(name).unwrap_or_default().to_owned();
                let all = self
                    .lines
                    .entry((label("container"), label("stream")))
                    .or_default();
                all.extend(batch.entries.into_iter().map(|e| e.line));
                self.cursors.extend(batch.cursor);
            }
        }
    }

    fn of(&self, container: &str, stream: &str) -> &[String] {
        self.lines
            .get(&(container.to_owned(), stream.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    async fn until(
        &mut self,
        from: &mut Receiver<Gathered>,
        what: &str,
        done: impl Fn(&Self) -> bool,
    ) {
        let all = async {
            while !done(self) {
                let Some(gathered) = from.recv().await else {
                    return;
                };
                self.take(gathered);
            }
        };
        let in_time = tokio::time::timeout(Duration::from_mins(1), all).await;
        assert!(in_time.is_ok() && done(self), "never seen: {what}");
    }
}

struct Running {
    from: Receiver<Gathered>,
    cancel: CancellationToken,
    status: Arc<Status>,
    task: tokio::task::JoinHandle<()>,
}

fn start(engine: &str, seen: &Seen) -> Running {
    start_below(engine, seen, Path::new("/"))
}

fn start_below(engine: &str, seen: &Seen, rootfs: &Path) -> Running {
    let settings = Settings {
        rootfs: rootfs.to_owned(),
        docker: engine.to_owned(),
        interval: Duration::from_secs(1),
        cursors: seen.cursors.clone(),
        ..Settings::default()
    };
    let (out, from) = tokio::sync::mpsc::channel(16);
    let cancel = CancellationToken::new();
    let status = Arc::new(Status::new());
    let task = tokio::spawn(run(settings, out, cancel.clone(), Arc::clone(&status)));
    Running {
        from,
        cancel,
        status,
        task,
    }
}

impl Running {
    async fn stop(self, seen: &mut Seen, keeps: bool) {
        let Self {
            mut from,
            cancel,
            task,
            ..
        } = self;
        cancel.cancel();
        while let Some(gathered) = from.recv().await {
            if keeps {
                seen.take(gathered);
            }
        }
        task.await.unwrap();
    }
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("{prefix} {n}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_a_real_engine() {
    let Some(engine) = engine() else { return };
    let image = image(&engine);
    let name = |what: &str| format!("kw-{what}-{}", std::process::id());
    let mut seen = Seen::default();
    let mut running = start(&engine, &seen);
    seen.until(&mut running.from, "the first collection", |s| {
        value(&s.samples, "up", &[("job", "node")]).is_some()
    })
    .await;
    for _ in 0..100 {
        if running.status.docker() == DockerState::Ok {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(running.status.docker(), DockerState::Ok);

    // One that is gone at once leaves its lines.
    let short = name("short");
    let (e, n) = (engine.clone(), short.clone());
    tokio::task::spawn_blocking(move || {
        docker(
            &e,
            &[
                "run",
                "--rm",
                "--network=none",
                "--name",
                &n,
                image,
                "/bin/busybox",
                "echo",
                "hello",
            ],
        )
    })
    .await
    .unwrap();
    seen.until(&mut running.from, "a short container's line", |s| {
        s.of(&short, "stdout") == ["hello"]
    })
    .await;

    // One that writes through rotations while the collection stops and starts.
    let long = name("long");
    let script = "i=1; while [ $i -le 4000 ]; do echo out $i; [ $((i%10)) = 0 ] && echo err $((i/10)) >&2; i=$((i+1)); [ $((i%400)) = 0 ] && /bin/busybox sleep 0.2; done; /bin/busybox sleep 60";
    let long_id = docker(
        &engine,
        &[
            "run",
            "-d",
            "--network=none",
            "--name",
            &long,
            "--label",
            "com.docker.compose.project=p",
            "--log-opt",
            "max-size=20k",
            "--log-opt",
            "max-file=40",
            image,
            "/bin/sh",
            "-c",
            script,
        ],
    );
    for stop in 1..=3 {
        let wanted = stop * 700;
        seen.until(&mut running.from, "more lines", |s| {
            s.of(&long, "stdout").len() >= wanted
        })
        .await;
        running.stop(&mut seen, stop % 2 == 0).await;
        running = start(&engine, &seen);
    }
    seen.until(&mut running.from, "all lines", |s| {
        s.of(&long, "stdout").len() >= 4000 && s.of(&long, "stderr").len() >= 400
    })
    .await;
    assert_eq!(seen.of(&long, "stdout"), numbered("out", 4000));
    assert_eq!(seen.of(&long, "stderr"), numbered("err", 400));
    let state = running
        .status
        .container_states()
        .into_iter()
        .find(|c| c.info.name == long)
        .unwrap();
    assert_eq!(state.logs, LogReading::Files, "{}", state.logs_reason);
    assert!(running.status.containers().iter().any(|c| c.name == long));

    // Its figures, and their end.
    seen.samples.clear();
    let labels = [
        ("name", long.as_str()),
        ("compose_project", "p"),
        ("job", "cadvisor"),
    ];
    seen.until(&mut running.from, "its figures", |s| {
        value(&s.samples, "container_memory_usage_bytes", &labels).is_some_and(|v| v > 0.0)
    })
    .await;
    let cpu = value(&seen.samples, "container_cpu_usage_seconds_total", &labels).unwrap();
    assert!(cpu > 0.0, "{cpu}");
    let start_time = value(&seen.samples, "container_start_time_seconds", &labels).unwrap();
    assert!(start_time > 1e9);
    seen.samples.clear();
    let (e, n) = (engine.clone(), long.clone());
    tokio::task::spawn_blocking(move || docker(&e, &["rm", "-f", &n]))
        .await
        .unwrap();
    seen.until(&mut running.from, "the end of its series", |s| {
        s.samples
            .iter()
            .any(|(l, v)| l.get("name") == Some(long.as_str()) && is_stale_nan(*v))
    })
    .await;
    let cursor = format!("docker/{long_id}");
    seen.until(&mut running.from, "its cursor's end", |s| {
        s.forgotten.contains(&cursor)
    })
    .await;
    assert!(!seen.cursors.contains_key(&cursor));

    // One whose log has no file.
    let other = name("other");
    let script = "echo one; echo two >&2; /bin/busybox sleep 60";
    let other_id = docker(
        &engine,
        &[
            "run",
            "-d",
            "--network=none",
            "--name",
            &other,
            "--log-driver=local",
            image,
            "/bin/sh",
            "-c",
            script,
        ],
    );
    seen.until(&mut running.from, "lines through the engine", |s| {
        s.of(&other, "stdout") == ["one"] && s.of(&other, "stderr") == ["two"]
    })
    .await;
    let state = running
        .status
        .container_states()
        .into_iter()
        .find(|c| c.info.name == other)
        .unwrap();
    assert_eq!(state.logs, LogReading::Api);
    running.stop(&mut seen, true).await;
    let mut running = start(&engine, &seen);
    docker(&engine, &["rm", "-f", &other]);
    let cursor = format!("docker/{other_id}");
    seen.until(&mut running.from, "its end", |s| {
        s.forgotten.contains(&cursor)
    })
    .await;
    assert_eq!(seen.of(&other, "stdout"), ["one"]);
    running.stop(&mut seen, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_without_their_files_come_through_the_engine() {
    let Some(engine) = engine() else { return };
    let image = image(&engine);
    // As for a user who may talk to the engine and read none of its files.
    let nothing = tempfile::tempdir().unwrap();
    let mut seen = Seen::default();
    let mut running = start_below(&engine, &seen, nothing.path());
    let name = format!("kw-api-{}", std::process::id());
    let script = "i=1; while [ $i -le 2000 ]; do echo out $i; [ $((i%10)) = 0 ] && \
                  echo err $((i/10)) >&2; i=$((i+1)); \
                  [ $((i%200)) = 0 ] && /bin/busybox sleep 0.2; done; /bin/busybox sleep 60";
    let options = [
        "run",
        "-d",
        "--network=none",
        "--name",
        &name,
        image,
        "/bin/sh",
        "-c",
        script,
    ];
    docker(&engine, &options);
    for stop in 1..=3 {
        let wanted = stop * 400;
        seen.until(&mut running.from, "more lines", |s| {
            s.of(&name, "stdout").len() >= wanted
        })
        .await;
        running.stop(&mut seen, stop % 2 == 0).await;
        running = start_below(&engine, &seen, nothing.path());
    }
    seen.until(&mut running.from, "all lines", |s| {
        s.of(&name, "stdout").len() >= 2000 && s.of(&name, "stderr").len() >= 200
    })
    .await;
    assert_eq!(seen.of(&name, "stdout"), numbered("out", 2000));
    assert_eq!(seen.of(&name, "stderr"), numbered("err", 200));
    let states = running.status.container_states();
    let state = states.into_iter().find(|c| c.info.name == name).unwrap();
    assert_eq!(state.logs, LogReading::Api);
    assert!(
        state.logs_reason.contains("cannot be read"),
        "{}",
        state.logs_reason
    );

    // With the files within reach again it goes on from the same cursor.
    running.stop(&mut seen, true).await;
    let mut running = start(&engine, &seen);
    let (e, n) = (engine.clone(), name.clone());
    tokio::task::spawn_blocking(move || docker(&e, &["restart", "-t", "0", &n]))
        .await
        .unwrap();
    seen.until(&mut running.from, "the lines of a second run", |s| {
        s.of(&name, "stdout").len() >= 4000 && s.of(&name, "stderr").len() >= 400
    })
    .await;
    let twice = [numbered("out", 2000), numbered("out", 2000)].concat();
    assert_eq!(seen.of(&name, "stdout"), twice);
    docker(&engine, &["rm", "-f", &name]);
    running.stop(&mut seen, true).await;
}

#[tokio::test]
async fn without_an_engine_the_host_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("none.sock");
    let mut seen = Seen::default();
    let mut running = start(address.to_str().unwrap(), &seen);
    seen.until(&mut running.from, "the host", |s| {
        value(&s.samples, "node_load1", &[]).is_some()
    })
    .await;
    for _ in 0..100 {
        if running.status.docker() != DockerState::Connecting {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wanted = format!("no Docker engine at {}", address.display());
    assert_eq!(running.status.docker(), DockerState::Unavailable(wanted));
    running.stop(&mut seen, true).await;
}
