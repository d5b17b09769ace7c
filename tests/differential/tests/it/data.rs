//! What both programs are loaded with.

use std::collections::BTreeMap;
use std::sync::Arc;

use kittiwake_model::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span};
use kittiwake_model::{Labels, stale_nan};
use kittiwake_wire::remote_write::{RequestEncoder, SeriesParts, v2};

use crate::harness::Random;

pub const START_MS: i64 = 1_700_000_000_000;
pub const END_MS: i64 = START_MS + 2 * 3_600_000;
const STEP_MS: i64 = 15_000;
/// One request has the samples of so long, for Prometheus takes them in order of time.
const SLICE_MS: i64 = 600_000;

#[derive(Default)]
pub struct Series {
    floats: Vec<(i64, f64)>,
    histograms: Vec<(i64, i64, Arc<Histogram>)>,
    /// Floats with the time at which their counting began.
    started: Vec<(i64, f64, i64)>,
}

/// The body of a remote write request, of version 1 or 2.
pub struct Body {
    pub version: u8,
    pub bytes: Vec<u8>,
}

pub struct Data(BTreeMap<Vec<(String, String)>, Series>);

/// Bucket counts that only grow, until a reset.
struct Growing(Vec<u64>);

impl Growing {
    fn step(&mut self, random: &mut Random) {
        if random.below(90) == 0 {
            self.0.fill(0);
        }
        for count in &mut self.0 {
            *count += random.below(4);
        }
    }
}

impl Data {
    pub fn new(random: &mut Random) -> Self {
        let mut data = Self(BTreeMap::new());
        for (at, job) in ["api", "db", "cache"].into_iter().enumerate() {
            for instance in ["a", "b"] {
                let own = [("job", job), ("instance", instance)];
                data.floats(random, &own);
                data.classic(random, &own);
                data.native(random, &own, at);
                data.started(random, &own);
            }
            data.gauge(random, "limit_max", &[("job", job)], 50.0);
            data.mixed(random, job);
        }
        data
    }

    fn series(&mut self, name: &str, labels: &[(&str, &str)]) -> &mut Series {
        let name = [("__name__".to_owned(), name.to_owned())];
        let rest = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        self.0
            .entry(name.into_iter().chain(rest).collect())
            .or_default()
    }

    fn gauge(&mut self, random: &mut Random, name: &str, labels: &[(&str, &str)], middle: f64) {
        let mut value = middle;
        // A gap, and a time at which the series ends for a while.
        let gap = START_MS + random.below(7_200_000) as i64;
        let ended = START_MS + random.below(7_200_000) as i64;
        let jitter = random.below(5) as i64 * 1_000;
        // No two have the same values.
        let own = self.0.len() as f64 / 10_000.0;
        let series = self.series(name, labels);
        let mut is_marked = false;
        for time in times() {
            value += random.below(2_001) as f64 / 100.0 - 10.0;
            if (gap..gap + 420_000).contains(&time) {
                continue;
            }
            if (ended..ended + 240_000).contains(&time) {
                if !is_marked {
                    series.floats.push((time + jitter, stale_nan()));
                    is_marked = true;
                }
                continue;
            }
            series
                .floats
                .push((time + jitter, (value * 100.0).round() / 100.0 + own));
        }
    }

    fn floats(&mut self, random: &mut Random, own: &[(&str, &str); 2]) {
        for code in ["200", "500"] {
            let mut value = random.below(1_000) as f64;
            let labels = [own[0], own[1], ("code", code)];
            for time in times() {
                value = if random.below(80) == 0 { 0.0 } else { value };
                value += random.below(20) as f64;
                let floats = &mut self.series("requests_total", &labels).floats;
                floats.push((time, value));
            }
        }
        self.gauge(random, "load", own, 0.0);
        self.gauge(random, "temperature", own, 20.0);
        self.gauge(
            random,
            "métrique.utf8",
            &[own[0], own[1], ("label.one", "ü x")],
            5.0,
        );
        for time in times() {
            let odd = [
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                0.0,
                -0.0,
                1e300,
                1.5,
                -2.0,
            ];
            let value = odd[random.below(odd.len() as u64) as usize];
            self.series("odd", own).floats.push((time, value));
            let info = [own[0], own[1], ("version", "1.2"), ("os", "linux")];
            self.series("target_info", &info).floats.push((time, 1.0));
            let info = [own[0], own[1], ("revision", "r7")];
            self.series("build_info", &info).floats.push((time, 1.0));
        }
    }

    /// A counter that says when it began: anew at each reset, and not known for a while.
    fn started(&mut self, random: &mut Random, own: &[(&str, &str); 2]) {
        let mut value = random.below(100) as f64;
        let mut start = START_MS - 60_000;
        for time in times() {
            if random.below(40) == 0 {
                value = 0.0;
                start = time - 1 - random.below(14_000) as i64;
            }
            value += random.below(20) as f64;
            let is_known = (time / 900_000) % 5 != 0;
            let started = &mut self.series("started_total", own).started;
            started.push((time, value, if is_known { start } else { 0 }));
        }
    }

    fn classic(&mut self, random: &mut Random, own: &[(&str, &str); 2]) {
        let bounds = ["0.1", "0.5", "1", "2.5", "10", "+Inf"];
        let mut counts = Growing(vec![0; bounds.len()]);
        let mut sum = 0.0;
        for time in times() {
            counts.step(random);
            sum += random.below(50) as f64 / 10.0;
            let mut total = 0;
            for (bound, count) in bounds.iter().zip(&counts.0) {
                total += count;
                let labels = [own[0], own[1], ("le", bound)];
                let floats = &mut self.series("latency_bucket", &labels).floats;
                floats.push((time, total as f64));
            }
            self.series("latency_count", own)
                .floats
                .push((time, total as f64));
            self.series("latency_sum", own).floats.push((time, sum));
        }
    }

