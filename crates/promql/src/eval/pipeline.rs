//! Expressions that work series by series: a selector, alone or below a function over its
//! window, and what changes its values one by one. A series goes through all of it as it is
//! read, on as many threads as the query may use.

use kittiwake_model::labels::METRIC_NAME;
use kittiwake_model::{
    Columns, FloatHistogram, Labels, MatchOp, STALE_NAN_BITS, SelectHint, on_threads,
};
use kittiwake_vector::{Comparison, Fold, Grouping, Groups, Notes, Operator, Series, with_scalar};

use super::range_call::RangeCall;
use super::select::{Buckets, Reader, at_steps, hint, split};
use super::{Evaluator, Findings, Look, simple};
use crate::ast::{Binary, Call, Edges, Expr, Place, Selector, ValueType};
use crate::error::EvalError;

/// What gives the series.
enum Leaf<'e> {
    /// The newest sample at each step.
    Newest,
    /// A function over a window.
    Window(RangeCall<'e>),
}

/// What is done with each value. A step's number comes with it.
type Change = Box<dyn Fn(usize, f64) -> f64 + Send + Sync>;
type HistogramChange = fn(&FloatHistogram) -> f64;

enum Map<'e> {
    /// Numbers are changed, histograms go.
    Floats(Change),
    /// Histograms become numbers, numbers go.
    Histograms(HistogramChange),
    Negate,
    Scalar {
        binary: &'e Binary,
        scalars: Vec<f64>,
        is_swapped: bool,
        place: Place,
    },
}

pub(super) struct Pipeline<'e, 'a> {
    evaluator: Evaluator<'a>,
    selector: &'e Selector,
    look: Look,
    hint: SelectHint,
    buckets: Buckets,
    leaf: Leaf<'e>,
    maps: Vec<Map<'e>>,
}

