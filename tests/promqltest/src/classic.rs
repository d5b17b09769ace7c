//! `load_with_nhcb`: classic histograms also as native ones with custom buckets.

use std::collections::{BTreeMap, HashMap};

use kittiwake_model::Labels;
use kittiwake_model::float_histogram::{FloatHistogram, Slot};
use kittiwake_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use kittiwake_model::labels::METRIC_NAME;

/// Histograms by time in ms.
type Points = Vec<(i64, FloatHistogram)>;

/// Classic histograms on their way to native ones with custom buckets.
#[derive(Default)]
pub(crate) struct Classic {
    /// By labels and time: upper bounds with counts, count, sum.
    found: HashMap<Labels, BTreeMap<i64, ClassicPoint>>,
}

#[derive(Default)]
struct ClassicPoint {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Classic {
    pub(crate) fn see(&mut self, labels: &Labels, time_ms: i64, value: f64) -> Result<(), String> {
        let name = labels.metric_name().unwrap_or("").to_owned();
        let suffix = ["_bucket", "_count", "_sum"]
            .into_iter()
            .find(|suffix| name.ends_with(suffix));
        let Some(suffix) = suffix else { return Ok(()) };
        let mut builder = labels.to_builder();
        builder.set(METRIC_NAME, &name[..name.len() - suffix.len()]);
        builder.remove("le");
        let base = builder.build().map_err(|error| error.to_string())?;
        let le = labels.get("le").unwrap_or("");
        let bound = kittiwake_promql::notation::number(le).filter(|bound| !bound.is_nan());
        if suffix == "_bucket" && bound.is_none() {
            return Ok(());
        }
        let point = self
            .found
            .entry(base)
            .or_default()
            .entry(time_ms)
            .or_default();
        match (suffix, bound) {
            ("_bucket", Some(bound)) => point.buckets.push((bound, value)),
            ("_count", _) => point.count = Some(value),
            _ => point.sum = value,
        }
        Ok(())
    }

    pub(crate) fn histograms(self) -> Result<Vec<(Labels, Points)>, String> {
        let mut all = Vec::new();
        for (labels, by_time) in self.found {
            let mut points = Vec::new();
            for (time_ms, point) in by_time {
                points.push((time_ms, point.convert()?));
            }
            all.push((labels, points));
        }
        Ok(all)
    }
}

impl ClassicPoint {
    fn convert(mut self) -> Result<FloatHistogram, String> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|later, first| later.0 == first.0);
        if !self.buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1) {
            return Err("count is not cumulative".to_owned());
        }
        let last = self.buckets.last().map_or(0.0, |bucket| bucket.1);
        let count = self.count.unwrap_or(last);
        if self.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let last = self.buckets.last().map_or(0.0, |bucket| bucket.1);
        if last != count {
            return Err(format!(
                "count mismatch: count={count} but {last} in buckets"
            ));
        }
        let mut before = 0.0;
        let mut positive = Vec::new();
        for (index, (_, cumulative)) in self.buckets.iter().enumerate() {
            positive.push(Slot {
                index: index as i32,
                count: cumulative - before,
            });
            before = *cumulative;
        }
        let bounds = self.buckets.iter().map(|bucket| bucket.0);
        let bounds: Vec<f64> = bounds.filter(|bound| bound.is_finite()).collect();
        let mut histogram = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive,
            custom_bounds: bounds.into(),
            ..FloatHistogram::default()
        };
        histogram.compact();
        Ok(histogram)
    }
}
