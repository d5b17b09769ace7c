//! Containers' figures, under cAdvisor's names, labels and formulas.
//!
//! They come from the cgroup's files, which cost some tens of microseconds a container; asking
//! the engine costs it a thousand times as much and takes a second, so it is asked only where
//! the files cannot be read. Files are opened anew at each collection: an open file of
//! `/proc/<pid>/net` would keep the network of a container that has ended alive.

mod api;
mod cgroup;
mod emit;
mod run;

pub(crate) use api::from_stats;
pub use cgroup::CgroupReader;
pub(crate) use emit::{Limits, emit};
pub(crate) use run::{Change, Subject, run};

/// What a container has used and may use, read at one instant. `None` where it was not to be
/// had.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// CPU time in ns: all of it, in user mode, in the kernel.
    pub cpu_usage_ns: u64,
    /// CPU time in user mode, in ns.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, in ns.
    pub cpu_system_ns: u64,
    /// Periods of the CPU quota: passed, throttled, and the time throttled in ns.
    pub cfs: Option<(u64, u64, u64)>,
    /// The quota: the period and the time allowed in it, both in us.
    pub cpu_quota_us: Option<(u64, u64)>,
    /// The weight, in cgroup v1's shares.
    pub cpu_shares: Option<u64>,
    /// Memory used, the kernel's caches included, in bytes.
    pub memory_usage_bytes: u64,
    /// The most that was used, in bytes.
    pub memory_max_usage_bytes: Option<u64>,
    /// Times that the limit was hit.
    pub memory_failcnt: Option<u64>,
    /// Page cache, in bytes.
    pub memory_cache_bytes: u64,
    /// Anonymous memory, in bytes.
    pub memory_rss_bytes: u64,
    /// Swap used, in bytes.
    pub memory_swap_bytes: u64,
    /// Mapped files, in bytes.
    pub memory_mapped_file_bytes: u64,
    /// Cache not used lately, in bytes: the first to be given back.
    pub memory_inactive_file_bytes: u64,
    /// Cache in use, in bytes.
    pub memory_active_file_bytes: u64,
    /// Page faults, and those that had to read.
    pub page_faults: (u64, u64),
    /// Memory allowed, in bytes; 0 is no limit.
    pub memory_limit_bytes: u64,
    /// Memory and swap allowed, in bytes; 0 is no limit.
    pub swap_limit_bytes: u64,
    /// The soft limit, in bytes; 0 is none.
    pub memory_reservation_bytes: u64,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Block I/O by device.
    pub devices: Vec<DeviceFigures>,
    /// Processes.
    pub processes: Option<u64>,
    /// Threads, and how many there may be (0 is no limit).
    pub threads: Option<(u64, u64)>,
    /// Network devices: name and the numbers of `/proc/net/dev`.
    pub networks: Vec<(String, [u64; 16])>,
}

/// Block I/O on one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFigures {
    /// The device's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
    /// The device's path, `/dev/sda`; empty where it is not known.
    pub device: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}