impl<'a> Evaluator<'a> {
    /// The expression as a pipeline, if it works series by series.
    pub(super) fn pipeline<'e>(
        &self,
        expr: &'e Expr,
        findings: &mut Findings,
    ) -> Result<Option<Pipeline<'e, 'a>>, EvalError> {
        match expr {
            Expr::Paren(paren) => self.pipeline(&paren.inner, findings),
            Expr::Vector(selector) if selector.edges != Edges::Smoothed => Ok(Some(Pipeline {
                evaluator: *self,
                selector,
                look: self.look(&selector.shift)?,
                hint: SelectHint::default(),
                buckets: Buckets::newest(self, self.look(&selector.shift)?),
                leaf: Leaf::Newest,
                maps: Vec::new(),
            })),
            Expr::Call(call) => self.call_pipeline(call, findings),
            Expr::Unary(unary) if unary.is_negative => {
                if unary.inner.value_type() != ValueType::Vector {
                    return Ok(None);
                }
                let mut pipeline = self.distinct_pipeline(&unary.inner, findings)?;
                if let Some(pipeline) = &mut pipeline {
                    pipeline.maps.push(Map::Negate);
                }
                Ok(pipeline)
            }
            Expr::Binary(binary) => self.binary_pipeline(binary, expr.place(), findings),
            _ => Ok(None),
        }
    }

    /// As [`Evaluator::pipeline`], for what goes on with its series one by one: without the names
    /// no two may have the same labels, which must be seen of all of them else.
    pub(super) fn distinct_pipeline<'e>(
        &self,
        expr: &'e Expr,
        findings: &mut Findings,
    ) -> Result<Option<Pipeline<'e, 'a>>, EvalError> {
        let pipeline = self.pipeline(expr, findings)?;
        Ok(pipeline.filter(Pipeline::is_distinct))
    }

    fn call_pipeline<'e>(
        &self,
        call: &'e Call,
        findings: &mut Findings,
    ) -> Result<Option<Pipeline<'e, 'a>>, EvalError> {
        if call.function.name == "absent_over_time" {
            return Ok(None);
        }
        if let Some(range_call) = self.range_call(call, findings)? {
            let Expr::Matrix(matrix) = range_call.arg else {
                return Ok(None);
            };
            return Ok(Some(Pipeline {
                evaluator: *self,
                selector: &matrix.selector,
                look: range_call.look,
                hint: hint(call.function.name, range_call.range_ms),
                buckets: Buckets::window(
                    &self.below(call),
                    range_call.look,
                    range_call.range_ms + range_call.back_ms() + range_call.ahead_ms(),
                ),
                leaf: Leaf::Window(range_call),
                maps: Vec::new(),
            }));
        }
        let Some(arg) = call.args.first() else {
            return Ok(None);
        };
        let map = if let Some(stat) = simple::histogram_function(call.function.name) {
            Map::Histograms(stat)
        } else if let Some(change) = simple::float_function(call.function.name) {
            Map::Floats(change)
        } else if simple::takes_scalars(call.function.name) {
            // Only below a selector: else the numbers would be evaluated twice.
            if !can_be_pipeline(arg) {
                return Ok(None);
            }
            let mut scalars = Vec::new();
            for scalar in &call.args[1..] {
                scalars.push(self.scalar(scalar, findings)?);
            }
            match simple::scalar_function(call.function.name, scalars) {
                Some(change) => Map::Floats(change),
                None => return Ok(None),
            }
        } else {
            return Ok(None);
        };
        let mut pipeline = self.below(call).distinct_pipeline(arg, findings)?;
        if let Some(pipeline) = &mut pipeline {
            pipeline.maps.push(map);
        }
        Ok(pipeline)
    }

    /// For the arguments of a function: what it needs of histograms.
    pub(super) fn below(&self, call: &Call) -> Self {
        let name = call.function.name;
        Self {
            wants_stats: self.wants_stats
                || matches!(
                    name,
                    "histogram_count"
                        | "histogram_sum"
                        | "histogram_avg"
                        | "timestamp"
                        | "start_timestamp"
                        | "absent"
                ),
            needs_buckets: self.needs_buckets
                || matches!(
                    name,
                    "histogram_quantile"
                        | "histogram_quantiles"
                        | "histogram_fraction"
                        | "histogram_stddev"
                        | "histogram_stdvar"
                        | "changes"
                ),
            ..*self
        }
    }

    fn binary_pipeline<'e>(
        &self,
        binary: &'e Binary,
        place: Place,
        findings: &mut Findings,
    ) -> Result<Option<Pipeline<'e, 'a>>, EvalError> {
        let (left, right) = (binary.left.value_type(), binary.right.value_type());
        let (series, scalar, is_swapped) = match (left, right) {
            (ValueType::Vector, ValueType::Scalar) => (&binary.left, &binary.right, false),
            (ValueType::Scalar, ValueType::Vector) => (&binary.right, &binary.left, true),
            _ => return Ok(None),
        };
        if !can_be_pipeline(series) {
            return Ok(None);
        }
        let below = self.below_operator(binary.op);
        let scalars = below.scalar(scalar, findings)?;
        let mut pipeline = below.distinct_pipeline(series, findings)?;
        if let Some(pipeline) = &mut pipeline {
            pipeline.maps.push(Map::Scalar {
                binary,
                scalars,
                is_swapped,
                place,
            });
        }
        Ok(pipeline)
    }

    /// For the sides of an operator: what it needs of histograms.
    pub(super) fn below_operator(&self, op: Operator) -> Self {
        Self {
            needs_buckets: self.needs_buckets
                || matches!(
                    op,
                    Operator::Trim(_)
                        | Operator::Comparison(Comparison::Equal | Comparison::NotEqual)
                ),
            ..*self
        }
    }
}

