//! Containers, host, log files and scrape targets.
