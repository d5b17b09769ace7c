//! The HTTP APIs, asked through the real router without a socket.

mod harness;
mod otlp;
mod prometheus;
mod read;
mod remote_write;
