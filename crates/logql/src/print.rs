//! A query as text: on one line, or broken over several as `format_query` answers it.

use std::fmt::{self, Display, Formatter};

use kittiwake_model::{MatchOp, Matcher, duration, quote};
use kittiwake_vector::{Cardinality, Comparison, Grouping, Matching, Operator};

use crate::ast::{
    Conversion, Expr, Extraction, LabelFilter, LogExpr, MetricExpr, NamedMatcher, RangeExpr, Stage,
    TextFilter, Unwrap, Wanted,
};
use crate::units::{go_float, human_bytes, prometheus_duration};

/// Longer expressions are broken.
const LINE_CHARS_MAX: usize = 100;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(expr) => expr.fmt(f),
            Self::Metric(expr) => expr.fmt(f),
        }
    }
}

struct Separated<'a, T>(&'a [T], &'static str);

impl<T: Display> Display for Separated<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, one) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(self.1)?;
            }
            one.fmt(f)?;
        }
        Ok(())
    }
}

struct Text<'a>(&'a Matcher);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}{}",
            self.0.name(),
            self.0.op(),
            quote(self.0.value())
        )
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let matchers: Vec<Text<'_>> = self.selector.iter().map(Text).collect();
        write!(f, "{{{}}}", Separated(&matchers, ", "))?;
        for stage in &self.stages {
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

impl Display for TextFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.op.as_str(),
            Separated(&self.alternatives, " or ")
        )
    }
}

impl Display for Wanted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quote(text)),
            Self::Ip(text) => write!(f, "ip({})", quote(text)),
        }
    }
}

impl Display for Extraction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, quote(&self.path))
    }
}

impl Display for NamedMatcher {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Matcher(matcher) => Text(matcher).fmt(f),
        }
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(filter) => filter.fmt(f),
            Self::Json(fields) if fields.is_empty() => f.write_str("| json"),
            Self::Json(fields) => write!(f, "| json {}", Separated(fields, ",")),
            Self::Logfmt {
                strict,
                keep_empty,
                fields,
            } => {
                f.write_str("| logfmt")?;
                if *strict {
                    f.write_str(" --strict")?;
                }
                if *keep_empty {
                    f.write_str(" --keep-empty")?;
                }
                if !fields.is_empty() {
                    write!(f, " {}", Separated(fields, ","))?;
                }
                Ok(())
            }
            Self::Regexp(regex) => write!(f, "| regexp {}", quote(regex)),
            Self::Pattern(pattern) => write!(f, "| pattern {}", quote(pattern)),
            Self::Unpack => f.write_str("| unpack"),
            Self::Label(filter) => write!(f, "| {filter}"),
            Self::LineFormat(template) => write!(f, "| line_format {}", quote(template)),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                for (index, format) in formats.iter().enumerate() {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    if format.is_rename {
                        write!(f, "{}={}", format.name, format.value)?;
                    } else {
                        write!(f, "{}={}", format.name, quote(&format.value))?;
                    }
                }
                Ok(())
            }
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Drop(names) => write!(f, "| drop {}", Separated(names, ",")),
            Self::Keep(names) => write!(f, "| keep {}", Separated(names, ",")),
        }
    }
}

fn sign(comparison: Comparison) -> &'static str {
    Operator::Comparison(comparison).as_str()
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(matcher) if is_plain_regex(matcher) => {
                write!(f, "{}=~`{}`", matcher.name(), matcher.value())
            }
            Self::Text(matcher) => Text(matcher).fmt(f),
            Self::Number(name, op, number) => {
                write!(f, "{name}{}{}", sign(*op), plain_number(*number))
            }
            Self::Duration(name, op, ns) => write!(f, "{name}{}{}", sign(*op), duration::text(*ns)),
            Self::Bytes(name, op, bytes) => {
                // The short form only where it says the same.
                let short = human_bytes(*bytes);
                let is_exact = crate::units::parse_bytes(&short) == Ok(*bytes);
                let text = if is_exact { short } else { format!("{bytes}B") };
                write!(f, "{name}{}{text}", sign(*op))
            }
            Self::Ip {
                name,
                is_negated,
                pattern,
            } => {
                let sign = if *is_negated { "!=" } else { "=" };
                write!(f, "{name}{sign}ip({})", quote(pattern))
            }
            Self::And(left, right) => write!(f, "( {left} , {right} )"),
            Self::Or(left, right) => write!(f, "( {left} or {right} )"),
        }
    }
}

