//! The tree of a query.

use kittiwake_model::{LineFilter, MatchOp, Matcher};
use kittiwake_vector::{Comparison, Fold, Grouping, Matching, Operator, Rank};

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// One that gives lines.
    Log(LogExpr),
    /// One that gives numbers.
    Metric(MetricExpr),
}

/// A selector with the stages that its lines go through.
#[derive(Debug, Clone, PartialEq)]
pub struct LogExpr {
    /// What streams must match.
    pub selector: Vec<Matcher>,
    /// The stages in order.
    pub stages: Vec<Stage>,
}

/// What a line goes through.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// A filter on the text.
    Line(TextFilter),
    /// `| json`, all fields or those named.
    Json(Vec<Extraction>),
    /// `| logfmt`, all fields or those named.
    Logfmt {
        /// A malformed pair ends the parsing with an error.
        strict: bool,
        /// Keys without a value become labels, too.
        keep_empty: bool,
        /// The fields wanted; none for all.
        fields: Vec<Extraction>,
    },
    /// `| regexp`
    Regexp(String),
    /// `| pattern`
    Pattern(String),
    /// `| unpack`
    Unpack,
    /// A filter on labels.
    Label(LabelFilter),
    /// `| line_format`
    LineFormat(String),
    /// `| label_format`
    LabelFormat(Vec<LabelFormat>),
    /// `| decolorize`
    Decolorize,
    /// `| drop`
    Drop(Vec<NamedMatcher>),
    /// `| keep`
    Keep(Vec<NamedMatcher>),
}

/// How a line filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextOp {
    /// `|=`
    Contains,
    /// `!=`
    NotContains,
    /// `|~`
    Matches,
    /// `!~`
    NotMatches,
    /// `|>`
    Like,
    /// `!>`
    NotLike,
}

impl TextOp {
    /// Its sign.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::NotContains => "!=",
            Self::Matches => "|~",
            Self::NotMatches => "!~",
            Self::Like => "|>",
            Self::NotLike => "!>",
        }
    }

    /// Whether it drops the lines that it finds.
    pub fn is_negated(self) -> bool {
        matches!(self, Self::NotContains | Self::NotMatches | Self::NotLike)
    }
}

/// A line filter with its alternatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFilter {
    /// How it compares.
    pub op: TextOp,
    /// What is looked for, joined by `or`.
    pub alternatives: Vec<Wanted>,
}

/// What a line filter looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A text, an expression or a pattern.
    Text(String),
    /// `ip("…")`
    Ip(String),
}

/// A label and where its value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The label.
    pub name: String,
    /// The path in the line.
    pub path: String,
}

/// `dst=src`, or `dst="template"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFormat {
    /// The label that is set.
    pub name: String,
    /// The label whose place it takes, or a template.
    pub value: String,
    /// Whether the value names a label.
    pub is_rename: bool,
}

/// What `drop` and `keep` name: a label, or a label with a certain value.
#[derive(Debug, Clone, PartialEq)]
pub enum NamedMatcher {
    /// The label, whatever its value.
    Name(String),
    /// The label when it matches.
    Matcher(Matcher),
}

/// A filter on labels.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelFilter {
    /// `a="b"` and the like.
    Text(Matcher),
    /// `a > 5`
    Number(String, Comparison, f64),
    /// `a > 5s`, in ns
    Duration(String, Comparison, i64),
    /// `a > 5MB`
    Bytes(String, Comparison, u64),
    /// `a = ip("…")`
    Ip {
        /// The label.
        name: String,
        /// Whether it must not match.
        is_negated: bool,
        /// The address, range or network.
        pattern: String,
    },
    /// Both must hold.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// One must hold.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

impl LabelFilter {
    /// The labels that it reads.
    pub fn names(&self, found: &mut Vec<String>) {
        match self {
            // One that takes everything reads nothing.
            Self::Text(matcher) if matcher.op() == MatchOp::Regex && matcher.value() == ".*" => {}
            Self::Text(matcher) => found.push(matcher.name().to_owned()),
            Self::Number(name, ..)
            | Self::Duration(name, ..)
            | Self::Bytes(name, ..)
            | Self::Ip { name, .. } => found.push(name.clone()),
            Self::And(left, right) | Self::Or(left, right) => {
                left.names(found);
                right.names(found);
            }
        }
    }
}

