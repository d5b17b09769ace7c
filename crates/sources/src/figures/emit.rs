//! Figures to samples.

use kittiwake_model::Labels;

use super::Figures;
use crate::SeriesSet;

/// What does not change while a container runs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// When it was started, in s since the epoch; 0 when not known.
    pub start_seconds: f64,
    /// When it was made, in s since the epoch; 0 when not known.
    pub creation_seconds: f64,
}

/// Appends the samples of one container.
pub(crate) fn emit(
    figures: &Figures,
    limits: Limits,
    time_ms: i64,
    series: &mut SeriesSet,
    out: &mut Vec<(Labels, f64)>,
) {
    let mut push = |name: &str, extra: &[(&str, &str)], value: f64| {
        series.push(out, name, extra, value);
    };
    let f = figures;
    let seconds = |ns: u64| ns as f64 / 1e9;
    push(
        "container_cpu_usage_seconds_total",
        &[("cpu", "total")],
        seconds(f.cpu_usage_ns),
    );
    push(
        "container_cpu_user_seconds_total",
        &[],
        seconds(f.cpu_user_ns),
    );
    push(
        "container_cpu_system_seconds_total",
        &[],
        seconds(f.cpu_system_ns),
    );
    if let Some((periods, throttled, time_ns)) = f.cfs {
        push("container_cpu_cfs_periods_total", &[], periods as f64);
        push(
            "container_cpu_cfs_throttled_periods_total",
            &[],
            throttled as f64,
        );
        push(
            "container_cpu_cfs_throttled_seconds_total",
            &[],
            seconds(time_ns),
        );
    }
    if let Some((period_us, quota_us)) = f.cpu_quota_us {
        push("container_spec_cpu_period", &[], period_us as f64);
        push("container_spec_cpu_quota", &[], quota_us as f64);
    }
    let working_set = f
        .memory_usage_bytes
        .saturating_sub(f.memory_inactive_file_bytes);
    for (name, value) in [
        ("container_spec_cpu_shares", f.cpu_shares),
        ("container_memory_usage_bytes", Some(f.memory_usage_bytes)),
        ("container_memory_working_set_bytes", Some(working_set)),
        ("container_memory_rss", Some(f.memory_rss_bytes)),
        ("container_memory_cache", Some(f.memory_cache_bytes)),
        ("container_memory_swap", Some(f.memory_swap_bytes)),
        (
            "container_memory_mapped_file",
            Some(f.memory_mapped_file_bytes),
        ),
        (
            "container_memory_total_active_file_bytes",
            Some(f.memory_active_file_bytes),
        ),
        (
            "container_memory_total_inactive_file_bytes",
            Some(f.memory_inactive_file_bytes),
        ),
        ("container_memory_max_usage_bytes", f.memory_max_usage_bytes),
        ("container_memory_failcnt", f.memory_failcnt),
        (
            "container_spec_memory_limit_bytes",
            Some(f.memory_limit_bytes),
        ),
        (
            "container_spec_memory_swap_limit_bytes",
            Some(f.swap_limit_bytes),
        ),
        (
            "container_spec_memory_reservation_limit_bytes",
            Some(f.memory_reservation_bytes),
        ),
        ("container_oom_events_total", f.oom_kills),
        ("container_processes", f.processes),
        ("container_threads", f.threads.map(|t| t.0)),
        ("container_threads_max", f.threads.map(|t| t.1)),
    ] {
        if let Some(value) = value {
            push(name, &[], value as f64);
        }
    }
    for (kind, count) in [
        ("pgfault", f.page_faults.0),
        ("pgmajfault", f.page_faults.1),
    ] {
        let labels = [("failure_type", kind), ("scope", "hierarchy")];
        push("container_memory_failures_total", &labels, count as f64);
    }
    for d in &f.devices {
        let (major, minor) = (d.major.to_string(), d.minor.to_string());
        let device = [("device", d.device.as_str())];
        push(
            "container_fs_reads_bytes_total",
            &device,
            d.read_bytes as f64,
        );
        push(
            "container_fs_writes_bytes_total",
            &device,
            d.written_bytes as f64,
        );
        push("container_fs_reads_total", &device, d.reads as f64);
        push("container_fs_writes_total", &device, d.writes as f64);
        for (operation, bytes) in [("Read", d.read_bytes), ("Write", d.written_bytes)] {
            let labels = [
                ("device", d.device.as_str()),
                ("major", &major),
                ("minor", &minor),
                ("operation", operation),
            ];
            push("container_blkio_device_usage_total", &labels, bytes as f64);
        }
    }
    for (interface, n) in &f.networks {
        for (name, index) in [
            ("container_network_receive_bytes_total", 0),
            ("container_network_receive_packets_total", 1),
            ("container_network_receive_errors_total", 2),
            ("container_network_receive_packets_dropped_total", 3),
            ("container_network_transmit_bytes_total", 8),
            ("container_network_transmit_packets_total", 9),
            ("container_network_transmit_errors_total", 10),
            ("container_network_transmit_packets_dropped_total", 11),
        ] {
            push(name, &[("interface", interface.as_str())], n[index] as f64);
        }
    }
    push("container_last_seen", &[], (time_ms / 1000) as f64);
    if limits.start_seconds > 0.0 {
        push("container_start_time_seconds", &[], limits.start_seconds);
    }
    if limits.creation_seconds > 0.0 {
        push(
            "container_creation_time_seconds",
            &[],
            limits.creation_seconds,
        );
    }
}
