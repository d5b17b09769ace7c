//! What an operator asks of a part: whether it is whole, and where its bytes go.

use std::collections::BTreeSet;

use super::{Block, Part, PartError};
use crate::block::token;
use crate::index::{Blocks, PAGE_BYTES, Wanted};

/// Bytes of a part by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// How many streams.
    pub streams: usize,
    /// How many blocks.
    pub blocks: usize,
    /// Bytes of the lines themselves.
    pub lines: u64,
    /// Columns of times.
    pub times: u64,
    /// Encoded text.
    pub text: u64,
    /// Ordinals, metadata and documents.
    pub other: u64,
    /// Tables of variables.
    pub tables: u64,
}

impl Part {
    /// Where the bytes of the part go. What is left is index and words.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes {
            streams: self.streams.len(),
            blocks: self.blocks.len(),
            ..Sizes::default()
        };
        for block in &self.blocks {
            let other = [block.ordinals, block.metadata, block.documents];
            sizes.lines += block.text_bytes as u64;
            sizes.times += u64::from(block.times.len);
            sizes.text += u64::from(block.text.len) + u64::from(block.chunks_bytes);
            sizes.other += other.iter().map(|p| u64::from(p.len)).sum::<u64>();
        }
        let pages = self.groups.iter().filter_map(|g| g.layout);
        sizes.tables = pages.map(|l| (l.pages() * PAGE_BYTES) as u64).sum();
        sizes
    }

    /// Reads all of the part, and asks its index for every token of its lines. Gives the
    /// number of lines.
    pub fn verify(&self) -> Result<u64, PartError> {
        let mut lines = 0;
        for (number, block) in self.blocks.iter().enumerate() {
            self.verify_block(number, block)?;
            lines += block.rows as u64;
        }
        Ok(lines)
    }

    fn verify_block(&self, number: usize, block: &Block) -> Result<(), PartError> {
        let times = self.times(block)?.all()?;
        for (run, rows) in block.runs() {
            if !times[rows].is_sorted_by(|a, b| a <= b && run.range.contains(*b)) {
                return Err(self.file.damaged("times out of order").into());
            }
        }
        self.ordinals(block)?;
        self.metadata(block)?;
        self.documents(block)?;
        let lines = self.text(block)?.lines()?;
        if lines.len() != block.rows || lines.text.len() != block.text_bytes {
            return Err(self.file.damaged("text of another length").into());
        }
        let mut asked = BTreeSet::new();
        let mut folded = String::new();
        for token in token::tokens(&lines.text) {
            // Tokens of two lines meet where these are joined.
            let end = token.at + token.text.len();
            let row = lines.ends.partition_point(|e| *e <= token.at);
            if lines.ends.get(row).is_none_or(|e| end > *e) {
                continue;
            }
            token::fold(token.text, &mut folded);
            let is_variable = token.is_variable;
            if is_variable && !token.is_hashed() || asked.contains(&folded) {
                continue;
            }
            asked.insert(folded.clone());
            let wanted = if is_variable {
                Wanted::Variable(folded.clone())
            } else {
                Wanted::Word(folded.clone())
            };
            let mut within = Blocks::none(self.blocks.len());
            within.insert(number);
            if self.candidates(&wanted, within)?.is_empty() {
                let what = format!("the index lacks {:?}", token.text);
                return Err(self.file.damaged(what).into());
            }
        }
        Ok(())
    }
}
