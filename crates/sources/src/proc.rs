//! Reading the kernel's small text files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Largest kernel file that is read whole; what is behind it is left out.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads a file into `text`, which keeps its memory between files. Bytes that are not UTF-8
/// are an error.
pub(crate) fn read<'a>(path: &Path, text: &'a mut String) -> io::Result<&'a str> {
    text.clear();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_string(text)?;
    Ok(text)
}

/// Reads a file that holds one number; `max` is `None`.
pub(crate) fn read_number(path: &Path, text: &mut String) -> Option<u64> {
    read(path, text).ok()?.trim().parse().ok()
}

/// The pairs of a file with one name and one number a line.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        Some((fields.next()?, fields.next()?.parse().ok()?))
    })
}

/// The numbers behind a device's name in `net/dev`: receive bytes, packets, errs, drop, fifo,
/// frame, compressed, multicast; transmit bytes, packets, errs, drop, fifo, colls, carrier,
/// compressed.
pub(crate) fn net_dev(text: &str) -> impl Iterator<Item = (&str, [u64; 16])> {
    text.lines().filter_map(|line| {
        let (device, rest) = line.rsplit_once(':')?;
        let mut numbers = [0; 16];
        let mut fields = rest.split_ascii_whitespace();
        for number in &mut numbers {
            *number = fields.next()?.parse().ok()?;
        }
        Some((device.trim(), numbers))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn devices_with_their_numbers() {
        let text =
            "Inter-|   Receive\n face |bytes\n  eth0:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let devices: Vec<_> = net_dev(text).collect();
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].0, "eth0");
        assert_eq!((devices[0].1[0], devices[0].1[15]), (1, 16));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[a-z0-9: \n]{0,200}") {
            let _ = net_dev(&text).count();
            let _ = pairs(&text).count();
        }
    }
}
