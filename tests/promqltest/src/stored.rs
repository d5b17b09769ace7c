//! The metrics store as a backing, with its samples at each place where they can lie.

use std::sync::Arc;

use kittiwake_env::{Fs, SeededRng, SimClock, SimFs};
use kittiwake_model::{Labels, MetricsStore};
use kittiwake_tsdb::{Batch, Options, Store};

use crate::backing::{Backing, Sample, SampleValue};

const SEED: u64 = 1;

/// Where samples lie when queries are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In memory, and in the log.
    Head,
    /// In blocks.
    Block,
    /// In memory again, as the log had them.
    Restarted,
}

/// The metrics store on a simulated disk.
#[derive(Debug)]
pub struct Stored {
    place: Place,
    fs: SimFs,
    clock: SimClock,
    rng: SeededRng,
    /// None only while it is opened again.
    store: Option<Store>,
}

impl Stored {
    /// An empty store.
    pub fn new(place: Place) -> Result<Self, String> {
        let mut stored = Self {
            place,
            fs: SimFs::new(SEED),
            clock: SimClock::new(0),
            rng: SeededRng::new(SEED),
            store: None,
        };
        stored.open()?;
        Ok(stored)
    }

    fn open(&mut self) -> Result<(), String> {
        // The directory is of one store at a time.
        self.store = None;
        let options = Options {
            retention_ms: 0,
            out_of_order_ms: i64::MAX,
            ..Options::default()
        };
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let clock = Arc::new(self.clock.clone());
        let store = Store::open(fs, clock, &mut self.rng, "/store", options);
        self.store = Some(store.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn opened(&self) -> Result<&Store, String> {
        let store = self.store.as_ref();
        store.ok_or_else(|| "the store could not be opened".to_owned())
    }
}

impl Backing for Stored {
    fn name(&self) -> &'static str {
        match self.place {
            Place::Head => "head",
            Place::Block => "block",
            Place::Restarted => "after a restart",
        }
    }

    fn clear(&mut self) -> Result<(), String> {
        self.store = None;
        self.fs = SimFs::new(SEED);
        self.open()
    }

    fn load(&mut self, labels: &Labels, samples: Vec<Sample>) -> Result<(), String> {
        let mut batch = Batch::new();
        batch.start(labels.clone(), None);
        for sample in samples {
            let (time, start) = (sample.time_ms, sample.start_ms);
            match sample.value {
                SampleValue::Float(value) => batch.sample_from(time, value, start),
                SampleValue::Histogram(histogram) => {
                    batch.histogram(time, Arc::new(histogram), start);
                }
            }
        }
        let written = self.opened()?.write(&batch, None);
        let written = written.map_err(|error| error.to_string())?;
        match written.first_refused {
            Some((labels, time, why)) => Err(format!("{labels} at {time}: {}", why.as_str())),
            None => Ok(()),
        }
    }

    fn freeze(&mut self) -> Result<(), String> {
        match self.place {
            Place::Head => Ok(()),
            Place::Block => {
                let store = self.opened()?;
                store.flush().map_err(|error| error.to_string())?;
                // Blocks of several loads are merged, as far as the store would.
                store.maintain();
                match store.stats() {
                    stats if stats.failures > 0 => Err("maintenance failed".to_owned()),
                    stats if stats.head_samples > 0 => Err("samples outside of blocks".to_owned()),
                    _ => Ok(()),
                }
            }
            Place::Restarted => {
                let store = self.opened()?;
                store.sync_all().map_err(|error| error.to_string())?;
                self.open()
            }
        }
    }

    /// # Panics
    ///
    /// When the store could not be opened; what was called before has said so.
    fn store(&self) -> &dyn MetricsStore {
        #[allow(clippy::expect_used)]
        self.store.as_ref().expect("an open store")
    }
}
