//! Network devices.

use std::path::Path;

use super::Sink;
use crate::proc;

/// Names of the figures in the order of `/proc/net/dev`.
const FIGURES: [&str; 16] = [
    "node_network_receive_bytes_total",
    "node_network_receive_packets_total",
    "node_network_receive_errs_total",
    "node_network_receive_drop_total",
    "node_network_receive_fifo_total",
    "node_network_receive_frame_total",
    "node_network_receive_compressed_total",
    "node_network_receive_multicast_total",
    "node_network_transmit_bytes_total",
    "node_network_transmit_packets_total",
    "node_network_transmit_errs_total",
    "node_network_transmit_drop_total",
    "node_network_transmit_fifo_total",
    "node_network_transmit_colls_total",
    "node_network_transmit_carrier_total",
    "node_network_transmit_compressed_total",
];

pub(super) fn collect(procfs: &Path, sysfs: &Path, text: &mut String, sink: &mut Sink<'_>) {
    // `/proc/net` is the reader's own network; the first process is always on the host's.
    let path = [procfs.join("1/net/dev"), procfs.join("net/dev")]
        .into_iter()
        .find(|path| proc::read(path, text).is_ok());
    if path.is_none() {
        return;
    }
    let mut small = String::new();
    for (device, numbers) in proc::net_dev(text) {
        for (name, number) in FIGURES.iter().zip(numbers) {
            sink.push(name, &[("device", device)], number as f64);
        }
        let class = sysfs.join("class/net").join(device);
        if let Ok(state) = proc::read(&class.join("operstate"), &mut small) {
            let up = f64::from(u8::from(state.trim() == "up"));
            sink.push("node_network_up", &[("device", device)], up);
        }
        if let Some(mtu) = proc::read_number(&class.join("mtu"), &mut small) {
            sink.push("node_network_mtu_bytes", &[("device", device)], mtu as f64);
        }
        // Mbit/s; virtual devices say -1 or refuse.
        if let Some(speed) = proc::read_number(&class.join("speed"), &mut small) {
            let bytes = speed as f64 * 1e6 / 8.0;
            sink.push("node_network_speed_bytes", &[("device", device)], bytes);
        }
    }
}