/// How a label's value becomes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// A plain number.
    Number,
    /// `duration(…)`, in seconds
    Duration,
    /// `duration_seconds(…)`
    DurationSeconds,
    /// `bytes(…)`
    Bytes,
}

/// `| unwrap …`
#[derive(Debug, Clone, PartialEq)]
pub struct Unwrap {
    /// The label.
    pub name: String,
    /// How it becomes a number.
    pub conversion: Conversion,
    /// Filters behind it.
    pub filters: Vec<LabelFilter>,
}

/// What a range aggregation computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RangeOp {
    /// Lines, or numbers.
    CountOverTime,
    /// Lines per second, or the sum of numbers per second.
    Rate,
    /// The increase of a counter per second.
    RateCounter,
    /// Bytes of lines.
    BytesOverTime,
    /// Bytes of lines per second.
    BytesRate,
    /// The mean.
    AvgOverTime,
    /// The sum.
    SumOverTime,
    /// The least.
    MinOverTime,
    /// The greatest.
    MaxOverTime,
    /// The population variance.
    StdvarOverTime,
    /// The population standard deviation.
    StddevOverTime,
    /// The φ-quantile.
    QuantileOverTime(f64),
    /// The oldest.
    FirstOverTime,
    /// The newest.
    LastOverTime,
    /// 1 where there is no line at all.
    AbsentOverTime,
}

impl RangeOp {
    const NAMES: [(&'static str, Self); 15] = [
        ("count_over_time", Self::CountOverTime),
        ("rate", Self::Rate),
        ("rate_counter", Self::RateCounter),
        ("bytes_over_time", Self::BytesOverTime),
        ("bytes_rate", Self::BytesRate),
        ("avg_over_time", Self::AvgOverTime),
        ("sum_over_time", Self::SumOverTime),
        ("min_over_time", Self::MinOverTime),
        ("max_over_time", Self::MaxOverTime),
        ("stdvar_over_time", Self::StdvarOverTime),
        ("stddev_over_time", Self::StddevOverTime),
        ("quantile_over_time", Self::QuantileOverTime(0.0)),
        ("first_over_time", Self::FirstOverTime),
        ("last_over_time", Self::LastOverTime),
        ("absent_over_time", Self::AbsentOverTime),
    ];

    pub(crate) fn of(name: &str) -> Option<Self> {
        let named = Self::NAMES.iter().find(|(n, _)| *n == name);
        named.map(|(_, op)| *op)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        let same = |op: &Self| std::mem::discriminant(op) == std::mem::discriminant(&self);
        let named = Self::NAMES.iter().find(|(_, op)| same(op));
        named.map_or("", |(name, _)| name)
    }

    /// Whether it computes with numbers only, never with lines.
    pub(crate) fn needs_unwrap(self) -> bool {
        matches!(
            self,
            Self::AvgOverTime
                | Self::SumOverTime
                | Self::MinOverTime
                | Self::MaxOverTime
                | Self::StdvarOverTime
                | Self::StddevOverTime
                | Self::QuantileOverTime(_)
                | Self::RateCounter
                | Self::FirstOverTime
                | Self::LastOverTime
        )
    }

    /// Whether `by` and `without` may follow it.
    pub(crate) fn can_group(self) -> bool {
        matches!(
            self,
            Self::AvgOverTime
                | Self::MinOverTime
                | Self::MaxOverTime
                | Self::StdvarOverTime
                | Self::StddevOverTime
                | Self::QuantileOverTime(_)
                | Self::FirstOverTime
                | Self::LastOverTime
        )
    }
}

/// What an aggregation of series computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VectorOp {
    /// One value of all members of a group.
    Fold(Fold),
    /// So many members of each group.
    Rank(Rank, usize),
    /// Ascending order of values.
    Sort,
    /// Descending order of values.
    SortDesc,
    /// The k greatest, which Loki estimates and this engine knows.
    ApproxTopk(usize),
}

