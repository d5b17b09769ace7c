//! A store on a simulated disk, and the model it is compared with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kittiwake_env::{Clock, Fs, Rng, SeededRng, SimClock, SimFs};
use kittiwake_model::delivery::{FrameNumber, Origin, Sender};
use kittiwake_model::histogram::{Counts, Histogram, ResetHint, Span};
use kittiwake_model::{
    Columns, Labels, Matcher, MetricsStore, QueryContext, Select, StoreError, TimeRange, stale_nan,
};
use kittiwake_tsdb::{Batch, OpenError, Options, Store};

pub const START_MS: i64 = 1_700_000_000_000;

/// Per series and time: what the sample is, and when its counting began.
pub type Model = BTreeMap<Labels, BTreeMap<i64, (String, i64)>>;

pub fn labels(number: u64) -> Labels {
    let name = ["up", "requests_total", "load"][number as usize % 3];
    Labels::from_pairs([("__name__", name), ("instance", &format!("i{number}"))]).unwrap()
}

pub fn options() -> Options {
    Options {
        retention_ms: 0,
        ..Options::default()
    }
}

pub fn histogram(n: u64) -> Histogram {
    Histogram {
        schema: (n % 3) as i32,
        zero_threshold: 0.001,
        sum: n as f64 / 3.0,
        positive_spans: vec![Span {
            offset: 0,
            length: 2,
        }],
        negative_spans: Vec::new(),
        custom_bounds: Vec::new(),
        counts: Counts::Integer {
            count: n,
            zero: 1,
            positive: vec![n, n / 2],
            negative: Vec::new(),
        },
        reset_hint: ResetHint::Unknown,
    }
}

pub fn shown(columns: &Columns) -> BTreeMap<i64, (String, i64)> {
    let mut found = BTreeMap::new();
    let mut histograms = columns.histograms.iter().peekable();
    for (at, time) in columns.times.iter().enumerate() {
        let histogram = histograms.next_if(|(i, _)| *i as usize == at);
        let value = match histogram {
            Some((_, histogram)) => format!("{histogram:?}"),
            None => format!("{:016x}", columns.values[at].to_bits()),
        };
        let start = columns.starts.get(at).copied().unwrap_or(0);
        found.insert(*time, (value, start));
    }
    found
}

pub struct Bed {
    pub fs: SimFs,
    pub clock: SimClock,
    pub rng: SeededRng,
}

impl Bed {
    pub fn new(seed: u64) -> Self {
        let clock = SimClock::new(START_MS * 1_000_000);
        Self {
            fs: SimFs::new(seed),
            clock,
            rng: SeededRng::new(seed),
        }
    }

    pub fn try_open(&mut self, options: Options) -> Result<Store, OpenError> {
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let clock = Arc::new(self.clock.clone());
        Store::open(fs, clock, &mut self.rng, "/store", options)
    }

    pub fn open_with(&mut self, options: Options) -> Store {
        self.try_open(options).unwrap()
    }

    pub fn open(&mut self) -> Store {
        self.open_with(options())
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }

    /// A random request, as a batch and as what a store should have after it.
    pub fn request(&mut self, store: &Store, model: &Model) -> (Batch, Model) {
        let mut model = model.clone();
        let mut batch = Batch::new();
        for _ in 0..=self.below(4) {
            let set = labels(self.below(6));
            let raw = store.raw_hash(set.as_packed());
            let known = store.names().known(raw);
            match known {
                Some(known) => batch.start_known(known),
                None => batch.start(set.clone(), Some(raw)),
            }
            for _ in 0..=self.below(3) {
                let back_ms = if self.below(3) == 0 {
                    self.below(900_000) as i64
                } else {
                    0
                };
                let time_ms = self.clock.now_ms() - back_ms / 1000 * 1000;
                let start_ms = if self.below(4) == 0 { START_MS } else { 0 };
                let mut one = Columns::default();
                match self.below(14) {
                    0 => one.push(time_ms, stale_nan()),
                    1 => one.push(time_ms, -0.0),
                    2 => one.push(time_ms, f64::INFINITY),
                    3 => one.push(time_ms, self.below(1 << 40) as f64 * 0.377_123),
                    4 => one.push_histogram(time_ms, Arc::new(histogram(self.below(50)))),
                    n => one.push(time_ms, n as f64 / 4.0),
                }
                one.set_start(start_ms);
                match one.histograms.first() {
                    Some((_, histogram)) => {
                        batch.histogram(time_ms, Arc::clone(histogram), start_ms);
                    }
                    None => batch.sample_from(time_ms, one.values[0], start_ms),
                }
                // The store may know older samples in blocks only: then the first written counts.
                let samples = model.entry(set.clone()).or_default();
                let newest = samples.last_key_value().map_or(i64::MIN, |(t, _)| *t);
                if newest.saturating_sub(time_ms) <= options().out_of_order_ms {
                    let (_, value) = shown(&one).pop_first().unwrap();
                    samples.entry(time_ms).or_insert(value);
                }
            }
            self.clock.advance(Duration::from_secs(1));
        }
        model.retain(|_, samples| !samples.is_empty());
        (batch, model)
    }

    /// Writes one random request, and does the same to the model.
    pub fn write(&mut self, store: &Store, model: &mut Model) {
        let (batch, after) = self.request(store, model);
        *model = after;
        let written = store.write(&batch, None).unwrap();
        assert_eq!(
            written.accepted + written.repeated + written.refused,
            batch.len() as u64
        );
    }
}

pub fn read(store: &Store, matchers: Vec<Matcher>, range: TimeRange) -> Model {
    try_read(store, matchers, range).unwrap()
}

pub fn try_read(
    store: &Store,
    matchers: Vec<Matcher>,
    range: TimeRange,
) -> Result<Model, StoreError> {
    let select = Select::new(matchers, range);
    let mut cursor = store.select(&select, &QueryContext::default())?;
    let mut found = Model::new();
    while let Some(labels) = cursor.next_series()? {
        let mut columns = Columns::default();
        while cursor.next_batch(&mut columns)? {}
        assert!(columns.times.is_sorted_by(|a, b| a < b), "{labels}: order");
        assert!(
            found.insert(labels, shown(&columns)).is_none(),
            "series twice"
        );
    }
    // The port allows a series without samples.
    found.retain(|_, samples| !samples.is_empty());
    Ok(found)
}

pub fn read_all(store: &Store) -> Model {
    read(store, Vec::new(), TimeRange::ALL)
}

pub fn origin(sequence: u64) -> Origin {
    Origin {
        sender: Sender {
            token: String::new(),
            agent: "a".to_owned(),
            epoch: 1,
        },
        frame: FrameNumber {
            sequence,
            part: 0,
            is_last: true,
        },
        first: 1,
    }
}

pub fn runs() -> u64 {
    let runs = std::env::var("CRASH_RUNS").ok();
    runs.and_then(|r| r.parse().ok()).unwrap_or(200)
}
