//! CPU, memory, load, processes and the kernel itself.

use std::path::Path;

use super::Sink;
use crate::proc;

/// The unit of CPU times in `/proc/stat`: 1/100 s on every Linux that we run on.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

const MODES: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];

pub(super) fn collect(procfs: &Path, text: &mut String, time_ms: i64, sink: &mut Sink<'_>) {
    sink.push("node_time_seconds", &[], time_ms as f64 / 1000.0);
    if let Ok(text) = proc::read(&procfs.join("stat"), text) {
        stat(text, sink);
    }
    if let Ok(text) = proc::read(&procfs.join("meminfo"), text) {
        meminfo(text, sink);
    }
    if let Ok(text) = proc::read(&procfs.join("loadavg"), text) {
        let names = ["node_load1", "node_load5", "node_load15"];
        for (name, load) in names.iter().zip(text.split_ascii_whitespace()) {
            if let Ok(load) = load.parse() {
                sink.push(name, &[], load);
            }
        }
    }
    if let Ok(text) = proc::read(&procfs.join("vmstat"), text) {
        vmstat(text, sink);
    }
    if let Ok(text) = proc::read(&procfs.join("sys/fs/file-nr"), text) {
        let mut fields = text.split_ascii_whitespace();
        let (allocated, maximum) = (fields.next(), fields.nth(1));
        for (name, field) in [
            ("node_filefd_allocated", allocated),
            ("node_filefd_maximum", maximum),
        ] {
            if let Some(value) = field.and_then(|f| f.parse().ok()) {
                sink.push(name, &[], value);
            }
        }
    }
    for (resource, has_stalled) in [("cpu", false), ("io", true), ("memory", true)] {
        if let Ok(text) = proc::read(&procfs.join("pressure").join(resource), text) {
            pressure(resource, has_stalled, text, sink);
        }
    }
    uname(procfs, text, sink);
}

fn stat(text: &str, sink: &mut Sink<'_>) {
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let Some(name) = fields.next() else { continue };
        if let Some(cpu) = name.strip_prefix("cpu") {
            if cpu.is_empty() {
                continue;
            }
            for mode in MODES {
                if let Some(ticks) = fields.next().and_then(|f| f.parse::<f64>().ok()) {
                    let labels = [("cpu", cpu), ("mode", mode)];
                    sink.push("node_cpu_seconds_total", &labels, ticks / TICKS_PER_SECOND);
                }
            }
            for mode in ["user", "nice"] {
                if let Some(ticks) = fields.next().and_then(|f| f.parse::<f64>().ok()) {
                    let labels = [("cpu", cpu), ("mode", mode)];
                    let seconds = ticks / TICKS_PER_SECOND;
                    sink.push("node_cpu_guest_seconds_total", &labels, seconds);
                }
            }
            continue;
        }
        let name = match name {
            "intr" => "node_intr_total",
            "ctxt" => "node_context_switches_total",
            "processes" => "node_forks_total",
            "btime" => "node_boot_time_seconds",
            "procs_running" => "node_procs_running",
            "procs_blocked" => "node_procs_blocked",
            _ => continue,
        };
        if let Some(value) = fields.next().and_then(|f| f.parse().ok()) {
            sink.push(name, &[], value);
        }
    }
}

fn meminfo(text: &str, sink: &mut Sink<'_>) {
    let mut name = String::new();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(key), Some(value)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        name.clear();
        name.push_str("node_memory_");
        for c in key.trim_end_matches(':').chars() {
            match c {
                '(' => name.push('_'),
                ')' => {}
                other => name.push(other),
            }
        }
        if fields.next() == Some("kB") {
            name.push_str("_bytes");
            sink.push(&name, &[], value * 1024.0);
        } else {
            sink.push(&name, &[], value);
        }
    }
}

fn vmstat(text: &str, sink: &mut Sink<'_>) {
    let mut name = String::new();
    for (key, value) in proc::pairs(text) {
        let is_wanted = key.starts_with("oom_kill")
            || key.starts_with("pgpg")
            || key.starts_with("pswp")
            || (key.starts_with("pg") && key.contains("fault"));
        if is_wanted {
            name.clear();
            name.push_str("node_vmstat_");
            name.push_str(key);
            sink.push(&name, &[], value as f64);
        }
    }
}

fn pressure(resource: &str, has_stalled: bool, text: &str, sink: &mut Sink<'_>) {
    for line in text.lines() {
        let what = match line.split_ascii_whitespace().next() {
            Some("some") => "waiting",
            Some("full") if has_stalled => "stalled",
            _ => continue,
        };
        let total = line
            .rsplit_once("total=")
            .and_then(|(_, total)| total.trim().parse().ok());
        if let Some(total_us) = total.map(|t: u64| t as f64) {
            let name = format!("node_pressure_{resource}_{what}_seconds_total");
            sink.push(&name, &[], total_us / 1e6);
        }
    }
}

fn uname(procfs: &Path, text: &mut String, sink: &mut Sink<'_>) {
    let mut read = |name: &str| {
        let path = procfs.join("sys/kernel").join(name);
        proc::read(&path, text).map_or(String::new(), |text| text.trim().to_owned())
    };
    let (sysname, release, version) = (read("ostype"), read("osrelease"), read("version"));
    let (nodename, domainname) = (read("hostname"), read("domainname"));
    if release.is_empty() {
        return;
    }
    let machine = rustix::system::uname();
    let labels = [
        ("sysname", sysname.as_str()),
        ("release", &release),
        ("version", &version),
        ("machine", &machine.machine().to_string_lossy()),
        ("nodename", &nodename),
        ("domainname", &domainname),
    ];
    sink.push("node_uname_info", &labels, 1.0);
}
