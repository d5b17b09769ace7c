//! The Prometheus configuration as it is now, and how it is read anew.

use std::path::PathBuf;
use std::sync::Arc;

use kittiwake_config::{ConfigError, PrometheusConfig, without_secrets};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

/// What is in force.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The configuration.
    pub config: Arc<PrometheusConfig>,
    /// Its file's text without secrets.
    pub shown: String,
    /// When it was read, in ms.
    pub time_ms: i64,
    /// Whether the last attempt to read it went well.
    pub is_last_ok: bool,
}

/// The configuration and its file.
#[derive(Debug)]
pub struct LiveConfig {
    file: Option<PathBuf>,
    loaded: RwLock<Loaded>,
    changed: watch::Sender<Arc<PrometheusConfig>>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

impl LiveConfig {
    /// Reads a file, or takes the defaults without one.
    pub fn load(file: Option<PathBuf>, now_ms: i64) -> Result<Self, ConfigError> {
        let loaded = match &file {
            Some(file) => read(file, now_ms)?,
            None => Loaded {
                time_ms: now_ms,
                is_last_ok: true,
                ..Loaded::default()
            },
        };
        let (changed, _) = watch::channel(Arc::clone(&loaded.config));
        Ok(Self {
            file,
            loaded: RwLock::new(loaded),
            changed,
            reloading: Mutex::default(),
        })
    }

    /// What is in force.
    pub fn now(&self) -> Loaded {
        self.loaded.read().clone()
    }

    /// Follows changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<PrometheusConfig>> {
        self.changed.subscribe()
    }

    /// Notes that what the file says could not be done.
    pub fn mark_failed(&self) {
        self.loaded.write().is_last_ok = false;
    }

    /// Reads the file anew. When that fails, what was in force stays.
    pub fn reload(&self, now_ms: i64) -> Result<(), ConfigError> {
        let _one = self.reloading.lock();
        let Some(file) = &self.file else {
            return Ok(());
        };
        match read(file, now_ms) {
            Ok(loaded) => {
                let config = Arc::clone(&loaded.config);
                *self.loaded.write() = loaded;
                self.changed.send_replace(config);
                Ok(())
            }
            Err(error) => {
                self.loaded.write().is_last_ok = false;
                Err(error)
            }
        }
    }
}

fn read(file: &std::path::Path, now_ms: i64) -> Result<Loaded, ConfigError> {
    let config = kittiwake_collector::load_config(file)?;
    // The file was just read; if it has gone meanwhile, nothing is shown.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    Ok(Loaded {
        config: Arc::new(config),
        shown: without_secrets(&text),
        time_ms: now_ms,
        is_last_ok: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_leaves_what_was_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.yml");
        std::fs::write(&file, "scrape_configs: [{job_name: a}]\n").unwrap();
        let live = LiveConfig::load(Some(file.clone()), 1).unwrap();
        let mut seen = live.subscribe();
        std::fs::write(&file, "scrape_configs: [{}]\n").unwrap();
        assert!(live.reload(2).is_err());
        let now = live.now();
        assert!(!now.is_last_ok);
        assert_eq!((now.config.scrape_configs.len(), now.time_ms), (1, 1));
        std::fs::write(&file, "scrape_configs: [{job_name: b}]\n").unwrap();
        live.reload(3).unwrap();
        assert!(live.now().is_last_ok);
        assert_eq!(seen.borrow_and_update().scrape_configs[0].job_name, "b");
    }
}
