//! Where a reader of a block gets its bytes from, and what can be wrong with them.

use kittiwake_journal::bytes::Malformed;

/// The bytes of one block.
pub trait Source {
    /// Why bytes cannot be had.
    type Error: From<BlockError>;

    /// The `len` bytes at an offset of the block. Asked for no more than the block has, as far
    /// as its head tells the truth.
    fn read(&self, offset: usize, len: usize) -> Result<Vec<u8>, Self::Error>;
}

/// Why a block cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// A record is malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Bytes do not compress or decompress.
    #[error("compression: {0}")]
    Compression(std::io::Error),
    /// A chunk's bytes are not those that were written.
    #[error("checksum of {len} bytes at {offset}")]
    Checksum {
        /// Where the chunk starts in the block.
        offset: usize,
        /// Its length.
        len: usize,
    },
    /// An encoding that this build does not know.
    #[error("unknown encoding {0}")]
    Encoding(u8),
    /// What is written contradicts itself.
    #[error("{0}")]
    Damaged(&'static str),
}

impl Source for &[u8] {
    type Error = BlockError;

    fn read(&self, offset: usize, len: usize) -> Result<Vec<u8>, BlockError> {
        let range = offset..offset.saturating_add(len);
        let bytes = self.get(range);
        bytes
            .map(<[u8]>::to_vec)
            .ok_or(BlockError::Damaged("a chunk beyond the block's end"))
    }
}
