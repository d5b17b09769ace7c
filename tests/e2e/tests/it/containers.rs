//! A busy container's figures against its cgroup.

use std::path::{Path, PathBuf};

use crate::harness::{Engine, Server, wait_for};

/// What the container writes and reads past the page cache.
const BLOCK_BYTES: u64 = 24 << 20;

/// Works on processor, memory and disk, then does nothing, so that counters stand still.
const SCRIPT: &str = "dd if=/dev/zero of=/data bs=1M count=24 oflag=direct; \
    dd if=/data of=/dev/null bs=1M iflag=direct; \
    dd if=/dev/zero of=/dev/shm/held bs=1M count=40; \
    i=0; while [ $i -lt 2000000 ]; do i=$((i+1)); done; echo done; sleep 600";

/// A file of a container's cgroup, of either version.
fn cgroup_file(id: &str, controller: &str, name: &str) -> Option<PathBuf> {
    let roots = [
        format!("/sys/fs/cgroup/{controller}/docker/{id}"),
        format!("/sys/fs/cgroup/docker/{id}"),
        format!("/sys/fs/cgroup/system.slice/docker-{id}.scope"),
    ];
    let mut paths = roots.iter().map(|root| Path::new(root).join(name));
    paths.find(|path| path.is_file())
}

fn read(id: &str, controller: &str, name: &str) -> Option<String> {
    std::fs::read_to_string(cgroup_file(id, controller, name)?).ok()
}

/// The field of a file with a name and a number per line.
fn field(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().map(|l| l.split_once(' '));
    let found = lines.find_map(|l| l.filter(|(n, _)| *n == name))?;
    found.1.parse().ok()
}

fn cpu_seconds(id: &str) -> f64 {
    if let Some(text) = read(id, "cpuacct", "cpuacct.usage") {
        return text.trim().parse::<f64>().unwrap() / 1e9;
    }
    field(&read(id, "", "cpu.stat").unwrap(), "usage_usec").unwrap() / 1e6
}

fn memory_bytes(id: &str) -> f64 {
    let text = read(id, "memory", "memory.usage_in_bytes");
    let text = text.or_else(|| read(id, "", "memory.current"));
    text.unwrap().trim().parse().unwrap()
}

/// Bytes written and read, over all devices.
fn block_bytes(id: &str) -> (f64, f64) {
    let v1 = read(id, "blkio", "blkio.throttle.io_service_bytes_recursive");
    let v2 = || read(id, "", "io.stat");
    let text = v1.or_else(v2).unwrap();
    let (mut written, mut read) = (0.0, 0.0);
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [_, kind, bytes] = words[..] {
            let bytes: f64 = bytes.parse().unwrap_or(0.0);
            match kind {
                "Write" => written += bytes,
                "Read" => read += bytes,
                _ => {}
            }
        }
        for word in words {
            let number = |prefix| {
                word.strip_prefix(prefix)
                    .and_then(|n| n.parse::<f64>().ok())
            };
            written += number("wbytes=").unwrap_or(0.0);
            read += number("rbytes=").unwrap_or(0.0);
        }
    }
    (written, read)
}

fn assert_close(what: &str, found: f64, want: f64) {
    let off = (found - want).abs() / want.max(1.0);
    eprintln!(
        "{what}: {found}, by the cgroup {want}, off by {:.3} %",
        off * 100.0
    );
    assert!(off <= 0.01, "{what}: {found} is not within 1 % of {want}");
}

#[test]
fn figures_agree_with_the_cgroup() {
    let Some(engine) = Engine::for_tests() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), Some(&engine), &[]);
    let api = server.api();
    let limits = engine.block_limits();
    let limits: Vec<&str> = limits.iter().map(String::as_str).collect();
    let container = engine.run("busy", &limits, SCRIPT);
    wait_for("the container's work", || {
        container.logs().ends_with("done").then_some(())
    });
    // The figures of a collection that began after the work was done.
    let name = &container.name;
    let now = || api.value("vector(time())").unwrap();
    let done_at = now();
    wait_for("a collection after the work", || {
        let seen = api.value(&format!("container_last_seen{{name=\"{name}\"}}"))?;
        (seen > done_at + 1.0).then_some(())
    });
    let value = |metric: &str| {
        let query = format!("sum({metric}{{name=\"{name}\"}})");
        api.value(&query).unwrap_or_else(|| panic!("no {metric}"))
    };
    let id = &container.id;
    let cpu = value("container_cpu_usage_seconds_total");
    assert_close("CPU", cpu, cpu_seconds(id));
    assert!(cpu > 0.5, "the container worked for {cpu} s only");
    let memory = value("container_memory_usage_bytes");
    assert_close("memory", memory, memory_bytes(id));
    assert!(
        memory > f64::from(40 << 20),
        "it holds 40 MiB, not {memory}"
    );
    let (written, read) = block_bytes(id);
    assert_close("written", value("container_fs_writes_bytes_total"), written);
    assert_close("read", value("container_fs_reads_bytes_total"), read);
    assert!(
        written >= BLOCK_BYTES as f64,
        "{written} bytes were written"
    );
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}
