//! Mounted file systems.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use kittiwake_model::Labels;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{Collect, Sink, base_labels};
use crate::{SeriesSet, Settings, proc};

/// Types that hold no data of their own; node_exporter's default.
const TYPES_LEFT_OUT: [&str; 26] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "fuse.lxcfs",
];

/// Reads how full the mounted file systems are.
#[derive(Debug)]
pub struct FilesystemReader {
    procfs: PathBuf,
    rootfs: PathBuf,
    series: SeriesSet,
    text: String,
}

impl FilesystemReader {
    /// A reader of this host's mounts.
    pub fn new(settings: &Settings, host: &str) -> Self {
        Self {
            procfs: settings.procfs.clone(),
            rootfs: settings.rootfs.clone(),
            series: SeriesSet::new(base_labels(host)),
            text: String::new(),
        }
    }
}

impl Collect for FilesystemReader {
    fn collect(&mut self, _time_ms: i64, out: &mut Vec<(Labels, f64)>) {
        let paths = [self.procfs.join("1/mounts"), self.procfs.join("mounts")];
        let found = paths
            .iter()
            .any(|path| proc::read(path, &mut self.text).is_ok());
        if found {
            let mut sink = Sink {
                series: &mut self.series,
                out,
            };
            let mut seen = HashSet::new();
            for mount in mounts(&self.text) {
                if seen.insert((mount.device.clone(), mount.point.clone())) {
                    mount.collect(&self.rootfs, &mut sink);
                }
            }
        }
        self.series.finish(out);
    }

    fn end(&mut self, out: &mut Vec<(Labels, f64)>) {
        self.series.end(out);
    }

    fn take_refused(&mut self) -> u64 {
        self.series.take_refused()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    point: String,
    fstype: String,
    is_readonly: bool,
}

fn mounts(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let mount = Mount {
            device: unescape(fields.next()?),
            point: unescape(fields.next()?),
            fstype: fields.next()?.to_owned(),
            is_readonly: fields.next()?.split(',').any(|option| option == "ro"),
        };
        (!mount.is_left_out()).then_some(mount)
    })
}

impl Mount {
    /// node_exporter's default: `^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|
    /// var/lib/containers/storage/.+)($|/)`, and the types without data.
    fn is_left_out(&self) -> bool {
        let below = |dir: &str| {
            let rest = self
                .point
                .strip_prefix(dir)
                .and_then(|r| r.strip_prefix('/'));
            rest.is_some_and(|rest| !rest.is_empty())
        };
        TYPES_LEFT_OUT.contains(&self.fstype.as_str())
            || ["/dev", "/proc", "/sys"]
                .iter()
                .any(|d| self.point == *d || below(d))
            || [
                "/run/credentials",
                "/var/lib/docker",
                "/var/lib/containers/storage",
            ]
            .iter()
            .any(|dir| below(dir))
    }

    fn collect(&self, rootfs: &Path, sink: &mut Sink<'_>) {
        let labels = [
            ("device", self.device.as_str()),
            ("mountpoint", &self.point),
            ("fstype", &self.fstype),
        ];
        let path = rootfs.join(self.point.trim_start_matches('/'));
        let Ok(stat) = statvfs(&path) else {
            sink.push("node_filesystem_device_error", &labels, 1.0);
            return;
        };
        let block = stat.f_frsize as f64;
        let is_readonly = self.is_readonly || stat.f_flag.contains(StatVfsMountFlags::RDONLY);
        for (name, value) in [
            ("node_filesystem_size_bytes", stat.f_blocks as f64 * block),
            ("node_filesystem_free_bytes", stat.f_bfree as f64 * block),
            ("node_filesystem_avail_bytes", stat.f_bavail as f64 * block),
            ("node_filesystem_files", stat.f_files as f64),
            ("node_filesystem_files_free", stat.f_ffree as f64),
            ("node_filesystem_readonly", f64::from(u8::from(is_readonly))),
            ("node_filesystem_device_error", 0.0),
        ] {
            sink.push(name, &labels, value);
        }
    }
}

/// Turns the kernel's `\040` and the like back.
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_with_data_are_kept() {
        let text = "/dev/sda1 / ext4 rw,relatime 0 0\n\
                    proc /proc proc rw 0 0\n\
                    tmpfs /run tmpfs rw 0 0\n\
                    /dev/sdb1 /mnt/my\\040disk xfs ro,noatime 0 0\n\
                    /dev/sda1 /var/lib/docker/overlay ext4 rw 0 0\n\
                    /dev/sda1 /var/lib/docker ext4 rw 0 0\n\
                    overlay /data overlay rw 0 0\n\
                    short\n";
        let found: Vec<_> = mounts(text).map(|m| (m.point, m.is_readonly)).collect();
        assert_eq!(
            found,
            [
                ("/".to_owned(), false),
                ("/run".to_owned(), false),
                ("/mnt/my disk".to_owned(), true),
                ("/var/lib/docker".to_owned(), false),
            ]
        );
    }

    #[test]
    fn this_machine_has_a_root() {
        let mut reader = FilesystemReader::new(&Settings::default(), "h1");
        reader.text = "/dev/root / ext4 rw 0 0\n".to_owned();
        let mut out = Vec::new();
        let mut sink = Sink {
            series: &mut reader.series,
            out: &mut out,
        };
        for mount in mounts(&reader.text) {
            mount.collect(Path::new("/"), &mut sink);
        }
        let size = out
            .iter()
            .find(|(l, _)| l.metric_name() == Some("node_filesystem_size_bytes"));
        let (labels, bytes) = size.unwrap();
        assert!(*bytes > 0.0);
        assert_eq!(labels.get("fstype"), Some("ext4"));
        assert_eq!(labels.get("mountpoint"), Some("/"));
    }
}
