//! Checksummed append-only segments: write-ahead logs and disk buffers.
