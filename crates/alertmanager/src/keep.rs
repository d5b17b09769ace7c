//! The journal of what must outlive the program.

use std::path::Path;
use std::sync::Arc;

use kittiwake_env::{Clock, Fs};
use kittiwake_journal::{Journal, JournalError, Opened, Options, Sequence};

use crate::record::{Record, read};

/// A journal smaller than this is not written anew.
const REWRITE_BYTES_MIN: u64 = 4 << 20;

/// The journal, and how large it was after it was written anew.
#[derive(Debug)]
pub(crate) struct Keep {
    journal: Arc<Journal>,
    rewritten_bytes: u64,
}

impl Keep {
    /// Opens the journal in a directory, and gives each record that it has, in order.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        mut take: impl FnMut(Record),
    ) -> Result<Self, JournalError> {
        let (journal, opened) = Journal::open(fs, clock, dir, Options::default())?;
        report(&opened);
        for frame in journal.read_from(opened.first_seq) {
            match frame {
                Ok((_, payload)) => match read(&payload) {
                    Ok(record) => take(record),
                    Err(error) => {
                        tracing::error!(%error, "a record of the alertmanager makes no sense and is left out");
                    }
                },
                Err(error @ JournalError::Damaged { .. }) => {
                    tracing::error!(%error, "records of the alertmanager are lost");
                }
                Err(error) => return Err(error),
            }
        }
        let rewritten_bytes = journal.bytes();
        Ok(Self {
            journal: Arc::new(journal),
            rewritten_bytes,
        })
    }

    /// The journal, for syncing it beside its writer.
    pub(crate) fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Appends a record; it survives the end of the process.
    pub(crate) fn append(&self, record: &[u8]) -> Result<Sequence, JournalError> {
        self.journal.append(&[record])
    }

    /// Whether the journal has grown so far that it should be written anew.
    pub(crate) fn has_grown(&self) -> bool {
        self.journal.bytes() > REWRITE_BYTES_MIN.max(self.rewritten_bytes.saturating_mul(3))
    }

    /// Writes what holds as the start of a new segment, and removes those before.
    pub(crate) fn rewrite(
        &mut self,
        records: impl Iterator<Item = Vec<u8>>,
    ) -> Result<(), JournalError> {
        let first = self.journal.rotate()?;
        for record in records {
            self.journal.append(&[&record])?;
        }
        self.journal.sync_all()?;
        self.journal.truncate_before(first)?;
        self.rewritten_bytes = self.journal.bytes();
        Ok(())
    }
}

fn report(opened: &Opened) {
    if let Some(cut) = &opened.cut {
        tracing::info!(segment = %cut.segment.display(), lost_bytes = cut.lost_bytes, "a torn end of the alertmanager's journal was cut");
    }
    for damage in &opened.damaged {
        tracing::error!(segment = %damage.segment.display(), set_aside = %damage.set_aside.display(), byte = damage.byte, "a segment of the alertmanager's journal is damaged and was set aside");
    }
}
