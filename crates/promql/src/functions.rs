//! The functions of the language: what they take and give, and those of them that work value
//! by value.

use crate::ast::ValueType::{self, Matrix, Scalar, String, Vector};
use crate::over_time::{self as over, OverTime};

/// A function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) takes: &'static [ValueType],
    /// How many arguments there must be.
    pub(crate) least: usize,
    /// Whether the last argument can be repeated.
    pub(crate) is_variadic: bool,
    pub(crate) gives: ValueType,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Of the samples in a window; whether the metric's name stays.
    OverTime(OverTime, bool),
    /// Of one value.
    Map(fn(f64) -> f64),
    /// Of one value and scalars; `None` drops the value.
    With(fn(f64, &[f64]) -> Option<f64>),
    /// A part of a date, of the step's time without an argument.
    Date,
    /// What has a place of its own in the evaluator.
    Special(Special),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Absent,
    AbsentOverTime,
    HistogramQuantile,
    LabelJoin,
    LabelReplace,
    Pi,
    Scalar,
    Sort { descending: bool },
    Time,
    Timestamp,
    Vector,
}

const fn over_time(name: &'static str, f: OverTime) -> Function {
    Function {
        name,
        takes: &[Matrix],
        least: 1,
        is_variadic: false,
        gives: Vector,
        kind: Kind::OverTime(f, false),
    }
}

const fn map(name: &'static str, f: fn(f64) -> f64) -> Function {
    Function {
        name,
        takes: &[Vector],
        least: 1,
        is_variadic: false,
        gives: Vector,
        kind: Kind::Map(f),
    }
}

const fn with(
    name: &'static str,
    takes: &'static [ValueType],
    least: usize,
    f: fn(f64, &[f64]) -> Option<f64>,
) -> Function {
    Function {
        name,
        takes,
        least,
        is_variadic: false,
        gives: Vector,
        kind: Kind::With(f),
    }
}

const fn date(name: &'static str) -> Function {
    Function {
        name,
        takes: &[Vector],
        least: 0,
        is_variadic: false,
        gives: Vector,
        kind: Kind::Date,
    }
}

const fn special(
    name: &'static str,
    takes: &'static [ValueType],
    gives: ValueType,
    special: Special,
) -> Function {
    Function {
        name,
        takes,
        least: takes.len(),
        is_variadic: false,
        gives,
        kind: Kind::Special(special),
    }
}

