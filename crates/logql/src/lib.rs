//! LogQL: parse, check, evaluate over the logs port.
