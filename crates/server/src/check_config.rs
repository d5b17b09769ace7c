//! What `kittiwake check config` looks at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kittiwake_config::{PrometheusConfig, ScrapeConfig};

/// What was found in a configuration.
pub(crate) struct Found {
    pub(crate) rule_files: Vec<PathBuf>,
    config: PrometheusConfig,
}

impl Found {
    pub(crate) fn too_long(&self, lookback: Duration) -> Option<&ScrapeConfig> {
        self.config
            .scrape_configs
            .iter()
            .find(|job| job.scrape_interval >= lookback)
    }
}

pub(crate) fn check(file: &Path, _agent: bool, _syntax_only: bool) -> Result<Found, ()> {
    match PrometheusConfig::load(file) {
        Ok(config) => Ok(Found {
            rule_files: Vec::new(),
            config,
        }),
        Err(error) => {
            eprintln!("  FAILED: {error}");
            Err(())
        }
    }
}
