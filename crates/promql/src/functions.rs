//! The functions: what they take and give.

use crate::ast::ValueType;

/// A function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// What it takes; the last one as often as [`Function::variadic`] says.
    pub args: &'static [ValueType],
    /// How many arguments may be missing or follow: 0 none, -1 any number of the last kind.
    pub variadic: i32,
    /// What it gives.
    pub gives: ValueType,
}

const S: ValueType = ValueType::Scalar;
const V: ValueType = ValueType::Vector;
const M: ValueType = ValueType::Matrix;
const T: ValueType = ValueType::String;

const fn function(
    name: &'static str,
    args: &'static [ValueType],
    variadic: i32,
    gives: ValueType,
) -> Function {
    Function {
        name,
        args,
        variadic,
        gives,
    }
}

/// All functions, sorted by name.
pub static FUNCTIONS: [Function; 90] = [
    function("abs", &[V], 0, V),
    function("absent", &[V], 0, V),
    function("absent_over_time", &[M], 0, V),
    function("acos", &[V], 0, V),
    function("acosh", &[V], 0, V),
    function("asin", &[V], 0, V),
    function("asinh", &[V], 0, V),
    function("atan", &[V], 0, V),
    function("atanh", &[V], 0, V),
    function("avg_over_time", &[M], 0, V),
    function("ceil", &[V], 0, V),
    function("changes", &[M], 0, V),
    function("clamp", &[V, S, S], 0, V),
    function("clamp_max", &[V, S], 0, V),
    function("clamp_min", &[V, S], 0, V),
    function("cos", &[V], 0, V),
    function("cosh", &[V], 0, V),
    function("count_over_time", &[M], 0, V),
    function("day_of_month", &[V], 1, V),
    function("day_of_week", &[V], 1, V),
    function("day_of_year", &[V], 1, V),
    function("days_in_month", &[V], 1, V),
    function("deg", &[V], 0, V),
    function("delta", &[M], 0, V),
    function("deriv", &[M], 0, V),
    function("double_exponential_smoothing", &[M, S, S], 0, V),
    function("end", &[], 0, S),
    function("exp", &[V], 0, V),
    function("first_over_time", &[M], 0, V),
    function("floor", &[V], 0, V),
    function("histogram_avg", &[V], 0, V),
    function("histogram_count", &[V], 0, V),
    function("histogram_fraction", &[S, S, V], 0, V),
    function("histogram_quantile", &[S, V], 0, V),
    function("histogram_quantiles", &[V, T, S, S], 9, V),
    function("histogram_stddev", &[V], 0, V),
    function("histogram_stdvar", &[V], 0, V),
    function("histogram_sum", &[V], 0, V),
    function("hour", &[V], 1, V),
    function("idelta", &[M], 0, V),
    function("increase", &[M], 0, V),
    function("info", &[V, V], 1, V),
    function("irate", &[M], 0, V),
    function("label_join", &[V, T, T, T], -1, V),
    function("label_replace", &[V, T, T, T, T], 0, V),
    function("last_over_time", &[M], 0, V),
    function("ln", &[V], 0, V),
    function("log10", &[V], 0, V),
    function("log2", &[V], 0, V),
    function("mad_over_time", &[M], 0, V),
    function("max_of", &[S, S], 0, S),
    function("max_over_time", &[M], 0, V),
    function("min_of", &[S, S], 0, S),
    function("min_over_time", &[M], 0, V),
    function("minute", &[V], 1, V),
    function("month", &[V], 1, V),
    function("pi", &[], 0, S),
    function("predict_linear", &[M, S], 0, V),
    function("present_over_time", &[M], 0, V),
    function("quantile_over_time", &[S, M], 0, V),
    function("rad", &[V], 0, V),
    function("range", &[], 0, S),
    function("rate", &[M], 0, V),
    function("resets", &[M], 0, V),
    function("round", &[V, S], 1, V),
    function("scalar", &[V], 0, S),
    function("sgn", &[V], 0, V),
    function("sin", &[V], 0, V),
    function("sinh", &[V], 0, V),
    function("sort", &[V], 0, V),
    function("sort_by_label", &[V, T], -1, V),
    function("sort_by_label_desc", &[V, T], -1, V),
    function("sort_desc", &[V], 0, V),
    function("sqrt", &[V], 0, V),
    function("start", &[], 0, S),
    function("start_timestamp", &[V], 0, V),
    function("stddev_over_time", &[M], 0, V),
    function("stdvar_over_time", &[M], 0, V),
    function("step", &[], 0, S),
    function("sum_over_time", &[M], 0, V),
    function("tan", &[V], 0, V),
    function("tanh", &[V], 0, V),
    function("time", &[], 0, S),
    function("timestamp", &[V], 0, V),
    function("ts_of_first_over_time", &[M], 0, V),
    function("ts_of_last_over_time", &[M], 0, V),
    function("ts_of_max_over_time", &[M], 0, V),
    function("ts_of_min_over_time", &[M], 0, V),
    function("vector", &[S], 0, V),
    function("year", &[V], 1, V),
];

impl Function {
    /// The function of a name.
    pub fn of(name: &str) -> Option<&'static Self> {
        let place = FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok()?;
        FUNCTIONS.get(place)
    }

    /// Whether its result depends on the time of evaluation even when its arguments do not.
    pub fn depends_on_time(&self) -> bool {
        matches!(
            self.name,
            "days_in_month"
                | "day_of_month"
                | "day_of_week"
                | "day_of_year"
                | "end"
                | "hour"
                | "minute"
                | "month"
                | "year"
                | "predict_linear"
                | "range"
                | "start"
                | "step"
                | "time"
                | "timestamp"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_found() {
        for function in &FUNCTIONS {
            assert_eq!(Function::of(function.name), Some(function));
        }
        assert_eq!(Function::of("no_such"), None);
    }
}
