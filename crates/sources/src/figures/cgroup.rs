//! Reading one container's cgroup, version 1 and 2.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{DeviceFigures, Figures};
use crate::proc;

/// Limits from here on mean that there is none.
const UNLIMITED_BYTES: u64 = 1 << 62;
/// Devices of one container that are read.
const DEVICES_MAX: usize = 256;
/// The unit of `cpuacct.stat`.
const TICK_NS: u64 = 10_000_000;

/// Reads a container's figures from the kernel's files.
#[derive(Debug)]
pub struct CgroupReader {
    /// The name that cAdvisor gives it: the cgroup's path below the mount.
    pub path: String,
    layout: Layout,
    net_dev: Option<PathBuf>,
    sysfs: PathBuf,
    device_names: HashMap<(u32, u32), String>,
    text: String,
}

#[derive(Debug)]
enum Layout {
    V1 {
        cpu: Option<PathBuf>,
        cpuacct: PathBuf,
        memory: PathBuf,
        blkio: Option<PathBuf>,
        pids: Option<PathBuf>,
    },
    V2 {
        dir: PathBuf,
    },
}

impl CgroupReader {
    /// Finds the cgroup of the container with this id, whose first process is `pid`. With
    /// `with_network` its network devices are read too. `None` when the files are not there or
    /// the process is not of this container.
    pub fn find(
        procfs: &Path,
        sysfs: &Path,
        id: &str,
        pid: i64,
        with_network: bool,
    ) -> Option<Self> {
        let mut text = String::new();
        let process = procfs.join(pid.to_string());
        let paths = match proc::read(&process.join("cgroup"), &mut text) {
            Ok(text) => membership(text),
            Err(_) => HashMap::new(),
        };
        let root = sysfs.join("fs/cgroup");
        let v2_root = [root.clone(), root.join("unified")]
            .into_iter()
            .find(|dir| dir.join("cgroup.controllers").exists());
        let net_dev = with_network
            .then(|| process.join("net/dev"))
            .filter(|p| p.exists());
        let reader = |path: String, layout| Self {
            path,
            layout,
            net_dev: net_dev.clone(),
            sysfs: sysfs.to_owned(),
            device_names: HashMap::new(),
            text: String::new(),
        };
        let v1 = |controller: &str| {
            let member = paths.get(controller);
            candidates(member.map(|(_, path)| path.as_str()), id).find_map(|path| {
                let mounts = [Some(controller), member.map(|(mount, _)| mount.as_str())];
                mounts.into_iter().flatten().find_map(|mount| {
                    let dir = below(&root.join(mount), &path);
                    dir.is_dir().then(|| (path.clone(), dir))
                })
            })
        };
        if let (Some((path, memory)), Some((_, cpuacct))) = (v1("memory"), v1("cpuacct")) {
            let dir = |controller| v1(controller).map(|(_, dir)| dir);
            let layout = Layout::V1 {
                cpu: dir("cpu"),
                cpuacct,
                memory,
                blkio: dir("blkio"),
                pids: dir("pids"),
            };
            return Some(reader(path, layout));
        }
        let v2_root = v2_root?;
        let member = paths.get("").map(|(_, path)| path.as_str());
        candidates(member, id).find_map(|path| {
            let dir = below(&v2_root, &path);
            let is_there = dir.join("cpu.stat").exists() && dir.join("memory.current").exists();
            is_there.then(|| reader(path, Layout::V2 { dir }))
        })
    }

