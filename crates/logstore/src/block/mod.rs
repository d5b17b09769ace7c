//! The text of a block's lines as bytes, and back.
//!
//! ```text
//! head | chunk | chunk | ...
//! ```
//!
//! The head says how the block is encoded, what its lines have in common, and where each
//! column lies; a chunk holds columns and carries its own checksum, so that a query reads only
//! what it needs. A block knows nothing of its part: it is copied as it is.

pub mod index;
pub mod rows;
pub mod token;

mod chunks;
mod column;
mod digits;
mod directory;
mod encode;
mod fields;
mod filter;
mod group;
mod ints;
mod literal;
mod merge;
mod pattern;
mod reader;
mod shapes;
mod source;
mod split;
mod values;

pub(crate) use chunks::unzstd;
pub use encode::{Encoded, Scratch, encode};
pub use fields::Field;
pub use index::Tokens;
pub use reader::Reader;
pub use rows::Rows;
pub use shapes::Shapes;
pub use source::{BlockError, Source};

/// Lines of a block at most.
pub const ROWS_MAX: usize = 8192;
/// A block is closed once its text has this many bytes.
pub const TEXT_BYTES: usize = 2 << 20;

/// Lines one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// All text.
    pub text: String,
    /// End of each line in `text`; the next one starts there.
    pub ends: Vec<usize>,
}

impl Lines {
    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A line.
    ///
    /// # Panics
    /// When `row` is not below [`Lines::len`].
    pub fn line(&self, row: usize) -> &str {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[row]]
    }

    /// Appends a line.
    pub fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.ends.push(self.text.len());
    }

    /// Forgets all lines, keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}