    fn native(&mut self, random: &mut Random, own: &[(&str, &str); 2], at: usize) {
        let mut exact = Growing(vec![0; 7]);
        let mut broad = Growing(vec![0; 7]);
        let mut custom = Growing(vec![0; 5]);
        for time in times() {
            for growing in [&mut exact, &mut broad, &mut custom] {
                growing.step(random);
            }
            // Resolution changes with time and differs between series.
            let schema = (at as i32 - 1) + i32::from(time > START_MS + 4_000_000);
            let push = |series: &mut Series, histogram: Histogram| {
                series.histograms.push((time, 0, Arc::new(histogram)));
            };
            push(
                self.series("native", own),
                exponential(&exact.0, schema, false),
            );
            push(
                self.series("float_native", own),
                floating(exponential(&broad.0, schema, false)),
            );
            push(
                self.series("custom_native", own),
                custom_bounds(&custom.0, at),
            );
            let now: Vec<u64> = (0..7).map(|_| random.below(30)).collect();
            push(self.series("gauge_native", own), exponential(&now, 0, true));
        }
    }

    /// Floats first, then histograms; floats again in the end.
    fn mixed(&mut self, random: &mut Random, job: &str) {
        let mut counts = Growing(vec![0; 7]);
        for (index, time) in times().enumerate() {
            counts.step(random);
            let series = self.series("mixed", &[("job", job)]);
            if index / 40 % 3 == 1 {
                let histogram = Arc::new(exponential(&counts.0, 1, false));
                series.histograms.push((time, 0, histogram));
            } else {
                series.floats.push((time, random.below(100) as f64));
            }
        }
    }

    /// The bodies of remote write requests, in order of time.
    pub fn requests(&self) -> Vec<Body> {
        let mut requests = Vec::new();
        let mut from = START_MS;
        while from <= END_MS {
            let to = from + SLICE_MS;
            let (mut encoder, mut second) = (RequestEncoder::new(), v2::RequestEncoder::new());
            for (pairs, series) in &self.0 {
                let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v))).unwrap();
                let floats = series.floats.iter().copied();
                let histograms = series.histograms.iter().cloned();
                let floats: Vec<_> = floats.filter(|s| (from..to).contains(&s.0)).collect();
                let histograms: Vec<_> = histograms.filter(|s| (from..to).contains(&s.0)).collect();
                let started = series.started.iter().copied();
                let mut started = started.filter(|s| (from..to).contains(&s.0)).peekable();
                let mut parts = SeriesParts {
                    histograms: &[],
                    exemplars: &[],
                };
                if started.peek().is_some() {
                    second.series(&labels, started, &parts, None);
                    continue;
                }
                parts.histograms = &histograms;
                encoder.mixed(&labels, floats, &parts);
            }
            for (version, bytes) in [(1, encoder.finish()), (2, second.finish())] {
                let bytes = bytes.unwrap();
                requests.push(Body { version, bytes });
            }
            from = to;
        }
        requests
    }
}

fn times() -> impl Iterator<Item = i64> {
    (0..)
        .map(|i| START_MS + i * STEP_MS)
        .take_while(|t| *t <= END_MS)
}

fn exponential(counts: &[u64], schema: i32, is_gauge: bool) -> Histogram {
    let span = |offset, length| Span { offset, length };
    let (zero, positive, negative) = (counts[0], counts[1..5].to_vec(), counts[5..].to_vec());
    let total: u64 = counts.iter().sum();
    Histogram {
        schema,
        zero_threshold: 0.01,
        sum: positive.iter().sum::<u64>() as f64 * 1.5 - negative.iter().sum::<u64>() as f64,
        positive_spans: vec![span(-1, 2), span(2, 2)],
        negative_spans: vec![span(0, 2)],
        custom_bounds: Vec::new(),
        counts: Counts::Integer {
            count: total,
            zero,
            positive,
            negative,
        },
        reset_hint: if is_gauge {
            ResetHint::Gauge
        } else {
            ResetHint::Unknown
        },
    }
}

fn floating(mut histogram: Histogram) -> Histogram {
    if let Counts::Integer {
        count,
        zero,
        positive,
        negative,
    } = &histogram.counts
    {
        let half = |counts: &[u64]| counts.iter().map(|c| *c as f64 / 2.0).collect();
        histogram.counts = Counts::Float {
            count: *count as f64 / 2.0,
            zero: *zero as f64 / 2.0,
            positive: half(positive),
            negative: half(negative),
        };
    }
    histogram
}

fn custom_bounds(counts: &[u64], at: usize) -> Histogram {
    // The bounds of one of the jobs are others.
    let bounds = if at == 2 {
        vec![0.5, 1.0, 2.0, 5.0]
    } else {
        vec![0.5, 1.0, 2.5, 5.0]
    };
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        sum: counts.iter().sum::<u64>() as f64 * 1.25,
        positive_spans: vec![Span {
            offset: 0,
            length: 5,
        }],
        negative_spans: Vec::new(),
        custom_bounds: bounds,
        counts: Counts::Integer {
            count: counts.iter().sum(),
            zero: 0,
            positive: counts.to_vec(),
            negative: Vec::new(),
        },
        reset_hint: ResetHint::Unknown,
    }
}