    /// Reads the figures of now. Fails when the cgroup has gone.
    pub fn read(&mut self) -> io::Result<Figures> {
        let mut figures = Figures::default();
        match &self.layout {
            Layout::V1 {
                cpu,
                cpuacct,
                memory,
                blkio,
                pids,
            } => {
                let text = &mut self.text;
                read_v1_cpu(cpuacct, cpu.as_deref(), text, &mut figures)?;
                read_v1_memory(memory, text, &mut figures)?;
                if let Some(blkio) = blkio {
                    read_v1_blkio(blkio, text, &mut figures.devices);
                }
                read_pids(pids.as_deref(), cpuacct, text, &mut figures);
            }
            Layout::V2 { dir } => {
                let text = &mut self.text;
                read_v2_cpu(dir, text, &mut figures)?;
                read_v2_memory(dir, text, &mut figures)?;
                if let Ok(text) = proc::read(&dir.join("io.stat"), text) {
                    io_stat(text, &mut figures.devices);
                }
                read_pids(Some(dir), dir, text, &mut figures);
            }
        }
        for device in &mut figures.devices {
            let key = (device.major, device.minor);
            let name = self.device_names.entry(key).or_insert_with(|| {
                let link = format!("dev/block/{}:{}", key.0, key.1);
                let target = std::fs::read_link(self.sysfs.join(link)).ok();
                let name = target.as_deref().and_then(Path::file_name);
                name.map_or(String::new(), |n| format!("/dev/{}", n.to_string_lossy()))
            });
            device.device.clone_from(name);
        }
        if let Some(net_dev) = &self.net_dev
            && let Ok(text) = proc::read(net_dev, &mut self.text)
        {
            let devices = proc::net_dev(text).filter(|(name, _)| *name != "lo");
            figures
                .networks
                .extend(devices.map(|(name, n)| (name.to_owned(), n)));
        }
        Ok(figures)
    }
}

/// A process's cgroups: controller to (mount's name, path). Version 2 has the empty name.
fn membership(text: &str) -> HashMap<String, (String, String)> {
    let mut paths = HashMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        for controller in controllers.split(',') {
            paths.insert(
                controller.to_owned(),
                (controllers.to_owned(), path.to_owned()),
            );
        }
    }
    paths
}