impl VectorOp {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fold(Fold::Sum) => "sum",
            Self::Fold(Fold::Avg) => "avg",
            Self::Fold(Fold::Min) => "min",
            Self::Fold(Fold::Max) => "max",
            Self::Fold(Fold::Count) => "count",
            Self::Fold(Fold::Stddev) => "stddev",
            Self::Fold(Fold::Stdvar) => "stdvar",
            Self::Rank(Rank::Topk, _) => "topk",
            Self::Rank(_, _) => "bottomk",
            Self::Fold(_) => "group",
            Self::Sort => "sort",
            Self::SortDesc => "sort_desc",
            Self::ApproxTopk(_) => "approx_topk",
        }
    }

    /// Of how many series it keeps the first.
    pub fn parameter(self) -> Option<usize> {
        match self {
            Self::Rank(_, k) | Self::ApproxTopk(k) => Some(k),
            _ => None,
        }
    }
}

/// An aggregation of lines over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeExpr {
    /// What is computed.
    pub op: RangeOp,
    /// The lines.
    pub log: LogExpr,
    /// The label whose numbers are taken, if not the lines themselves.
    pub unwrap: Option<Unwrap>,
    /// The window in ns: lines with `t - window < time <= t`.
    pub window_ns: i64,
    /// How far back it is looked, in ns.
    pub offset_ns: i64,
    /// The labels that are kept or dropped.
    pub grouping: Option<Grouping>,
}

/// A query that gives numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricExpr {
    /// A number.
    Number(f64),
    /// `vector(…)`
    Vector(f64),
    /// An aggregation of lines over a window.
    Range(RangeExpr),
    /// An aggregation of series.
    Aggregate {
        /// What is computed of a group.
        op: VectorOp,
        /// The labels that are kept or dropped.
        grouping: Option<Grouping>,
        /// What is aggregated.
        inner: Box<Self>,
    },
    /// `label_replace(…)`
    LabelReplace {
        /// The series.
        inner: Box<Self>,
        /// The label that is set.
        dst: String,
        /// Its value, with `$1` and the like.
        replacement: String,
        /// The label that is read.
        src: String,
        /// What its whole value must match.
        regex: String,
    },
    /// `variants(…) of (…)`: several figures of the same lines.
    Variants {
        /// The figures, each over the lines of `of` whatever its own selector.
        variants: Vec<Self>,
        /// The lines.
        of: RangeExpr,
    },
    /// Two expressions joined by an operator.
    Binary {
        /// The operator.
        op: Operator,
        /// Whether a comparison gives 0 or 1.
        returns_bool: bool,
        /// Which series belong together; nothing when it is not said.
        matching: Option<Matching>,
        /// The left side.
        left: Box<Self>,
        /// The right side.
        right: Box<Self>,
    },
}

impl TextFilter {
    /// The same filter as a store understands it, if one does.
    pub(crate) fn for_store(&self) -> Option<LineFilter> {
        let texts = self.alternatives.iter().map(|wanted| match wanted {
            Wanted::Text(text) => Some(text.clone()),
            Wanted::Ip(_) => None,
        });
        let texts: Vec<String> = texts.collect::<Option<_>>()?;
        let regexes = || {
            let compiled = texts
                .iter()
                .map(|t| kittiwake_model::pattern::unanchored(t));
            compiled.collect::<Result<Vec<_>, _>>().ok()
        };
        Some(match self.op {
            TextOp::Contains => LineFilter::Contains(texts),
            TextOp::NotContains => LineFilter::NotContains(texts),
            TextOp::Matches => LineFilter::Matches(regexes()?),
            TextOp::NotMatches => LineFilter::NotMatches(regexes()?),
            TextOp::Like | TextOp::NotLike => return None,
        })
    }
}
