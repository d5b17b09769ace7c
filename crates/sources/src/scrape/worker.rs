//! One target, scraped again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kittiwake_config::Limits;
use kittiwake_model::{Labels, labels::METRIC_NAME, stale_nan};
use kittiwake_wire::exposition::Format;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use super::OwnTarget;
use super::fetch::Fetcher;
use super::series::{Batches, Counts, Rules, SeriesCache};
use super::target::Target;
use super::targets::{ActiveTarget, LastScrape};
use crate::tick::now_ms;
use crate::{Gathered, SampleBatch};

/// How late a scrape may start and still carry its planned time: regular times cost a store
/// nothing.
const SLACK_MS: i64 = 2;

/// Where a target's text comes from.
pub(super) enum Source {
    Http(Arc<Fetcher>),
    Own(OwnTarget),
}

/// What a target's task needs.
pub(super) struct Worker {
    pub target: Target,
    /// Where it is told how scraping goes.
    pub state: Arc<ActiveTarget>,
    pub source: Source,
    pub rules: Arc<Rules>,
    pub has_extra_metrics: bool,
    /// Keeps the offsets of two nodes that scrape one target apart.
    pub seed: u64,
    pub out: Sender<Gathered>,
}

/// The series about the scrapes themselves.
struct Report {
    series: Vec<Labels>,
    is_live: bool,
}

const REPORTED: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];
const EXTRA: [&str; 3] = [
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

impl Report {
    fn new(target: &Labels, has_extra: bool) -> Self {
        let extra: &[&str] = if has_extra { &EXTRA } else { &[] };
        let names = REPORTED.iter().chain(extra);
        let series = names.filter_map(|name| {
            let mut labels = target.to_builder();
            labels.set(METRIC_NAME, name);
            labels.build().ok()
        });
        Self {
            series: series.collect(),
            is_live: false,
        }
    }
}

impl Worker {
    /// Scrapes until the process stops, which ends no series, or the target is gone, which
    /// ends all of them.
    pub(super) async fn run(self, cancel: CancellationToken, gone: CancellationToken) {
        let interval_ms = i64::try_from(self.target.interval.as_millis())
            .unwrap_or(i64::MAX)
            .max(1);
        let mut cache = SeriesCache::new(self.target.labels.clone(), self.target.histograms);
        let mut report = Report::new(&self.target.labels, self.has_extra_metrics);
        let mut failed = false;
        let mut due_ms = first_ms(now_ms(), interval_ms, self.offset());
        loop {
            let wait_ms = u64::try_from(due_ms - now_ms()).unwrap_or(0);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = gone.cancelled() => break,
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            }
            let now = now_ms();
            let time_ms = if (now - due_ms).abs() <= SLACK_MS {
                due_ms
            } else {
                now
            };
            let scrape = self.scrape(time_ms, &mut cache, &mut report, &mut failed);
            let batches = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = gone.cancelled() => break,
                batches = scrape => batches,
            };
            if !self.send(batches, &cancel).await {
                return;
            }
            due_ms = due_ms.saturating_add(interval_ms);
            let late_ms = now_ms() - due_ms;
            if late_ms > 0 {
                // Scrapes that were missed are left out; the rhythm stays.
                due_ms = due_ms.saturating_add((late_ms / interval_ms + 1) * interval_ms);
            }
        }
        let mut ended = Vec::new();
        cache.end(&mut ended);
        if report.is_live {
            ended.extend(report.series.iter().map(|l| (l.clone(), stale_nan())));
        }
        let ended = SampleBatch {
            samples: ended,
            ..SampleBatch::default()
        };
        self.send(Batches::from([(now_ms(), ended)]), &cancel).await;
    }

    /// False: nobody takes samples any more, or it is time to stop.
    async fn send(&self, batches: Batches, cancel: &CancellationToken) -> bool {
        for (time_ms, mut batch) in batches {
            if batch.is_empty() {
                continue;
            }
            batch.time_ms = time_ms;
            let sent = tokio::select! {
                sent = self.out.send(Gathered::Samples(batch)) => sent.is_ok(),
                () = cancel.cancelled() => false,
            };
            if !sent {
                return false;
            }
        }
        true
    }

    fn offset(&self) -> u64 {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(self.target.labels.as_packed(), self.seed);
        hash ^ xxhash_rust::xxh3::xxh3_64(self.target.uri.to_string().as_bytes())
    }

    async fn text(&self) -> Result<(Vec<u8>, Format), String> {
        match &self.source {
            Source::Http(fetcher) => fetcher
                .fetch(&self.target.uri, self.target.timeout)
                .await
                .map_err(|e| e.to_string()),
            Source::Own(own) => (own.read)().map(|text| (text.into_bytes(), Format::Prometheus)),
        }
    }

    async fn scrape(
        &self,
        time_ms: i64,
        cache: &mut SeriesCache,
        report: &mut Report,
        failed: &mut bool,
    ) -> Batches {
        let start = Instant::now();
        let text = self.text().await;
        let seconds = start.elapsed().as_secs_f64();
        let mut batches = Batches::new();
        let mut bytes = 0;
        let counts = text.and_then(|(text, format)| {
            bytes = text.len();
            cache
                .read(&text, format, time_ms, &self.rules, &mut batches)
                .map_err(|e| e.to_string())
        });
        let up = counts.is_ok();
        let mut last = LastScrape {
            time_ms,
            seconds,
            error: String::new(),
        };
        let counts = counts.unwrap_or_else(|error| {
            // Once, when it begins: `up` tells the rest.
            if !*failed {
                tracing::info!(target_uri = %self.target.uri, "scrape failed: {error}");
            }
            last.error = error;
            Counts::default()
        });
        self.state.scraped(last);
        *failed = !up;
        let batch = batches.entry(time_ms).or_default();
        for (name, metadata) in &batch.metadata {
            self.state.describe(name, metadata);
        }
        let samples = &mut batch.samples;
        if !up {
            cache.end(samples);
        }
        let Limits { samples: limit, .. } = self.rules.limits;
        let values = [
            f64::from(u8::from(up)),
            seconds,
            counts.scraped as f64,
            counts.kept as f64,
            counts.added as f64,
            self.target.timeout.as_secs_f64(),
            limit as f64,
            bytes as f64,
        ];
        samples.extend(report.series.iter().cloned().zip(values));
        report.is_live = true;
        batches
    }
}

/// The first time after `now_ms` that lies at the target's offset within its interval: the
/// same after each start, and spread over targets.
fn first_ms(now_ms: i64, interval_ms: i64, hash: u64) -> i64 {
    let offset_ms = (hash % interval_ms.unsigned_abs().max(1)) as i64;
    let base_ms = now_ms - now_ms.rem_euclid(interval_ms);
    let at_ms = base_ms.saturating_add(offset_ms);
    if at_ms < now_ms {
        at_ms.saturating_add(interval_ms)
    } else {
        at_ms
    }
}