/// Whether there is a selector below, with only what works series by series above it.
fn can_be_pipeline(expr: &Expr) -> bool {
    match expr {
        Expr::Paren(paren) => can_be_pipeline(&paren.inner),
        Expr::Unary(unary) => can_be_pipeline(&unary.inner),
        Expr::Vector(selector) => selector.edges != Edges::Smoothed,
        Expr::Binary(binary) => match (binary.left.value_type(), binary.right.value_type()) {
            (ValueType::Vector, ValueType::Scalar) => can_be_pipeline(&binary.left),
            (ValueType::Scalar, ValueType::Vector) => can_be_pipeline(&binary.right),
            _ => false,
        },
        Expr::Call(call) => {
            let name = call.function.name;
            let is_map = simple::histogram_function(name).is_some()
                || simple::float_function(name).is_some()
                || simple::takes_scalars(name);
            let is_window = call.args.iter().any(|arg| matches!(arg, Expr::Matrix(_)));
            (is_window && name != "absent_over_time")
                || (is_map && call.args.first().is_some_and(can_be_pipeline))
        }
        _ => false,
    }
}

impl Pipeline<'_, '_> {
    /// Says that of its values it matters only that they are there.
    pub(super) fn only_presence(&mut self) {
        if matches!(self.leaf, Leaf::Newest) && self.maps.is_empty() {
            self.hint.only_presence = true;
        }
    }