/// Whether a filter's expression is more than literals, which Loki shows between backticks.
fn is_plain_regex(matcher: &Matcher) -> bool {
    let text = matcher.value();
    let any = text.replace(".*", "");
    let is_more = any.contains(['[', '+', '?', '{', '^', '$'])
        || any.replace("\\.", "").contains('.')
        || ["\\d", "\\w", "\\s", "\\b"]
            .iter()
            .any(|class| any.contains(class));
    matcher.op() == MatchOp::Regex && is_more && !text.contains('`') && !text.contains("(?i)")
}

/// A number without an exponent where the language allows it.
fn plain_number(number: f64) -> String {
    if number.is_finite() {
        number.to_string()
    } else {
        go_float(number)
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.conversion {
            Conversion::Number => write!(f, "| unwrap {name}")?,
            Conversion::Duration => write!(f, "| unwrap duration({name})")?,
            Conversion::DurationSeconds => write!(f, "| unwrap duration_seconds({name})")?,
            Conversion::Bytes => write!(f, "| unwrap bytes({name})")?,
        }
        for filter in &self.filters {
            write!(f, " | {filter}")?;
        }
        Ok(())
    }
}

struct Group<'a>(&'a Grouping);

impl Display for Group<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Grouping::By(names) => write!(f, " by ({})", names.join(",")),
            Grouping::Without(names) => write!(f, " without ({})", names.join(",")),
        }
    }
}

/// The window and the offset, exact where Prometheus' form would lose digits.
fn window(ns: i64) -> String {
    if ns % 1_000_000 == 0 {
        prometheus_duration(ns)
    } else {
        duration::text(ns)
    }
}

impl Display for RangeExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        if let crate::RangeOp::QuantileOverTime(phi) = self.op {
            write!(f, "{},", plain_number(phi))?;
        }
        Lines(self).fmt(f)?;
        f.write_str(")")?;
        match &self.grouping {
            Some(grouping) => Group(grouping).fmt(f),
            None => Ok(()),
        }
    }
}

/// The lines of a range aggregation with their window.
struct Lines<'a>(&'a RangeExpr);

impl Display for Lines<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.log.fmt(f)?;
        if let Some(unwrap) = &self.0.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(f, "[{}]", window(self.0.window_ns))?;
        if self.0.offset_ns != 0 {
            write!(f, " offset {}", window(self.0.offset_ns))?;
        }
        Ok(())
    }
}

/// The operator with `bool` and what is matched.
fn operator(op: Operator, returns_bool: bool, matching: Option<&Matching>, comma: &str) -> String {
    let mut text = op.as_str().to_owned();
    if returns_bool {
        text.push_str(" bool");
    }
    if let Some(matching) = matching {
        let (word, names) = match &matching.on {
            Grouping::By(names) => ("on", names),
            Grouping::Without(names) => ("ignoring", names),
        };
        text = format!("{text} {word} ({})", names.join(comma));
        let group = match matching.cardinality {
            // Loki has the space, too.
            Cardinality::OneToOne => " ",
            Cardinality::ManyToOne => " group_left",
            Cardinality::OneToMany => " group_right",
        };
        text.push_str(group);
        if !matching.include.is_empty() {
            text = format!("{text} ({})", matching.include.join(comma));
        }
    }
    text
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => f.write_str(&go_float(*number)),
            Self::Vector(number) => write!(f, "vector({number:.6})"),
            Self::Range(range) => range.fmt(f),
            Self::Aggregate {
                op,
                grouping,
                inner,
            } => {
                f.write_str(op.as_str())?;
                if let Some(grouping) = grouping {
                    Group(grouping).fmt(f)?;
                }
                match op.parameter() {
                    Some(k) => write!(f, "({k},{inner})"),
                    None => write!(f, "({inner})"),
                }
            }
            Self::LabelReplace {
                inner,
                dst,
                replacement,
                src,
                regex,
            } => write!(
                f,
                "label_replace({inner},{},{},{},{})",
                quote(dst),
                quote(replacement),
                quote(src),
                quote(regex)
            ),
            Self::Variants { variants, of } => {
                write!(
                    f,
                    "variants({}) of ({})",
                    Separated(variants, ", "),
                    Lines(of)
                )
            }
            Self::Binary {
                op,
                returns_bool,
                matching,
                left,
                right,
            } => {
                let op = operator(*op, *returns_bool, matching.as_ref(), ",");
                write!(f, "({left} {op} {right})")
            }
        }
    }
}

