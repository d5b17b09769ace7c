//! Prometheus configuration files: scraping, relabelling, HTTP clients, web access.
