//! The metrics store.