    fn open(&self) -> Result<Reader<'_>, EvalError> {
        let lookback = self.evaluator.query.options.lookback_ms;
        let (back, ahead) = match &self.leaf {
            Leaf::Newest => (lookback, 0),
            Leaf::Window(call) => (call.range_ms + call.back_ms(), call.ahead_ms()),
        };
        let hint = self.hint.clone();
        let matchers = &self.selector.matchers;
        self.evaluator
            .open(matchers, self.look, back, ahead, hint, self.buckets)
    }

    /// One series through all of it. Columns come back for their memory.
    fn compute(
        &self,
        labels: Labels,
        mut columns: Columns,
        findings: &mut Findings,
    ) -> Result<(Option<Series>, Columns), EvalError> {
        let evaluator = &self.evaluator;
        let first = evaluator.looked(0, self.look);
        if let Some(thinned) = columns.thinned.iter().find(|t| first <= t.until_ms) {
            let (notes, place) = (&mut findings.annotations, self.selector.place);
            notes.thinned(thinned.window_ms, place);
        }
        let mut series = match &self.leaf {
            Leaf::Newest => at_steps(
                labels,
                &columns,
                evaluator.steps,
                self.look,
                evaluator.query.options.lookback_ms,
                self.buckets,
                findings,
            ),
            Leaf::Window(call) => {
                let raw = split(labels, columns, self.buckets);
                let series = call.series(evaluator, &raw, findings)?;
                columns = raw.into_columns();
                series
            }
        };
        for map in &self.maps {
            apply(map, evaluator, &mut series, findings);
        }
        Ok(((!series.is_empty()).then_some(series), columns))
    }

    /// Whether no two of its series can have the same labels.
    fn is_distinct(&self) -> bool {
        let keeps_names = matches!(self.leaf, Leaf::Newest) && self.maps.is_empty();
        let mut matchers = self.selector.matchers.iter();
        let has_one_name = matchers
            .any(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal && !m.value().is_empty());
        keeps_names || has_one_name || self.evaluator.query.options.delays_name_removal
    }

    /// All series, in order of their labels.
    pub(super) fn collect(&self, findings: &mut Findings) -> Result<Vec<Series>, EvalError> {
        let evaluator = &self.evaluator;
        let keep = |kept: &mut Vec<Series>, series: Series| {
            evaluator.hold(std::slice::from_ref(&series))?;
            kept.push(series);
            Ok(())
        };
        let parts = self.run(findings, Vec::new, keep)?;
        let mut all: Vec<Series> = parts.into_iter().flatten().collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        let is_twice = |pair: &[Series]| pair[0].labels == pair[1].labels;
        if all.windows(2).any(is_twice) && !evaluator.query.options.delays_name_removal {
            return Ok(kittiwake_vector::join_equal(all)?);
        }
        Ok(all)
    }

    /// Folds all series into groups without keeping them.
    pub(super) fn fold(
        &self,
        fold: Fold,
        grouping: &Grouping,
        findings: &mut Findings,
    ) -> Result<Groups, EvalError> {
        let steps = self.evaluator.steps.count;
        let start = || (Groups::new(fold, grouping.clone(), steps), Vec::new());
        let evaluator = &self.evaluator;
        let add = |(groups, aside): &mut (Groups, Vec<Series>), series: Series| {
            // What is not put together exactly from parts waits for the end.
            if series.histograms.is_empty() && Groups::can_merge(fold) {
                let before = groups.size_bytes();
                groups.add(series);
                let more = groups.size_bytes() - before;
                evaluator.query.context.hold_memory(more as u64)?;
            } else {
                evaluator.hold(std::slice::from_ref(&series))?;
                aside.push(series);
            }
            Ok(())
        };
        let mut parts = self.run(findings, start, add)?.into_iter();
        let (mut groups, mut aside) = parts.next().unwrap_or_else(start);
        for (part, more) in parts {
            groups.merge(part);
            aside.extend(more);
        }
        aside.sort_by(|a, b| a.labels.cmp(&b.labels));
        for series in aside {
            groups.add(series);
        }
        Ok(groups)
    }

    /// Reads all series and gives each, computed, to `add` with the state of its thread. The
    /// same series go to the same thread in each run, and the states come in order of threads.
    fn run<S: Send>(
        &self,
        findings: &mut Findings,
        start: impl Fn() -> S + Sync,
        add: impl Fn(&mut S, Series) -> Result<(), EvalError> + Sync,
    ) -> Result<Vec<S>, EvalError> {
        let work = |mut reader: Reader<'_>, findings: &mut Findings| {
            let mut state = start();
            while let Some((labels, columns)) = reader.next()? {
                let (series, columns) = self.compute(labels, columns, findings)?;
                reader.give_back(columns);
                if let Some(series) = series {
                    add(&mut state, series)?;
                }
            }
            Ok::<S, EvalError>(state)
        };
        let mut reader = self.open()?;
        let shares = reader.split(self.evaluator.query.options.threads_max);
        if shares.is_empty() {
            return Ok(vec![work(reader, findings)?]);
        }
        let steps = self.evaluator.steps;
        let work = |reader| {
            let mut findings = Findings::new(steps);
            Ok::<_, EvalError>((work(reader, &mut findings)?, findings))
        };
        let failed = || EvalError::new("evaluation failed unexpectedly");
        let mut states = Vec::new();
        for (state, found) in on_threads(shares, work, failed)? {
            findings.merge(found);
            states.push(state);
        }
        Ok(states)
    }
}

fn apply(map: &Map<'_>, evaluator: &Evaluator<'_>, series: &mut Series, findings: &mut Findings) {
    match map {
        Map::Floats(change) => {
            for (step, value) in series.floats.iter_mut().enumerate() {
                if value.to_bits() != STALE_NAN_BITS {
                    *value = change(step, *value);
                }
            }
            series.drop_histograms();
            evaluator.drop_name(series);
        }
        Map::Histograms(change) => {
            simple::histograms_to_floats(series, *change);
            evaluator.drop_name(series);
        }
        Map::Negate => {
            simple::negate(series);
            evaluator.drop_name(series);
        }
        Map::Scalar {
            binary,
            scalars,
            is_swapped,
            place,
        } => {
            let mut notes = Notes::default();
            let returns_bool = binary.returns_bool;
            with_scalar(
                binary.op,
                returns_bool,
                series,
                scalars,
                *is_swapped,
                &mut notes,
            );
            for note in notes {
                findings.annotations.note(note, binary.op.as_str(), *place);
            }
            if returns_bool || matches!(binary.op, Operator::Arithmetic(_)) {
                evaluator.drop_name(series);
            }
        }
    }
}