/// Where a container's cgroup may be: as its process says, when that names the container (from
/// within a cgroup namespace it may not), else where Docker's two drivers put it.
fn candidates(member: Option<&str>, id: &str) -> impl Iterator<Item = String> {
    let member = member.filter(|path| path.contains(id) && !path.contains(".."));
    [
        member.map(str::to_owned),
        Some(format!("/docker/{id}")),
        Some(format!("/system.slice/docker-{id}.scope")),
    ]
    .into_iter()
    .flatten()
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn limit(value: Option<u64>) -> u64 {
    value.filter(|v| *v < UNLIMITED_BYTES).unwrap_or(0)
}

fn read_v1_cpu(
    cpuacct: &Path,
    cpu: Option<&Path>,
    text: &mut String,
    figures: &mut Figures,
) -> io::Result<()> {
    let usage = proc::read(&cpuacct.join("cpuacct.usage"), text)?;
    figures.cpu_usage_ns = usage.trim().parse().unwrap_or(0);
    for (name, ticks) in proc::pairs(proc::read(&cpuacct.join("cpuacct.stat"), text)?) {
        match name {
            "user" => figures.cpu_user_ns = ticks.saturating_mul(TICK_NS),
            "system" => figures.cpu_system_ns = ticks.saturating_mul(TICK_NS),
            _ => {}
        }
    }
    let Some(cpu) = cpu else {
        return Ok(());
    };
    figures.cpu_shares = proc::read_number(&cpu.join("cpu.shares"), text);
    // -1 is no quota.
    if let Some(quota) = proc::read_number(&cpu.join("cpu.cfs_quota_us"), text) {
        let period = proc::read_number(&cpu.join("cpu.cfs_period_us"), text).unwrap_or(0);
        figures.cpu_quota_us = Some((period, quota));
        let mut cfs = (0, 0, 0);
        for (name, value) in proc::pairs(proc::read(&cpu.join("cpu.stat"), text)?) {
            match name {
                "nr_periods" => cfs.0 = value,
                "nr_throttled" => cfs.1 = value,
                "throttled_time" => cfs.2 = value,
                _ => {}
            }
        }
        figures.cfs = Some(cfs);
    }
    Ok(())
}

fn read_v1_memory(dir: &Path, text: &mut String, figures: &mut Figures) -> io::Result<()> {
    let usage = proc::read(&dir.join("memory.usage_in_bytes"), text)?;
    figures.memory_usage_bytes = usage.trim().parse().unwrap_or(0);
    for (name, value) in proc::pairs(proc::read(&dir.join("memory.stat"), text)?) {
        match name {
            "total_cache" => figures.memory_cache_bytes = value,
            "total_rss" => figures.memory_rss_bytes = value,
            "total_swap" => figures.memory_swap_bytes = value,
            "total_mapped_file" => figures.memory_mapped_file_bytes = value,
            "total_inactive_file" => figures.memory_inactive_file_bytes = value,
            "total_active_file" => figures.memory_active_file_bytes = value,
            "total_pgfault" => figures.page_faults.0 = value,
            "total_pgmajfault" => figures.page_faults.1 = value,
            _ => {}
        }
    }
    let mut number = |name: &str| proc::read_number(&dir.join(name), text);
    figures.memory_max_usage_bytes = number("memory.max_usage_in_bytes");
    figures.memory_failcnt = number("memory.failcnt");
    figures.memory_limit_bytes = limit(number("memory.limit_in_bytes"));
    figures.swap_limit_bytes = limit(number("memory.memsw.limit_in_bytes"));
    figures.memory_reservation_bytes = limit(number("memory.soft_limit_in_bytes"));
    if let Ok(text) = proc::read(&dir.join("memory.oom_control"), text) {
        figures.oom_kills = proc::pairs(text)
            .find(|(n, _)| *n == "oom_kill")
            .map(|(_, v)| v);
    }
    Ok(())
}

/// Which of these files counts depends on the disks' scheduler and on the kernel.
const V1_BLKIO: [&str; 5] = [
    "bfq.{}_recursive",
    "{}_recursive",
    "throttle.{}_recursive",
    "throttle.{}",
    "{}",
];

fn read_v1_blkio(dir: &Path, text: &mut String, devices: &mut Vec<DeviceFigures>) {
    let file = |pattern: &str, what| dir.join(format!("blkio.{}", pattern.replace("{}", what)));
    for pattern in V1_BLKIO {
        if let Ok(read) = proc::read(&file(pattern, "io_service_bytes"), text) {
            blkio(read, devices, |d| (&mut d.read_bytes, &mut d.written_bytes));
        }
        // The total is there without any device.
        if devices.is_empty() {
            continue;
        }
        if let Ok(text) = proc::read(&file(pattern, "io_serviced"), text) {
            blkio(text, devices, |d| (&mut d.reads, &mut d.writes));
        }
        return;
    }
}

/// Lines `8:0 Read 4096`; the last, `Total 4096`, has no device.
fn blkio(
    text: &str,
    devices: &mut Vec<DeviceFigures>,
    fields: impl Fn(&mut DeviceFigures) -> (&mut u64, &mut u64),
) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some((major, minor)), Some(operation), Some(Ok(value))) = (
            words.next().and_then(device_number),
            words.next(),
            words.next().map(str::parse),
        ) else {
            continue;
        };
        let (read, write) = fields(device_at(devices, major, minor));
        match operation {
            "Read" => *read = value,
            "Write" => *write = value,
            _ => {}
        }
    }
}

