//! Kittiwake beside a real Prometheus: `tests/it` loads both with the same samples and asks both
//! generated queries over the whole language.