static FUNCTIONS: [Function; 68] = [
    over_time("avg_over_time", over::avg),
    over_time("changes", over::changes),
    over_time("count_over_time", over::count),
    over_time("delta", over::delta),
    over_time("deriv", over::deriv),
    over_time("idelta", over::idelta),
    over_time("increase", over::increase),
    over_time("irate", over::irate),
    over_time("mad_over_time", over::mad),
    over_time("max_over_time", over::max),
    over_time("min_over_time", over::min),
    over_time("present_over_time", over::present),
    over_time("rate", over::rate),
    over_time("resets", over::resets),
    over_time("stddev_over_time", over::stddev),
    over_time("stdvar_over_time", over::stdvar),
    over_time("sum_over_time", over::sum),
    Function {
        kind: Kind::OverTime(over::first, true),
        ..over_time("first_over_time", over::first)
    },
    Function {
        kind: Kind::OverTime(over::last, true),
        ..over_time("last_over_time", over::last)
    },
    Function {
        takes: &[Scalar, Matrix],
        least: 2,
        ..over_time("quantile_over_time", over::quantile_of)
    },
    Function {
        takes: &[Matrix, Scalar],
        least: 2,
        ..over_time("predict_linear", over::predict_linear)
    },
    map("abs", f64::abs),
    map("acos", f64::acos),
    map("acosh", f64::acosh),
    map("asin", f64::asin),
    map("asinh", f64::asinh),
    map("atan", f64::atan),
    map("atanh", f64::atanh),
    map("ceil", f64::ceil),
    map("cos", f64::cos),
    map("cosh", f64::cosh),
    map("deg", |v| v * 180.0 / std::f64::consts::PI),
    map("exp", f64::exp),
    map("floor", f64::floor),
    map("ln", f64::ln),
    map("log10", f64::log10),
    map("log2", f64::log2),
    map("rad", |v| v * std::f64::consts::PI / 180.0),
    map("sgn", |v| {
        if v < 0.0 {
            -1.0
        } else if v > 0.0 {
            1.0
        } else {
            v
        }
    }),
    map("sin", f64::sin),
    map("sinh", f64::sinh),
    map("sqrt", f64::sqrt),
    map("tan", f64::tan),
    map("tanh", f64::tanh),
    with("clamp", &[Vector, Scalar, Scalar], 3, |v, p| {
        (p[0] <= p[1] || p[0].is_nan() || p[1].is_nan()).then(|| larger(p[0], smaller(p[1], v)))
    }),
    with("clamp_max", &[Vector, Scalar], 2, |v, p| {
        Some(smaller(v, p[0]))
    }),
    with("clamp_min", &[Vector, Scalar], 2, |v, p| {
        Some(larger(v, p[0]))
    }),
    with("round", &[Vector, Scalar], 1, |v, p| {
        // By the inverse, so that tenths and the like come out exact.
        let inverse = 1.0 / p.first().copied().unwrap_or(1.0);
        Some((v * inverse + 0.5).floor() / inverse)
    }),
    date("day_of_month"),
    date("day_of_week"),
    date("day_of_year"),
    date("days_in_month"),
    date("hour"),
    date("minute"),
    date("month"),
    date("year"),
    special("absent", &[Vector], Vector, Special::Absent),
    special(
        "absent_over_time",
        &[Matrix],
        Vector,
        Special::AbsentOverTime,
    ),
    special(
        "histogram_quantile",
        &[Scalar, Vector],
        Vector,
        Special::HistogramQuantile,
    ),
    Function {
        least: 3,
        is_variadic: true,
        ..special(
            "label_join",
            &[Vector, String, String, String],
            Vector,
            Special::LabelJoin,
        )
    },
    special(
        "label_replace",
        &[Vector, String, String, String, String],
        Vector,
        Special::LabelReplace,
    ),
    special("pi", &[], Scalar, Special::Pi),
    special("scalar", &[Vector], Scalar, Special::Scalar),
    special(
        "sort",
        &[Vector],
        Vector,
        Special::Sort { descending: false },
    ),
    special(
        "sort_desc",
        &[Vector],
        Vector,
        Special::Sort { descending: true },
    ),
    special("time", &[], Scalar, Special::Time),
    special("timestamp", &[Vector], Vector, Special::Timestamp),
    special("vector", &[Scalar], Vector, Special::Vector),
];

/// NaN if either is.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// NaN if either is.
fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}

/// A function by its name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}

/// The quantile of a classic histogram: upper bounds with cumulative counts, in any order.
pub(crate) fn histogram_quantile(phi: f64, buckets: &mut Vec<(f64, f64)>) -> f64 {
    if phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets
        .last()
        .is_none_or(|(bound, _)| *bound != f64::INFINITY)
    {
        return f64::NAN;
    }
    // Bounds that differ only in writing are one bucket.
    buckets.dedup_by(|later, earlier| {
        let is_same = later.0 == earlier.0;
        if is_same {
            earlier.1 += later.1;
        }
        is_same
    });
    // Counts that were not read at one moment may fall; such falls are levelled.
    let mut highest = f64::NEG_INFINITY;
    for (_, count) in buckets.iter_mut() {
        highest = highest.max(*count);
        *count = highest;
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].1;
    if buckets.len() < 2 || observations == 0.0 || observations.is_nan() {
        return f64::NAN;
    }
    let mut rank = phi * observations;
    let place = buckets[..last].partition_point(|(_, count)| *count < rank);
    if place == last {
        return buckets[last - 1].0;
    }
    let (end, mut count) = buckets[place];
    if place == 0 && end <= 0.0 {
        return end;
    }
    let mut start = 0.0;
    if place > 0 {
        start = buckets[place - 1].0;
        count -= buckets[place - 1].1;
        rank -= buckets[place - 1].1;
    }
    start + (end - start) * (rank / count)
}
