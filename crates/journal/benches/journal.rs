//! Nanoseconds per frame: appending, committing and reading back, on the machine's own
//! files in a temporary directory.
//!
//! `cargo bench -p kittiwake-journal` measures; anything else, as `cargo test`, only runs it
//! at a size that shows that it works.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use kittiwake_env::{RealClock, RealFs};
use kittiwake_journal::{Journal, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let frames: u32 = if measure { 400_000 } else { 2_000 };
    for size_bytes in [100, 1_000, 16_000] {
        let count = frames / (size_bytes / 100).max(1);
        run(size_bytes as usize, count)?;
    }
    Ok(())
}

fn run(size_bytes: usize, frames: u32) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let clock = Arc::new(RealClock::new());
    let open = || {
        Journal::open(
            Arc::new(RealFs),
            clock.clone(),
            dir.path().join("journal"),
            Options::default(),
        )
    };
    let payload = vec![0x5a; size_bytes];
    let per_frame = |start: Instant| start.elapsed().as_nanos() / u128::from(frames.max(1));

    let (journal, _) = open()?;
    let start = Instant::now();
    for _ in 0..frames {
        journal.append(&[&payload])?;
    }
    let append_ns = per_frame(start);
    let start = Instant::now();
    journal.sync_all()?;
    let sync_ns = per_frame(start);
    drop(journal);

    let start = Instant::now();
    let (journal, _) = open()?;
    let open_ns = per_frame(start);
    let start = Instant::now();
    let mut read = 0;
    for frame in journal.read_from(0) {
        read += usize::from(frame?.1 == payload);
    }
    let read_ns = per_frame(start);
    assert_eq!(read, frames as usize);
    println!(
        "{frames} frames of {size_bytes} B, ns/frame: append {append_ns}, sync {sync_ns}, \
         open {open_ns}, read {read_ns}"
    );
    Ok(())
}
