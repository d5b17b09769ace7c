//! The engine's own figures of a container, for where the cgroup's files cannot be read.

use bollard::models::{ContainerBlkioStatEntry, ContainerStatsResponse};

use super::{DeviceFigures, Figures};

/// Turns an answer of the engine into figures. An engine on cgroup v2 names memory as the
/// kernel does there; one on v1 has `total_` before the names.
pub(crate) fn from_stats(stats: &ContainerStatsResponse) -> Figures {
    let mut figures = Figures::default();
    if let Some(cpu) = &stats.cpu_stats {
        if let Some(usage) = &cpu.cpu_usage {
            figures.cpu_usage_ns = usage.total_usage.unwrap_or(0);
            figures.cpu_user_ns = usage.usage_in_usermode.unwrap_or(0);
            figures.cpu_system_ns = usage.usage_in_kernelmode.unwrap_or(0);
        }
        figures.cfs = cpu
            .throttling_data
            .as_ref()
            .map(|t| {
                let number = |n: Option<u64>| n.unwrap_or(0);
                (
                    number(t.periods),
                    number(t.throttled_periods),
                    number(t.throttled_time),
                )
            })
            .filter(|(periods, ..)| *periods > 0);
    }
    if let Some(memory) = &stats.memory_stats {
        figures.memory_usage_bytes = memory.usage.unwrap_or(0);
        figures.memory_max_usage_bytes = memory.max_usage;
        figures.memory_failcnt = memory.failcnt;
        figures.memory_limit_bytes = memory.limit.unwrap_or(0);
        let get = |names: [&str; 2]| {
            let stats = memory.stats.as_ref();
            names
                .iter()
                .find_map(|n| stats.and_then(|s| s.get(*n)).copied())
                .unwrap_or(0)
        };
        figures.memory_cache_bytes = get(["total_cache", "file"]);
        figures.memory_rss_bytes = get(["total_rss", "anon"]);
        figures.memory_swap_bytes = get(["total_swap", "swap"]);
        figures.memory_mapped_file_bytes = get(["total_mapped_file", "file_mapped"]);
        figures.memory_inactive_file_bytes = get(["total_inactive_file", "inactive_file"]);
        figures.memory_active_file_bytes = get(["total_active_file", "active_file"]);
        figures.page_faults = (
            get(["total_pgfault", "pgfault"]),
            get(["total_pgmajfault", "pgmajfault"]),
        );
    }
    if let Some(pids) = &stats.pids_stats {
        figures.threads = pids
            .current
            .map(|current| (current, pids.limit.unwrap_or(0)));
    }
    if let Some(blkio) = &stats.blkio_stats {
        for entry in blkio.io_service_bytes_recursive.iter().flatten() {
            add(&mut figures.devices, entry, |d| {
                (&mut d.read_bytes, &mut d.written_bytes)
            });
        }
        for entry in blkio.io_serviced_recursive.iter().flatten() {
            add(&mut figures.devices, entry, |d| {
                (&mut d.reads, &mut d.writes)
            });
        }
    }
    for (name, n) in stats.networks.iter().flatten() {
        let number = |n: Option<u64>| n.unwrap_or(0);
        let mut numbers = [0; 16];
        numbers[0] = number(n.rx_bytes);
        numbers[1] = number(n.rx_packets);
        numbers[2] = number(n.rx_errors);
        numbers[3] = number(n.rx_dropped);
        numbers[8] = number(n.tx_bytes);
        numbers[9] = number(n.tx_packets);
        numbers[10] = number(n.tx_errors);
        numbers[11] = number(n.tx_dropped);
        figures.networks.push((name.clone(), numbers));
    }
    figures.networks.sort();
    figures
}

fn add(
    devices: &mut Vec<DeviceFigures>,
    entry: &ContainerBlkioStatEntry,
    fields: impl Fn(&mut DeviceFigures) -> (&mut u64, &mut u64),
) {
    let number = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let (major, minor) = (number(entry.major), number(entry.minor));
    let device = super::cgroup::device_at(devices, major, minor);
    let (read, write) = fields(device);
    let value = entry.value.unwrap_or(0);
    match entry.op.as_deref() {
        Some("Read" | "read") => *read = value,
        Some("Write" | "write") => *write = value,
        _ => {}
    }
}
