//! Recorded answers of other systems, and how an answer is compared with them.

pub mod loki;
