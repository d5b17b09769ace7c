//! cgroup v2 on a real kernel: a virtual machine runs Docker, the program and a container of
//! known load; what the program says of it must be what the container did.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Seconds in which the machine, whose processor is emulated, must be done.
const PATIENCE_SECONDS: &str = "600";
const MIB: f64 = 1_048_576.0;

/// The folder with the kernel, which `cargo xtask test` prepares.
fn prepared() -> Option<PathBuf> {
    if let Ok(dir) = std::env::var("KITTIWAKE_TEST_GUEST") {
        return Some(dir.into());
    }
    let is_required = std::env::var("E2E_DOCKER").is_ok_and(|v| v == "required");
    assert!(
        !is_required,
        "E2E_DOCKER=required, but KITTIWAKE_TEST_GUEST names no kernel: use cargo xtask test"
    );
    eprintln!("SKIPPED: no virtual machine for cgroup v2; cargo xtask test prepares one");
    None
}

fn succeed(command: &mut Command) {
    let out = command.output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {errors}");
}

/// The machine's first file system: what was prepared, and the program of today over it.
fn first_files(base: &Path, dir: &Path) -> PathBuf {
    let root = dir.join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest");
    std::fs::copy(here.join("load"), root.join("load")).unwrap();
    std::fs::copy(here.join("init"), root.join("init")).unwrap();
    let program = crate::harness::built("kittiwake");
    succeed(
        Command::new("strip")
            .arg("-o")
            .arg(root.join("bin/kittiwake"))
            .arg(&program),
    );
    let needed = Command::new("ldd").arg(&program).output().unwrap();
    let needed = String::from_utf8(needed.stdout).unwrap();
    for path in needed.split_whitespace().filter(|w| w.starts_with('/')) {
        let to = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    }
    let files = dir.join("files.cpio");
    let script = format!(
        "chmod +x init && cp '{}' '{to}' && find . | busybox cpio -o -H newc >> '{to}'",
        base.display(),
        to = files.display()
    );
    succeed(Command::new("sh").args(["-c", &script]).current_dir(&root));
    files
}

/// Starts the machine and gives what it printed, by the sections that `guest/init` names.
fn run_machine(prepared: &Path) -> HashMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let files = first_files(&prepared.join("base.cpio"), dir.path());
    let disk = dir.path().join("disk");
    std::fs::File::create(&disk)
        .unwrap()
        .set_len(2 << 30)
        .unwrap();
    succeed(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk));
    let out = Command::new("timeout")
        .args([
            PATIENCE_SECONDS,
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
        ])
        .args([
            "-smp",
            "2",
            "-m",
            "2048",
            "-nographic",
            "-no-reboot",
            "-net",
            "none",
        ])
        .args(["-cpu", "max", "-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(prepared.join("vmlinuz"))
        .arg("-initrd")
        .arg(&files)
        .arg("-drive")
        .arg(format!(
            "file={},format=raw,if=virtio,cache=unsafe",
            disk.display()
        ))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&out.stdout).replace('\r', "");
    let mut sections: HashMap<String, String> = HashMap::new();
    let mut section = None;
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            section = Some(name.to_owned());
            sections.entry(name.to_owned()).or_default();
        } else if let Some(name) = &section {
            let text = sections.get_mut(name).unwrap();
            text.push_str(line);
            text.push('\n');
        }
    }
    assert!(
        sections.contains_key("end"),
        "the machine did not come to its end: {printed}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    sections
}

/// The number behind a name, as `usage_usec 5012345` or `rbytes=4096`.
fn number(text: &str, name: &str, separator: char) -> f64 {
    let mut words = text.split(['\n', if separator == ' ' { '\n' } else { ' ' }]);
    let found = words.find_map(|w| w.strip_prefix(name)?.strip_prefix(separator));
    found
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn figures_of_cgroup_v2_agree_with_the_load() {
    let Some(prepared) = prepared() else {
        return;
    };
    let sections = run_machine(&prepared);
    let cgroup = &sections["cgroup"];
    assert!(
        cgroup.starts_with("cpuset cpu io memory"),
        "no cgroup v2: {cgroup}"
    );
    let series: Value = serde_json::from_str(sections["series"].trim()).unwrap();
    let series = series["data"]["result"].as_array().unwrap();
    let sum = |metric: &str| -> f64 {
        let of_metric = series.iter().filter(|s| s["metric"]["__name__"] == metric);
        let values: Vec<f64> = of_metric
            .map(|s| s["value"][1].as_str().unwrap().parse().unwrap())
            .collect();
        assert!(!values.is_empty(), "no {metric}");
        values.iter().sum()
    };
    let close = |what: &str, found: f64, want: f64, least: f64, most: f64| {
        eprintln!("{what}: {found}, by the cgroup {want}");
        assert!(
            (found - want).abs() <= want * 0.01,
            "{what}: {found}, not {want}"
        );
        assert!(
            (least..=most).contains(&found),
            "{what}: {found}, not {least} to {most}"
        );
    };
    let memory_at = cgroup.split("--- memory.current\n").nth(1).unwrap();
    let memory: f64 = memory_at.lines().next().unwrap().parse().unwrap();
    // What the container itself counted when its work was done; little came after.
    let lines = &sections["lines"];
    let told = lines.split("the load is done after ").nth(1);
    let told: Option<f64> = told.and_then(|t| t.split(" us").next()?.parse().ok());
    let worked = told.unwrap_or_else(|| panic!("no line of the load in {lines}")) / 1e6;
    let cpu = sum("container_cpu_usage_seconds_total");
    assert!(worked >= 5.0, "the load was {worked} s");
    close(
        "CPU",
        cpu,
        number(cgroup, "usage_usec", ' ') / 1e6,
        worked,
        worked + 0.5,
    );
    let found = sum("container_memory_usage_bytes");
    close("memory", found, memory, 48.0 * MIB, 60.0 * MIB);
    let written = sum("container_fs_writes_bytes_total");
    close(
        "written",
        written,
        number(cgroup, "wbytes", '='),
        16.0 * MIB,
        17.0 * MIB,
    );
    let read = sum("container_fs_reads_bytes_total");
    close(
        "read",
        read,
        number(cgroup, "rbytes", '='),
        16.0 * MIB,
        20.0 * MIB,
    );

    let log = &sections["log"];
    let is_loud = |l: &&str| l.contains("level=warn") || l.contains("level=error");
    assert_eq!(log.lines().find(is_loud), None);
}
