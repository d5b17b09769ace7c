//! PromQL: parse, check, evaluate over the metrics port.