fn read_v2_cpu(dir: &Path, text: &mut String, figures: &mut Figures) -> io::Result<()> {
    let mut cfs = (0, 0, 0);
    for (name, value) in proc::pairs(proc::read(&dir.join("cpu.stat"), text)?) {
        let ns = value.saturating_mul(1000);
        match name {
            "usage_usec" => figures.cpu_usage_ns = ns,
            "user_usec" => figures.cpu_user_ns = ns,
            "system_usec" => figures.cpu_system_ns = ns,
            "nr_periods" => cfs.0 = value,
            "nr_throttled" => cfs.1 = value,
            "throttled_usec" => cfs.2 = ns,
            _ => {}
        }
    }
    if let Ok(text) = proc::read(&dir.join("cpu.max"), text) {
        let mut fields = text.split_ascii_whitespace().map(|f| f.parse().ok());
        if let (Some(Some(quota)), Some(Some(period))) = (fields.next(), fields.next()) {
            figures.cpu_quota_us = Some((period, quota));
            figures.cfs = Some(cfs);
        }
    }
    // The kernel's weight 1..10000 stands for shares 2..262144.
    let weight = proc::read_number(&dir.join("cpu.weight"), text);
    figures.cpu_shares = weight.map(|w| 2 + w.clamp(1, 10_000).saturating_sub(1) * 262_142 / 9_999);
    Ok(())
}

fn read_v2_memory(dir: &Path, text: &mut String, figures: &mut Figures) -> io::Result<()> {
    let usage = proc::read(&dir.join("memory.current"), text)?;
    figures.memory_usage_bytes = usage.trim().parse().unwrap_or(0);
    for (name, value) in proc::pairs(proc::read(&dir.join("memory.stat"), text)?) {
        match name {
            "file" => figures.memory_cache_bytes = value,
            "anon" => figures.memory_rss_bytes = value,
            "file_mapped" => figures.memory_mapped_file_bytes = value,
            "inactive_file" => figures.memory_inactive_file_bytes = value,
            "active_file" => figures.memory_active_file_bytes = value,
            "pgfault" => figures.page_faults.0 = value,
            "pgmajfault" => figures.page_faults.1 = value,
            _ => {}
        }
    }
    let mut number = |name: &str| proc::read_number(&dir.join(name), text);
    figures.memory_max_usage_bytes = number("memory.peak");
    figures.memory_swap_bytes = number("memory.swap.current").unwrap_or(0);
    figures.memory_limit_bytes = limit(number("memory.max"));
    figures.swap_limit_bytes = limit(number("memory.swap.max"));
    figures.memory_reservation_bytes = limit(number("memory.low"));
    if let Ok(text) = proc::read(&dir.join("memory.events"), text) {
        for (name, value) in proc::pairs(text) {
            match name {
                "oom_kill" => figures.oom_kills = Some(value),
                "max" => figures.memory_failcnt = Some(value),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Lines `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io_stat(text: &str, devices: &mut Vec<DeviceFigures>) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device_number) else {
            continue;
        };
        let device = device_at(devices, major, minor);
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let field = match name {
                "rbytes" => &mut device.read_bytes,
                "wbytes" => &mut device.written_bytes,
                "rios" => &mut device.reads,
                "wios" => &mut device.writes,
                _ => continue,
            };
            *field = value.parse().unwrap_or(0);
        }
    }
}

fn read_pids(pids: Option<&Path>, procs: &Path, text: &mut String, figures: &mut Figures) {
    if let Some(pids) = pids
        && let Some(current) = proc::read_number(&pids.join("pids.current"), text)
    {
        let max = proc::read_number(&pids.join("pids.max"), text).unwrap_or(0);
        figures.threads = Some((current, max));
    }
    if let Ok(text) = proc::read(&procs.join("cgroup.procs"), text) {
        figures.processes = Some(text.lines().count() as u64);
    }
}

fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The figures of a device, added when they are new. Beyond [`DEVICES_MAX`] the last is used.
pub(super) fn device_at(
    devices: &mut Vec<DeviceFigures>,
    major: u32,
    minor: u32,
) -> &mut DeviceFigures {
    let found = devices
        .iter()
        .position(|d| (d.major, d.minor) == (major, minor));
    let index = found.unwrap_or_else(|| {
        if devices.len() < DEVICES_MAX {
            devices.push(DeviceFigures {
                major,
                minor,
                ..DeviceFigures::default()
            });
        }
        devices.len() - 1
    });
    &mut devices[index]
}
