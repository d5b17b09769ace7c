//! Snappy's block format around a request body.
//!
//! The size of the body stands in front of it, so it is judged before anything is allocated: a
//! request of a few bytes cannot ask for gigabytes.

/// Why a body cannot be decompressed, or compressed.
#[derive(Debug, thiserror::Error)]
pub enum SnappyError {
    /// The body would be larger than allowed.
    #[error("request body has {size_bytes} bytes uncompressed, more than {max_bytes}")]
    TooLarge {
        /// What the body says of itself.
        size_bytes: usize,
        /// What is allowed.
        max_bytes: usize,
    },
    /// The bytes are not snappy's.
    #[error("request body is not valid snappy: {0}")]
    Damaged(#[source] snap::Error),
    /// A body cannot be compressed because it is larger than the format can say.
    #[error("request body is too large for snappy: {0}")]
    Compress(#[source] snap::Error),
}

/// Decompresses `body` into `into`, whose memory is used again and whose contents are lost.
/// Gives the plain bytes; `into` may be longer, so that nothing is cleared that was there.
pub fn decompress<'a>(
    body: &[u8],
    max_bytes: usize,
    into: &'a mut Vec<u8>,
) -> Result<&'a [u8], SnappyError> {
    let size_bytes = snap::raw::decompress_len(body).map_err(SnappyError::Damaged)?;
    if size_bytes > max_bytes {
        return Err(SnappyError::TooLarge {
            size_bytes,
            max_bytes,
        });
    }
    if into.len() < size_bytes {
        into.resize(size_bytes, 0);
    }
    let written = snap::raw::Decoder::new()
        .decompress(body, &mut into[..size_bytes])
        .map_err(SnappyError::Damaged)?;
    Ok(&into[..written])
}

/// Compresses a body. The same bytes always give the same bytes.
pub fn compress(plain: &[u8]) -> Result<Vec<u8>, SnappyError> {
    snap::raw::Encoder::new()
        .compress_vec(plain)
        .map_err(SnappyError::Compress)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_size_beyond_the_bound_is_refused_before_it_is_allocated() {
        let mut into = Vec::new();
        // Only the size (4 GiB - 1), no data.
        let error = decompress(&[0xff, 0xff, 0xff, 0xff, 0x0f], 1000, &mut into).unwrap_err();
        assert!(matches!(
            error,
            SnappyError::TooLarge {
                max_bytes: 1000,
                ..
            }
        ));
        assert_eq!(into.capacity(), 0);
    }

    proptest! {
        #[test]
        fn round_trips(plain in proptest::collection::vec(0_u8..4, 0..2000)) {
            let packed = compress(&plain).unwrap();
            let mut into = vec![9; 10];
            prop_assert_eq!(decompress(&packed, plain.len(), &mut into).unwrap(), &plain[..]);
            if !plain.is_empty() {
                prop_assert!(decompress(&packed, plain.len() - 1, &mut into).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decompress(&bytes, 10_000, &mut Vec::new());
        }
    }
}
