//! Keyed hashes (RFC 2104) over hash functions with blocks of 64 bytes.

use std::fmt::Write as _;

use sha2::digest::Digest;

const BLOCK_BYTES: usize = 64;

/// The keyed hash of a message.
pub(super) fn hmac<D: Digest>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        let short = D::digest(key);
        block[..short.len()].copy_from_slice(&short);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = D::new().chain_update(padded(0x36)).chain_update(message);
    let outer = D::new()
        .chain_update(padded(0x5c))
        .chain_update(inner.finalize());
    outer.finalize().to_vec()
}

/// Bytes as lower-case digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_rfcs() {
        // RFC 2202 and RFC 4231, test case 2.
        let (key, message) = (b"Jefe", b"what do ya want for nothing?");
        let md5 = hex(&hmac::<md5::Md5>(key, message));
        assert_eq!(md5, "750c783e6ab0b503eaa86e310a5db738");
        let sha256 = hex(&hmac::<sha2::Sha256>(key, message));
        assert_eq!(
            sha256,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
