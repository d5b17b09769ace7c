//! Block devices, from `/proc/diskstats`.

use std::path::Path;

use super::Sink;
use crate::proc;

/// Sectors in `diskstats` are of this size, whatever the device has.
const SECTOR_BYTES: f64 = 512.0;

/// The fields behind a device's name, with the factor to the unit of the figure's name.
const FIGURES: [(&str, f64); 17] = [
    ("node_disk_reads_completed_total", 1.0),
    ("node_disk_reads_merged_total", 1.0),
    ("node_disk_read_bytes_total", SECTOR_BYTES),
    ("node_disk_read_time_seconds_total", 0.001),
    ("node_disk_writes_completed_total", 1.0),
    ("node_disk_writes_merged_total", 1.0),
    ("node_disk_written_bytes_total", SECTOR_BYTES),
    ("node_disk_write_time_seconds_total", 0.001),
    ("node_disk_io_now", 1.0),
    ("node_disk_io_time_seconds_total", 0.001),
    ("node_disk_io_time_weighted_seconds_total", 0.001),
    ("node_disk_discards_completed_total", 1.0),
    ("node_disk_discards_merged_total", 1.0),
    ("node_disk_discarded_sectors_total", 1.0),
    ("node_disk_discard_time_seconds_total", 0.001),
    ("node_disk_flush_requests_total", 1.0),
    ("node_disk_flush_requests_time_seconds_total", 0.001),
];

pub(super) fn collect(procfs: &Path, text: &mut String, sink: &mut Sink<'_>) {
    let Ok(text) = proc::read(&procfs.join("diskstats"), text) else {
        return;
    };
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let Some(device) = fields.next().filter(|device| !is_left_out(device)) else {
            continue;
        };
        for ((name, factor), field) in FIGURES.iter().zip(fields) {
            if let Ok(value) = field.parse::<f64>() {
                sink.push(name, &[("device", device)], value * factor);
            }
        }
    }
}

/// node_exporter's default: `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`.
fn is_left_out(device: &str) -> bool {
    let stem = device.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == device.len() {
        return false;
    }
    if matches!(stem, "ram" | "zram" | "loop" | "fd") {
        return true;
    }
    if let Some(namespace) = stem.strip_prefix("nvme").and_then(|s| s.strip_suffix('p')) {
        return namespace
            .split_once('n')
            .is_some_and(|(controller, number)| {
                [controller, number]
                    .iter()
                    .all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            });
    }
    let letter = ["hd", "sd", "vd", "xvd"]
        .iter()
        .find_map(|p| stem.strip_prefix(p));
    letter.is_some_and(|l| l.len() == 1 && l.bytes().all(|b| b.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_memory_devices_are_left_out() {
        for device in [
            "ram0",
            "zram1",
            "loop12",
            "fd0",
            "sda1",
            "xvdb2",
            "nvme0n1p3",
            "vdz9",
        ] {
            assert!(is_left_out(device), "{device}");
        }
        for device in [
            "sda",
            "nvme0n1",
            "dm-0",
            "mmcblk0p1",
            "sr0",
            "md127",
            "sdaa1",
            "vda",
        ] {
            assert!(!is_left_out(device), "{device}");
        }
    }
}
