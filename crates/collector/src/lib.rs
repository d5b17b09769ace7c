//! Sources to journal to server; the program kittiwake-collector.
