//! The program kittiwake: ingest, queries, page.
