//! Bytes to model and back: what containers, exporters and senders speak.
//!
//! Each module owns one format and knows nothing of stores or sockets, so that it can be fed
//! any bytes in a test. Nothing here trusts its input: a length is checked before it is used,
//! a size before it is allocated, and an error says where the bytes went wrong and what was
//! wanted there. Where a format carries samples or lines in bulk, its reader lends slices of
//! the input instead of building values.

pub mod delivery;
pub mod docker_json;
pub mod exposition;
pub mod float;
pub mod json;
pub mod label_text;
pub mod loki_push;
pub mod otlp;
mod proto;
pub mod remote_read;
pub mod remote_write;
pub mod snappy;
pub mod text;
pub mod time;

pub use proto::Malformed;

/// Longest log line that is kept whole, in bytes. A longer one is split, and nothing of it is
/// lost.
pub const LINE_BYTES_MAX: usize = 256 << 10;