/// A query over several lines where it is long, as Loki's `format_query` breaks it.
pub fn pretty(expr: &Expr) -> String {
    match expr {
        Expr::Log(expr) => pretty_log(expr, 0),
        Expr::Metric(expr) => pretty_metric(expr, 0),
    }
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

fn fits(text: &str) -> bool {
    text.len() <= LINE_CHARS_MAX
}

fn pretty_log(expr: &LogExpr, level: usize) -> String {
    let whole = expr.to_string();
    if fits(&whole) {
        return indent(level) + &whole;
    }
    let bare = LogExpr {
        selector: expr.selector.clone(),
        stages: Vec::new(),
    };
    let mut text = format!("{}{bare}", indent(level));
    for stage in &expr.stages {
        text.push('\n');
        if !matches!(stage, Stage::Decolorize) {
            text.push_str(&indent(level + 1));
        }
        text.push_str(&stage.to_string());
    }
    text
}

fn pretty_group(grouping: Option<&Grouping>) -> String {
    match grouping {
        Some(Grouping::Without(names)) if names.is_empty() => " without".to_owned(),
        Some(Grouping::Without(names)) => format!(" without ({})", names.join(", ")),
        Some(Grouping::By(names)) if !names.is_empty() => format!(" by ({})", names.join(", ")),
        _ => String::new(),
    }
}

fn pretty_lines(range: &RangeExpr, level: usize) -> String {
    let mut text = pretty_log(&range.log, level);
    if let Some(unwrap) = &range.unwrap {
        let bare = Unwrap {
            filters: Vec::new(),
            ..unwrap.clone()
        };
        text = format!("{text}\n{}{bare}", indent(level + 1));
        for filter in &unwrap.filters {
            text = format!("{text}\n{}| {filter}", indent(level + 1));
        }
    }
    text = format!("{text} [{}]", window(range.window_ns));
    if range.offset_ns != 0 {
        text = format!("{text} offset {}", window(range.offset_ns));
    }
    text
}

fn pretty_range(range: &RangeExpr, level: usize) -> String {
    let mut text = format!("{}{}(\n", indent(level), range.op.as_str());
    if let crate::RangeOp::QuantileOverTime(phi) = range.op {
        text = format!("{text}{}{},\n", indent(level + 1), go_float(phi));
    }
    text.push_str(&pretty_lines(range, level + 1));
    format!(
        "{text}\n{}){}",
        indent(level),
        pretty_group(range.grouping.as_ref())
    )
}

fn pretty_metric(expr: &MetricExpr, level: usize) -> String {
    let whole = expr.to_string();
    if fits(&whole) {
        return indent(level) + &whole;
    }
    match expr {
        MetricExpr::Number(_) | MetricExpr::Vector(_) => indent(level) + &whole,
        MetricExpr::Range(range) => pretty_range(range, level),
        MetricExpr::Aggregate {
            op,
            grouping,
            inner,
        } => {
            let mut text = format!(
                "{}{}{}(\n",
                indent(level),
                op.as_str(),
                pretty_group(grouping.as_ref())
            );
            if let Some(k) = op.parameter() {
                text = format!("{text}{}{k},\n", indent(level + 1));
            }
            format!(
                "{text}{}\n{})",
                pretty_metric(inner, level + 1),
                indent(level)
            )
        }
        MetricExpr::Variants { variants, of } => {
            let each = variants.iter().map(|v| pretty_metric(v, level + 1));
            let each: Vec<String> = each.collect();
            format!(
                "{}variants(\n{}\n{}) of (\n{}{}\n)",
                indent(level),
                each.join(",\n"),
                indent(level),
                pretty_lines(of, level + 1),
                indent(level),
            )
        }
        MetricExpr::LabelReplace {
            inner,
            dst,
            replacement,
            src,
            regex,
        } => {
            let mut text = format!("{}label_replace(\n", indent(level));
            text.push_str(&pretty_metric(inner, level + 1));
            for part in [dst, replacement, src, regex] {
                text = format!("{text},\n{}{}", indent(level + 1), quote(part));
            }
            format!("{text}\n{})", indent(level))
        }
        MetricExpr::Binary {
            op,
            returns_bool,
            matching,
            left,
            right,
        } => format!(
            "{}\n{}{}\n{}",
            pretty_metric(left, level + 1),
            indent(level),
            operator(*op, *returns_bool, matching.as_ref(), ", "),
            pretty_metric(right, level + 1)
        ),
    }
}
