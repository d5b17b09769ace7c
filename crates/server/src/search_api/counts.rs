//! What is found, counted over time and by the values of fields.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use kittiwake_logql::search::EntryFields;
use kittiwake_model::{LogStore, QueryContext, Scan, StoreError};

use super::Wanted;
use crate::params::Params;
use crate::reply::{Problem, push_json_str};

/// Fields that one request counts by.
const FACETS_MAX: usize = 10;
/// Values of a field that are told unless the request says otherwise, and at most.
const VALUES: usize = 10;
const VALUES_MAX: usize = 1_000;
/// Different values of a field that are counted; lines with others count as others.
const VALUES_COUNTED_MAX: usize = 100_000;
/// Bytes of a value that is counted; lines with longer ones count as others.
const VALUE_BYTES_MAX: usize = 1_024;
/// Buckets of a histogram at most.
const BUCKETS_MAX: usize = 1_000;

/// The lines by the values of one field.
#[derive(Debug, Default)]
struct Facet {
    values: HashMap<String, u64>,
    /// Lines with values beyond those that are counted.
    others: u64,
}

impl Facet {
    fn add(&mut self, value: &str) {
        if let Some(count) = self.values.get_mut(value) {
            *count += 1;
        } else if self.values.len() < VALUES_COUNTED_MAX && value.len() <= VALUE_BYTES_MAX {
            self.values.insert(value.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }
}

/// What is counted, and how often it was seen.
#[derive(Debug)]
pub(super) struct Counts {
    facets: Vec<(String, Facet)>,
    values_max: usize,
    /// Start of the first bucket and width, in ns.
    buckets: Option<(i64, i64)>,
    histogram: BTreeMap<i64, u64>,
    total: u64,
}

impl Counts {
    /// Nothing when a request wants nothing counted.
    pub(super) fn new(params: &Params, scan: &Scan) -> Result<Option<Self>, Problem> {
        let invalid = |name: &str, why: String| {
            Problem::bad_data(format!("invalid parameter {name:?}: {why}"))
        };
        let names = params.all("facet").flat_map(|names| names.split(','));
        let mut names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
        names.retain(|name| !name.is_empty());
        names.dedup();
        if names.len() > FACETS_MAX {
            return Err(invalid("facet", format!("at most {FACETS_MAX} fields")));
        }
        let values_max = params.number("facet_limit")?.unwrap_or(VALUES);
        if values_max == 0 || values_max > VALUES_MAX {
            return Err(invalid("facet_limit", format!("from 1 to {VALUES_MAX}")));
        }
        let buckets = match params.number("histogram")? {
            None => None,
            Some(count) if count == 0 || count > BUCKETS_MAX => {
                return Err(invalid("histogram", format!("from 1 to {BUCKETS_MAX}")));
            }
            Some(_) if scan.range.start == i64::MIN => {
                return Err(invalid("histogram", "it needs \"start\"".to_owned()));
            }
            Some(count) => {
                let length = scan.range.end.saturating_sub(scan.range.start).max(0);
                Some((scan.range.start, length / count as i64 + 1))
            }
        };
        if names.is_empty() && buckets.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            facets: names.into_iter().map(|n| (n, Facet::default())).collect(),
            values_max,
            buckets,
            histogram: BTreeMap::new(),
            total: 0,
        }))
    }

    /// Counts all that is found, whatever the page.
    pub(super) fn count(
        &mut self,
        wanted: &Wanted,
        store: &dyn LogStore,
        context: &QueryContext,
    ) -> Result<(), StoreError> {
        let mut scan = wanted.scan.clone();
        scan.after = None;
        scan.ordered = false;
        scan.needs_line = wanted.is_partial || !self.facets.is_empty() || !scan.filters.is_empty();
        wanted.each(store, &scan, context, |batch, index| {
            let entry = &batch.entries[index];
            self.total += 1;
            if let Some((start, width)) = self.buckets {
                let bucket = entry.time_ns.saturating_sub(start) / width;
                *self.histogram.entry(bucket).or_default() += 1;
            }
            if !self.facets.is_empty() {
                let fields = EntryFields::new(batch.labels(index), entry);
                for (name, facet) in &mut self.facets {
                    if let Some(value) = fields.values(name).next() {
                        facet.add(value);
                    }
                }
            }
            true
        })
    }

    /// Appends `,"total":…` and what else was asked for.
    pub(super) fn push(&self, out: &mut String) {
        let _ = write!(out, ",\"total\":{}", self.total);
        if let Some((start, width)) = self.buckets {
            let _ = write!(
                out,
                ",\"histogram\":{{\"interval\":\"{width}\",\"buckets\":["
            );
            for (index, (bucket, count)) in self.histogram.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                let time_ns = start.saturating_add(bucket.saturating_mul(width));
                let _ = write!(out, "{{\"time\":\"{time_ns}\",\"count\":{count}}}");
            }
            out.push_str("]}");
        }
        if self.facets.is_empty() {
            return;
        }
        out.push_str(",\"facets\":{");
        for (index, (name, facet)) in self.facets.iter().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            push_json_str(out, name);
            self.push_facet(out, facet);
        }
        out.push('}');
    }

    fn push_facet(&self, out: &mut String, facet: &Facet) {
        let mut values: Vec<(&String, &u64)> = facet.values.iter().collect();
        values.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
        let rest = values.split_off(values.len().min(self.values_max));
        let others = facet.others + rest.iter().map(|(_, count)| **count).sum::<u64>();
        out.push_str(":{\"values\":[");
        for (index, (value, count)) in values.into_iter().enumerate() {
            out.push_str(if index > 0 { "," } else { "" });
            out.push_str("{\"value\":");
            push_json_str(out, value);
            let _ = write!(out, ",\"count\":{count}}}");
        }
        let _ = write!(out, "],\"others\":{others}}}");
    }
}
