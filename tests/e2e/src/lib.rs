//! Tests of the programs as users run them: `tests/it` starts the built server and collector,
//! real containers and real exporters, and asks over HTTP.
