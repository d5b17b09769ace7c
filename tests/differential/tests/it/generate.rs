//! Makes queries of the whole language that mean something over the loaded data. It is long as the
//! language is: one table of forms, which belong beside each other.

use kittiwake_promql::ast::ValueType;
use kittiwake_promql::{FUNCTIONS, Function};

use crate::harness::Random;
use crate::tree::{Gives, Node, Part};

/// Which labels a vector has, as far as joining it with another goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Those of the metrics that have job and instance only.
    Full,
    /// The job.
    Job,
    /// None.
    Single,
}

const FULL: [&str; 6] = [
    "load",
    "temperature",
    "latency_count",
    "started_total",
    "latency_sum",
    "odd",
];
const WIDE: [&str; 4] = [
    "requests_total",
    "latency_bucket",
    "{\"métrique.utf8\"}",
    "mixed",
];
const COUNTERS: [&str; 5] = [
    "requests_total",
    "started_total",
    "latency_count",
    "latency_sum",
    "latency_bucket",
];
const HISTOGRAMS: [&str; 4] = ["native", "float_native", "custom_native", "gauge_native"];
const FOLDS: [&str; 8] = [
    "sum", "avg", "min", "max", "count", "group", "stddev", "stdvar",
];
const PARAMETERS: [&str; 6] = [
    "quantile",
    "topk",
    "bottomk",
    "limitk",
    "limit_ratio",
    "count_values",
];
const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
/// Those whose result is off by as little as what they are given.
const STEADY: [&str; 5] = ["+", "-", "*", "/", "atan2"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<=", "<", ">=", ">"];
const SETS: [&str; 3] = ["and", "or", "unless"];
const TRIMS: [&str; 2] = ["</", ">/"];
/// What fails, when it is read or when it is evaluated; `$` stands for a vector.
const ERRORS: [&str; 44] = [
    "sum($",
    "$ +",
    "rate($)",
    "load[5m] + 1",
    "load[5m][1m]",
    "abs(\"x\")",
    "abs()",
    "abs(1, 2)",
    "unknown($)",
    "load{job=}",
    "load{job=~\"(\"}",
    "{}",
    "{job=~\".*\"}",
    "load offset",
    "1 offset 5m",
    "$ and 1",
    "1 == 2",
    "sum by (job ($)",
    "topk($, load)",
    "label_replace($, \"a\", \"$1\", \"job\", \"(\")",
    "label_replace($, \"\", \"x\", \"job\", \".*\")",
    "label_join($, \"\", \"-\", \"job\")",
    "requests_total + on (job) load",
    "load * on (job) group_left () requests_total",
    "load / on (job) requests_total",
    "count_values(\"\", $)",
    "label_replace($, \"instance\", \"x\", \"\", \"\")",
    "double_exponential_smoothing(load[5m], 2, 0.5)",
    "double_exponential_smoothing(load[5m], 0.5, -1)",
    "load[5m] smoothed anchored",
    "deriv(load[5m] anchored)",
    "$ + on (job) group_left (job) load",
    "load[0s]",
    "load[-5m]",
    "load @ nothing",
    "sum(load) by (job) by (job)",
    "quantile($)",
    "1 + bool 2",
    "$ or bool load",
    "load and fill (1) load",
    "load{__name__=\"x\"}",
    "histogram_quantile(load, load)",
    "sum_over_time($[5m])",
    "max_over_time(load[5m:0s])",
];
const OTHER: [&str; 44] = [
    "several names",
    "mixed samples",
    "histograms in a set",
    "histogram op vector",
    "by",
    "without",
    "no grouping",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "include",
    "fill",
    "fill_left",
    "fill_right",
    "offset",
    "negative offset",
    "@",
    "@ start()",
    "@ end()",
    "subquery",
    "subquery step",
    "anchored",
    "smoothed",
    "smoothed vector",
    "duration expression",
    "step() duration",
    "=",
    "!=matcher",
    "=~",
    "!~",
    "unary -",
    "unary +",
    "string",
    "number",
    "scalar op scalar",
    "vector op scalar",
    "scalar op vector",
    "vector op vector",
    "histogram op histogram",
    "histogram op scalar",
    "matrix",
    "UTF-8 name",
];

/// Everything that must give answers.
pub fn wanted() -> Vec<String> {
    let functions = FUNCTIONS.iter().map(|f| f.name);
    let all = functions
        .chain(FOLDS)
        .chain(PARAMETERS)
        .chain(ARITHMETIC)
        .chain(COMPARISONS);
    let all = all.chain(SETS).chain(TRIMS).chain(OTHER);
    all.chain(["errors"]).map(str::to_owned).collect()
}

pub struct Generator<'r> {
    pub random: &'r mut Random,
}

fn joined(text: &str, gives: Gives, children: Vec<Node>) -> Node {
    Node::with(gives, text, children)
}

fn call_over(name: &str, inner: Node) -> Node {
    Node::with(Gives::Floats, &format!("{name}($)"), vec![inner]).tag(name)
}

fn function(name: &str) -> &'static Function {
    Function::of(name).unwrap_or_else(|| panic!("no function {name}"))
}

impl Generator<'_> {
    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.random.below(of.len() as u64) as usize]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.random.below(n) == 0
    }

    fn shape(&mut self) -> Shape {
        [Shape::Full, Shape::Full, Shape::Job, Shape::Single][self.random.below(4) as usize]
    }

    /// A query that uses `wanted`.
    pub fn query(&mut self, wanted: &str) -> Node {
        if wanted == "errors" {
            let (text, inner) = (self.pick(&ERRORS), self.any_floats(0));
            // It can have other `$` in it.
            let text = text.replacen("($", &format!("({}", inner.text()), 1);
            let text = match text.strip_prefix('$') {
                Some(rest) => format!("{}{rest}", inner.text()),
                None => text,
            };
            return Node::new(Gives::Floats, text).tag(wanted);
        }
        if wanted == "^" && self.one_in(2) {
            let (left, right) = (self.floats(1, Shape::Full), self.floats(1, Shape::Full));
            return Node::with(Gives::Floats, "($) ^ ($)", vec![left, right])
                .tag("^")
                .tag("vector op vector");
        }
        let core = self.core(wanted);
        if self.one_in(2) {
            return core;
        }
        // What is around it must not hide it.
        match core.gives {
            Gives::Floats => match self.random.below(5) {
                0 => call_over("abs", core),
                // Among times around now a variance has few digits.
                1 if !core.tags.iter().any(|tag| tag.starts_with('t')) => self.fold(core),
                2 => {
                    let scalar = self.scalar(1);
                    let op = self.pick(&STEADY);
                    joined(&format!("($) {op} ($)"), Gives::Floats, vec![core, scalar])
                        .tag(op)
                        .tag("vector op scalar")
                }
                3 => {
                    let name = self.pick(&["sort", "sort_desc", "round", "sgn", "ceil", "floor"]);
                    call_over(name, core)
                }
                _ => {
                    let right = self.floats(1, Shape::Job);
                    joined("($) or ($)", Gives::Floats, vec![core, right]).tag("or")
                }
            },
            Gives::Histograms => match self.random.below(4) {
                0 => call_over("histogram_count", core),
                1 => call_over("histogram_sum", core),
                2 => self.fold(core),
                _ => joined("histogram_quantile(0.9, $)", Gives::Floats, vec![core])
                    .tag("histogram_quantile"),
            },
            Gives::Scalar => match self.random.below(3) {
                0 => joined("vector($)", Gives::Floats, vec![core]).tag("vector"),
                1 => {
                    let left = self.floats(1, Shape::Full);
                    let op = self.pick(&STEADY);
                    joined(&format!("($) {op} ($)"), Gives::Floats, vec![left, core]).tag(op)
                }
                _ => core,
            },
            _ => core,
        }
    }

    fn core(&mut self, wanted: &str) -> Node {
        if let Some(function) = Function::of(wanted) {
            return self.call(function, 2);
        }
        let shape = self.shape();
        if ["topk", "bottomk"].contains(&wanted) && self.one_in(3) {
            let (metric, count) = (
                self.pick(&["load", "temperature"]),
                self.pick(&["1", "2", "4"]),
            );
            let inner = Node::new(Gives::Floats, metric);
            return self.grouped(wanted, Some(count.to_owned()), inner, "without");
        }
        if FOLDS.contains(&wanted) || PARAMETERS.contains(&wanted) {
            return self.aggregation(wanted, 2, shape);
        }
        if ARITHMETIC.contains(&wanted) || COMPARISONS.contains(&wanted) {
            return if self.one_in(4) && ["+", "-", "*", "/", "==", "!="].contains(&wanted) {
                self.histogram_binary(wanted, 1)
            } else {
                self.binary(wanted, 2)
            };
        }
        if SETS.contains(&wanted) {
            return self.set(wanted, 2);
        }
        if TRIMS.contains(&wanted) {
            let inner = self.histograms(1);
            let bound = self.pick(&["0.5", "1", "2.3", "-0.5", "0", "5"]);
            let text = format!("($) {wanted} {bound}");
            return Node::with(Gives::Histograms, &text, vec![inner]).tag(wanted);
        }
        self.other(wanted)
    }

    fn other(&mut self, wanted: &str) -> Node {
        let op = self.pick(&STEADY);
        match wanted {
            "by" | "without" | "no grouping" => {
                let fold = self.pick(&FOLDS);
                let inner = self.any_floats(1);
                self.grouped(fold, None, inner, wanted)
            }
            "bool" => {
                let compare = self.pick(&COMPARISONS);
                let left = self.floats(1, Shape::Full);
                let right = self.floats(1, Shape::Full);
                joined(
                    &format!("($) {compare} bool ($)"),
                    Gives::Floats,
                    vec![left, right],
                )
                .tag("bool")
                .tag(compare)
            }
            "on" | "ignoring" | "group_left" | "group_right" | "include" | "fill" | "fill_left"
            | "fill_right" | "vector op vector" => self.matched(wanted, op, 2),
            "scalar op scalar" => {
                let (left, right) = (self.scalar(1), self.scalar(1));
                joined(&format!("($) {op} ($)"), Gives::Scalar, vec![left, right])
                    .tag(op)
                    .tag(wanted)
            }
            "vector op scalar" => {
                let (left, right) = (self.any_floats(1), self.scalar(1));
                joined(&format!("($) {op} ($)"), Gives::Floats, vec![left, right])
                    .tag(op)
                    .tag(wanted)
            }
            "scalar op vector" => {
                let (left, right) = (self.scalar(1), self.any_floats(1));
                joined(&format!("($) {op} ($)"), Gives::Floats, vec![left, right])
                    .tag(op)
                    .tag(wanted)
            }
            "histogram op histogram" | "histogram op scalar" => {
                let op = self.pick(&["+", "-", "*", "/", "=="]);
                self.histogram_binary(op, 1)
            }
            "unary -" => {
                let inner = if self.one_in(3) {
                    self.histograms(1)
                } else {
                    self.any_floats(1)
                };
                Node::with(inner.gives, "-($)", vec![inner]).tag(wanted)
            }
            "unary +" => {
                let inner = self.any_floats(1);
                Node::with(inner.gives, "+($)", vec![inner]).tag(wanted)
            }
            "several names" => {
                let text = self.pick(&[
                    "{__name__=~\"load|temperature\"}",
                    "{__name__=~\".*native\", job=\"api\"}",
                    "{__name__!~\"latency.*|.*native|mixed\", job!=\"db\"}",
                    "sum by (__name__) ({__name__=~\"latency_.*\"})",
                    "count by (__name__, job) ({job=~\".+\"})",
                    "{__name__=~\"latency_(sum|count)\"} * 2",
                    "last_over_time({__name__=~\"load|odd\"}[2m])",
                    "rate({__name__=~\"load|latency_.*\"}[5m])",
                    "abs({__name__=~\"load|temperature\"})",
                    "avg_over_time({__name__=~\"native|load\"}[2m])",
                ]);
                Node::new(Gives::Floats, text).tag(wanted)
            }
            "mixed samples" => {
                let duration = self.pick(&["2m", "5m", "12m", "20m"]);
                let names = [
                    "rate",
                    "increase",
                    "sum_over_time",
                    "avg_over_time",
                    "min_over_time",
                    "last_over_time",
                    "changes",
                    "resets",
                    "delta",
                    "idelta",
                    "irate",
                    "deriv",
                    "count_over_time",
                    "stddev_over_time",
                    "first_over_time",
                    "max_over_time",
                    "present_over_time",
                    "mad_over_time",
                    "ts_of_max_over_time",
                ];
                let name = self.pick(&names);
                match self.random.below(3) {
                    0 => {
                        let name = self.pick(&[
                            "sum",
                            "avg",
                            "min",
                            "max",
                            "stddev",
                            "count",
                            "group",
                            "sort",
                            "histogram_count",
                            "abs",
                            "timestamp",
                            "round",
                            "-",
                        ]);
                        Node::new(
                            Gives::Floats,
                            format!("{name}({{__name__=~\"mixed|native|load\"}})"),
                        )
                    }
                    _ => Node::new(Gives::Floats, format!("{name}(mixed[{duration}])")).tag(name),
                }
                .tag(wanted)
            }
            "histograms in a set" => {
                let set = self.pick(&SETS);
                let (left, right) = (self.histograms(1), self.histograms(1));
                let text = match set {
                    "unless" => "($) unless on (job) (load{job=\"db\"})".to_owned(),
                    set => format!("($) {set} on (job, instance) ($)"),
                };
                Node::with(Gives::Histograms, &text, vec![left, right])
                    .tag(set)
                    .tag(wanted)
            }
            "histogram op vector" => {
                let (left, right) = (self.histograms(1), self.floats(1, Shape::Job));
                let op = self.pick(&["*", "/", "*", "/", "+", ">"]);
                let text = format!("($) {op} on (job) group_left () ($)");
                Node::with(Gives::Histograms, &text, vec![left, right])
                    .tag(op)
                    .tag(wanted)
            }
            "string" => Node::new(Gives::Text, "\"a\\n\\u00fc 'text'\"").tag(wanted),
            "number" => {
                let number = self.pick(&[
                    "1", "-0.5", "1e3", "0x1F", "Inf", "NaN", "1_000", "5m", "0b11", "0o17",
                ]);
                Node::new(Gives::Scalar, number).tag(wanted)
            }
            "matrix" => self.matrix(&WIDE, 0).tag(wanted),
            "UTF-8 name" => {
                let text = self.pick(&[
                    "{\"métrique.utf8\"}",
                    "sum by (\"label.one\") ({\"métrique.utf8\"})",
                    "{\"métrique.utf8\", \"label.one\"=~\"ü.*\"}",
                    "sum without (\"label.one\", instance) ({\"métrique.utf8\"})",
                ]);
                Node::new(Gives::Floats, text).tag(wanted)
            }
            "subquery" | "subquery step" => {
                let matrix = self.subquery(1, wanted == "subquery step");
                let name =
                    self.pick(&["max_over_time", "avg_over_time", "count_over_time", "rate"]);
                Node::with(Gives::Floats, &format!("{name}($)"), vec![matrix]).tag(name)
            }
            "anchored" | "smoothed" => {
                let names: &[&str] = if wanted == "anchored" {
                    &["rate", "increase", "delta", "changes", "resets"]
                } else {
                    &["rate", "increase", "delta"]
                };
                let name = self.pick(names);
                let selector = self.selector(&COUNTERS);
                let duration = self.duration();
                let text = format!("{name}($[{duration}] {wanted})");
                Node::with(Gives::Floats, &text, vec![selector])
                    .tag(name)
                    .tag(wanted)
            }
            "smoothed vector" => {
                let selector = self.selector(&FULL);
                Node::with(Gives::Floats, "$ smoothed", vec![selector]).tag(wanted)
            }
            "duration expression" | "step() duration" => {
                let duration = if wanted == "step() duration" {
                    self.pick(&[
                        "max_of(step(), 3m)",
                        "step() + 2m",
                        "range() + 5m",
                        "max_of(range(), 90s)",
                        "min_of(step() + 1m, 5m)",
                    ])
                } else {
                    self.pick(&[
                        "2m + 30s",
                        "(1m + 1m) * 2",
                        "10m / 2",
                        "5m - 1m",
                        "2 ^ 7",
                        "7m % 4m",
                        "-(-3m)",
                    ])
                };
                let name = self.pick(&["rate", "sum_over_time", "last_over_time", "delta"]);
                let metric = self.pick(&COUNTERS);
                Node::new(Gives::Floats, format!("{name}({metric}[{duration}])"))
                    .tag(name)
                    .tag(wanted)
            }
            "=" | "!=matcher" | "=~" | "!~" => {
                let metric = self.pick(&["load", "requests_total", "latency_count"]);
                let matcher = match wanted {
                    "=" => "job=\"api\"",
                    "!=matcher" => "job!=\"api\"",
                    "=~" => "job=~\"a.*|db\"",
                    _ => "instance!~\"b|c+\"",
                };
                Node::new(Gives::Floats, format!("{metric}{{{matcher}}}")).tag(wanted)
            }
            modifier => {
                let metric = self.pick(&FULL);
                let text = self.modifier(modifier);
                Node::new(Gives::Floats, format!("{metric}{text}")).tag(modifier)
            }
        }
    }

    fn modifier(&mut self, kind: &str) -> String {
        let at = crate::data::START_MS / 1000 + self.random.below(7_200) as i64;
        match kind {
            "offset" => format!(" offset {}", self.duration()),
            "negative offset" => format!(" offset -{}", self.pick(&["30s", "1m", "90s"])),
            "@" => format!(" @ {at}.{}", self.random.below(10)),
            other => format!(" {other}"),
        }
    }

    fn duration(&mut self) -> &'static str {
        self.pick(&[
            "1m", "2m", "5m", "10m", "90s", "47s", "1m30s", "300", "7m", "20m",
        ])
    }

    /// A selector of one of the metrics, sometimes with matchers.
    fn selector(&mut self, of: &[&str]) -> Node {
        let metric = self.pick(of).to_owned();
        let gives = if HISTOGRAMS.contains(&metric.as_str()) {
            Gives::Histograms
        } else {
            Gives::Floats
        };
        if metric.starts_with('{') {
            return Node::new(gives, metric).tag("UTF-8 name");
        }
        match self.random.below(12) {
            0 => Node::new(gives, format!("{metric}{{job=\"api\"}}")).tag("="),
            1 => Node::new(gives, format!("{metric}{{job!=\"db\"}}")).tag("!=matcher"),
            2 => Node::new(gives, format!("{metric}{{job=~\"api|ca.+\"}}")).tag("=~"),
            3 => Node::new(gives, format!("{metric}{{job!~\"x.*\"}}")).tag("!~"),
            4 => Node::new(gives, format!("{{__name__=\"{metric}\"}}")),
            _ => Node::new(gives, metric),
        }
    }

    /// A selector with what can stand behind it.
    fn shifted(&mut self, of: &[&str]) -> Node {
        let selector = self.selector(of);
        if !self.one_in(6) {
            return selector;
        }
        let kind = self.pick(&["offset", "negative offset", "@", "@ start()", "@ end()"]);
        let text = format!("${}", self.modifier(kind));
        Node::with(selector.gives, &text, vec![selector]).tag(kind)
    }

    fn floats(&mut self, depth: u32, shape: Shape) -> Node {
        match shape {
            Shape::Full if depth == 0 || self.one_in(3) => self.shifted(&FULL),
            Shape::Full => match self.random.below(3) {
                0 => {
                    let (left, right) = (self.floats(depth - 1, shape), self.scalar(0));
                    let op = self.pick(&STEADY);
                    joined(&format!("($) {op} ($)"), Gives::Floats, vec![left, right])
                        .tag(op)
                        .tag("vector op scalar")
                }
                1 => {
                    let names = [
                        "avg_over_time",
                        "max_over_time",
                        "min_over_time",
                        "delta",
                        "deriv",
                    ];
                    let name = self.pick(&names);
                    let matrix = self.matrix(&FULL, depth - 1);
                    call_over(name, matrix)
                }
                _ => {
                    let inner = self.floats(depth - 1, shape);
                    let name = self.pick(&["abs", "ceil", "floor", "sqrt", "sgn"]);
                    call_over(name, inner)
                }
            },
            Shape::Job | Shape::Single => {
                let inner = self.any_floats(depth.saturating_sub(1));
                let fold = self.pick(&FOLDS);
                if shape == Shape::Job {
                    Node::with(Gives::Floats, &format!("{fold} by (job) ($)"), vec![inner])
                        .tag(fold)
                        .tag("by")
                } else {
                    Node::with(Gives::Floats, &format!("{fold}($)"), vec![inner])
                        .tag(fold)
                        .tag("no grouping")
                }
            }
        }
    }

    /// Floats of any labels.
    fn any_floats(&mut self, depth: u32) -> Node {
        if depth == 0 {
            return match self.random.below(3) {
                0 => self.shifted(&FULL),
                1 => self.shifted(&WIDE),
                _ => self.rate(&COUNTERS, 0),
            };
        }
        match self.random.below(8) {
            0 => {
                let inner = self.histograms(depth - 1);
                let name = self.pick(&["histogram_count", "histogram_sum", "histogram_avg"]);
                call_over(name, inner)
            }
            1 => {
                let shape = self.shape();
                self.floats(depth, shape)
            }
            2 => {
                let op = self.pick(&STEADY);
                self.matched("vector op vector", op, depth - 1)
            }
            3 => {
                let names = ["abs", "ln", "sort", "round", "clamp_min", "label_join"];
                let name = self.pick(&names);
                self.call(function(name), depth - 1)
            }
            4 => {
                let set = self.pick(&["and", "or"]);
                self.set(set, depth - 1)
            }
            5 => {
                let names = [
                    "sum_over_time",
                    "stddev_over_time",
                    "changes",
                    "last_over_time",
                ];
                let name = self.pick(&names);
                self.call(function(name), depth - 1)
            }
            _ => self.any_floats(0),
        }
    }

    fn rate(&mut self, of: &[&str], depth: u32) -> Node {
        let matrix = self.matrix(of, depth);
        let name = self.pick(&["rate", "increase", "irate"]);
        let gives = if of == HISTOGRAMS {
            Gives::Histograms
        } else {
            Gives::Floats
        };
        Node::with(gives, &format!("{name}($)"), vec![matrix]).tag(name)
    }

    fn matrix(&mut self, of: &[&str], depth: u32) -> Node {
        if depth > 0 && self.one_in(4) {
            let is_stepped = self.one_in(2);
            return self.subquery(depth - 1, is_stepped);
        }
        let selector = self.selector(of);
        let duration = self.duration();
        let (shift, tag) = if self.one_in(8) {
            let kind = self.pick(&["offset", "negative offset", "@", "@ start()", "@ end()"]);
            (self.modifier(kind), Some(kind))
        } else {
            (String::new(), None)
        };
        let node = Node::with(
            Gives::Matrix,
            &format!("$[{duration}]{shift}"),
            vec![selector],
        );
        match tag {
            Some(tag) => node.tag(tag),
            None => node,
        }
    }

    fn subquery(&mut self, depth: u32, is_stepped: bool) -> Node {
        let inner = self.any_floats(depth);
        let duration = self.pick(&["5m", "7m30s", "10m", "3m"]);
        let step = if is_stepped {
            self.pick(&["30s", "1m", "17s", "45s"])
        } else {
            ""
        };
        let node = Node::with(
            Gives::Matrix,
            &format!("($)[{duration}:{step}]"),
            vec![inner],
        );
        node.tag(if is_stepped {
            "subquery step"
        } else {
            "subquery"
        })
    }

    fn histograms(&mut self, depth: u32) -> Node {
        if depth == 0 {
            return self.shifted(&HISTOGRAMS);
        }
        match self.random.below(6) {
            0 => self.shifted(&HISTOGRAMS),
            1 => {
                let matrix = self.matrix(&HISTOGRAMS, 0);
                let names = [
                    "sum_over_time",
                    "avg_over_time",
                    "last_over_time",
                    "first_over_time",
                    "delta",
                    "idelta",
                ];
                let name = self.pick(&names);
                Node::with(Gives::Histograms, &format!("{name}($)"), vec![matrix]).tag(name)
            }
            2 => {
                let inner = self.histograms(depth - 1);
                let name = self.pick(&["sum", "avg"]);
                self.grouped(name, None, inner, "by")
            }
            3 => self.histogram_binary("*", depth - 1),
            _ => self.rate(&HISTOGRAMS, 0),
        }
    }

    fn histogram_binary(&mut self, op: &str, depth: u32) -> Node {
        if matches!(op, "*" | "/") {
            let (left, right) = (self.histograms(depth), self.scalar(0));
            let is_turned = op == "*" && self.one_in(3);
            let children = if is_turned {
                vec![right, left]
            } else {
                vec![left, right]
            };
            return Node::with(Gives::Histograms, &format!("($) {op} ($)"), children)
                .tag(op)
                .tag("histogram op scalar");
        }
        // Alike in labels, mostly also in buckets.
        let (left, right) = if self.one_in(5) {
            (self.histograms(depth), self.histograms(depth))
        } else {
            let metric = self.pick(&HISTOGRAMS);
            let shift = self.pick(&[" offset 1m", "", " offset 30m", "{job=~\"api|db\"}"]);
            let right = format!("{metric}{shift}");
            (
                Node::new(Gives::Histograms, metric),
                Node::new(Gives::Histograms, right),
            )
        };
        Node::with(
            Gives::Histograms,
            &format!("($) {op} ($)"),
            vec![left, right],
        )
        .tag(op)
        .tag("histogram op histogram")
    }

    fn scalar(&mut self, depth: u32) -> Node {
        let number = |text: &str| Node::new(Gives::Scalar, text).tag("number");
        match self.random.below(if depth == 0 { 6 } else { 10 }) {
            // As it is, it would leave few digits to what it is added to.
            0 => Node::new(Gives::Scalar, "(time() / 1e9)").tag("time"),
            1 => Node::new(Gives::Scalar, "pi()").tag("pi"),
            6 => {
                let inner = self.floats(depth - 1, Shape::Single);
                Node::with(Gives::Scalar, "scalar($)", vec![inner]).tag("scalar")
            }
            7 => {
                let (left, right) = (self.scalar(depth - 1), self.scalar(depth - 1));
                let op = self.pick(&["+", "-", "*", "/"]);
                Node::with(Gives::Scalar, &format!("($) {op} ($)"), vec![left, right])
                    .tag(op)
                    .tag("scalar op scalar")
            }
            8 => {
                let name = self.pick(&["start", "end", "range", "step"]);
                Node::new(Gives::Scalar, format!("({name}() / 1e9)")).tag(name)
            }
            9 => {
                let name = self.pick(&["max_of", "min_of"]);
                let (left, right) = (self.scalar(depth - 1), self.scalar(depth - 1));
                Node::with(Gives::Scalar, &format!("{name}($, $)"), vec![left, right]).tag(name)
            }
            _ => {
                let text = self.pick(&["0", "1", "2", "0.5", "-3", "10", "1.7", "100"]);
                number(text)
            }
        }
    }

    fn fold(&mut self, inner: Node) -> Node {
        let name = if inner.gives == Gives::Histograms {
            self.pick(&["sum", "avg", "count", "group"])
        } else {
            self.pick(&FOLDS)
        };
        let grouping = self.pick(&["by", "without", "no grouping"]);
        self.grouped(name, None, inner, grouping)
    }

    fn grouped(&mut self, name: &str, param: Option<String>, inner: Node, grouping: &str) -> Node {
        let labels = self.pick(&[
            "job",
            "instance",
            "job, instance",
            "job, code",
            "le",
            "",
            "job, absent_label",
        ]);
        let inside = param.map_or("$".to_owned(), |param| format!("{param}, $"));
        let text = match grouping {
            "no grouping" => format!("{name}({inside})"),
            _ if self.one_in(2) => format!("{name}({inside}) {grouping} ({labels})"),
            _ => format!("{name} {grouping} ({labels}) ({inside})"),
        };
        let gives = match name {
            "sum" | "avg" | "topk" | "bottomk" | "limitk" | "limit_ratio" => inner.gives,
            _ => Gives::Floats,
        };
        Node::with(gives, &text, vec![inner])
            .tag(name)
            .tag(grouping)
    }

    fn aggregation(&mut self, name: &str, depth: u32, shape: Shape) -> Node {
        let takes_histograms = [
            "sum",
            "avg",
            "count",
            "group",
            "limitk",
            "limit_ratio",
            "count_values",
        ];
        let inner = if takes_histograms.contains(&name) && self.one_in(3) || self.one_in(20) {
            self.histograms(1)
        } else if self.one_in(3) {
            self.floats(depth - 1, shape)
        } else {
            self.any_floats(depth - 1)
        };
        // The last bits would be seen in the labels.
        let inner = if name == "count_values" && inner.gives == Gives::Floats {
            Node::with(Gives::Floats, "round($, 0.5)", vec![inner]).tag("round")
        } else {
            inner
        };
        let param = match name {
            "quantile" => Some(self.pick(&["0.5", "0", "1", "0.9", "0.33", "-1", "2", "NaN"])),
            "topk" | "bottomk" | "limitk" => Some(self.pick(&["1", "2", "3", "5", "100"])),
            "limit_ratio" => Some(self.pick(&["0.5", "-0.5", "1", "-1", "0.9", "1.2"])),
            "count_values" => Some(self.pick(&["\"value\"", "\"job\"", "\"v v\""])),
            _ => None,
        };
        let grouping = self.pick(&["by", "without", "no grouping"]);
        let mut node = self.grouped(name, param.map(str::to_owned), inner, grouping);
        // Which of equal series are picked is not defined, but how many, and their values are.
        let around = match name {
            "limitk" => "count",
            "topk" | "bottomk" => "sum",
            _ => return node,
        };
        if let Some(Part::Text(first)) = node.parts.first_mut() {
            first.insert_str(0, &format!("{around}("));
        }
        node.parts.push(Part::Text(")".to_owned()));
        node.gives = Gives::Floats;
        node.tag(around)
    }

    fn binary(&mut self, op: &str, depth: u32) -> Node {
        let bool_of = if COMPARISONS.contains(&op) && self.one_in(2) {
            " bool"
        } else {
            ""
        };
        let node = match self.random.below(4) {
            0 => {
                let (left, right) = (self.any_floats(depth - 1), self.scalar(1));
                Node::with(
                    Gives::Floats,
                    &format!("($) {op}{bool_of} ($)"),
                    vec![left, right],
                )
                .tag("vector op scalar")
            }
            1 => {
                let (left, right) = (self.scalar(1), self.any_floats(depth - 1));
                Node::with(
                    Gives::Floats,
                    &format!("($) {op}{bool_of} ($)"),
                    vec![left, right],
                )
                .tag("scalar op vector")
            }
            _ => return self.matched("vector op vector", op, depth - 1),
        };
        let node = if bool_of.is_empty() {
            node
        } else {
            node.tag("bool")
        };
        node.tag(op)
    }

    /// Two vectors that find each other.
    fn matched(&mut self, wanted: &str, op: &str, depth: u32) -> Node {
        let kinds = [
            "plain",
            "on",
            "ignoring",
            "group_left",
            "group_right",
            "include",
            "fill",
            "fill_left",
            "fill_right",
        ];
        let kind = if kinds.contains(&wanted) {
            wanted
        } else {
            self.pick(&kinds)
        };
        let (left, right, matching) = match kind {
            "on" => {
                let (left, right) = (
                    self.floats(depth, Shape::Job),
                    self.floats(depth, Shape::Job),
                );
                (left, right, "on (job)")
            }
            "ignoring" => {
                let (left, right) = (
                    self.floats(depth, Shape::Full),
                    self.floats(depth, Shape::Full),
                );
                (left, right, self.pick(&["ignoring (code)", "ignoring ()"]))
            }
            "group_left" => {
                let left = self.any_floats(depth);
                (
                    left,
                    self.floats(depth, Shape::Job),
                    "on (job) group_left ()",
                )
            }
            "group_right" => {
                let right = self.any_floats(depth);
                (
                    self.floats(depth, Shape::Job),
                    right,
                    "on (job) group_right ()",
                )
            }
            "include" => {
                let left = self.floats(depth, Shape::Full);
                let right = Node::new(Gives::Floats, self.pick(&["target_info", "build_info"]));
                (
                    left,
                    right,
                    "on (job, instance) group_left (version, revision)",
                )
            }
            "fill" | "fill_left" | "fill_right" => {
                let left = self.floats(depth, Shape::Full);
                let right = self.floats(depth, Shape::Full);
                let matching = match kind {
                    "fill" => "fill (1)",
                    "fill_left" => "fill_left (-2)",
                    _ => "fill_right (0.5)",
                };
                (left, right, matching)
            }
            _ => (
                self.floats(depth, Shape::Full),
                self.floats(depth, Shape::Full),
                "",
            ),
        };
        let is_bool = COMPARISONS.contains(&op) && self.one_in(2);
        let word = if is_bool { " bool" } else { "" };
        // Powers of any numbers differ in their last bits, which what is around would show.
        let right_text = if op == "^" { "sgn($)" } else { "($)" };
        let text = format!("($) {op}{word} {matching} {right_text}");
        let mut node = Node::with(Gives::Floats, &text, vec![left, right])
            .tag(op)
            .tag("vector op vector");
        if is_bool {
            node = node.tag("bool");
        }
        if matching.starts_with("on") {
            node = node.tag("on");
        }
        if kind == "include" {
            node = node.tag("group_left");
        }
        if kind == "plain" {
            node
        } else {
            node.tag(kind)
        }
    }

    fn set(&mut self, op: &str, depth: u32) -> Node {
        let (left, right, matching) = match (op, self.random.below(3)) {
            ("unless", _) => {
                let left = self.any_floats(depth);
                (
                    left,
                    Node::new(Gives::Floats, "limit_max{job=\"db\"}"),
                    "on (job)",
                )
            }
            (_, 0) => (
                self.any_floats(depth),
                self.floats(depth, Shape::Job),
                "on (job)",
            ),
            (_, 1) => (
                self.floats(depth, Shape::Full),
                self.floats(depth, Shape::Full),
                "",
            ),
            _ => (
                self.floats(depth, Shape::Full),
                self.floats(depth, Shape::Full),
                "ignoring (x)",
            ),
        };
        let node = Node::with(
            Gives::Floats,
            &format!("($) {op} {matching} ($)"),
            vec![left, right],
        );
        let node = node.tag(op);
        if matching.starts_with("on") {
            node.tag("on")
        } else {
            node
        }
    }

    fn call(&mut self, function: &'static Function, depth: u32) -> Node {
        let name = function.name;
        let depth = depth.saturating_sub(1);
        if let Some(node) = self.special(name, depth) {
            return node.tag(name);
        }
        let over_histograms = name.starts_with("histogram_")
            || match name {
                "rate"
                | "increase"
                | "delta"
                | "idelta"
                | "irate"
                | "sum_over_time"
                | "avg_over_time"
                | "last_over_time"
                | "first_over_time"
                | "count_over_time"
                | "present_over_time"
                | "resets"
                | "changes"
                | "timestamp"
                | "ts_of_first_over_time"
                | "ts_of_last_over_time" => self.one_in(3),
                // Most leave out histograms, and say so.
                _ => self.one_in(40),
            };
        let mut children = Vec::new();
        for kind in function.args {
            children.push(match kind {
                ValueType::Scalar => self.scalar(depth),
                ValueType::Vector if over_histograms => self.histograms(depth),
                ValueType::Vector => self.any_floats(depth),
                ValueType::Matrix if over_histograms => self.matrix(&HISTOGRAMS, 0),
                ValueType::Matrix => {
                    let counters = matches!(name, "rate" | "increase" | "irate" | "resets");
                    let of: &[&str] = if counters { &COUNTERS } else { &FULL };
                    if self.one_in(5) {
                        self.matrix(&WIDE, depth)
                    } else {
                        self.matrix(of, depth)
                    }
                }
                ValueType::String => Node::new(Gives::Text, "\"text\""),
            });
        }
        if function.variadic == 1 && self.one_in(3) {
            children.pop();
        }
        let gives = match function.gives {
            ValueType::Scalar => Gives::Scalar,
            _ if over_histograms && !name.starts_with("histogram_") => Gives::Histograms,
            _ => Gives::Floats,
        };
        let places = vec!["$"; children.len()].join(", ");
        Node::with(gives, &format!("{name}({places})"), children).tag(name)
    }

    /// Functions that want more of their arguments than a type.
    fn special(&mut self, name: &str, depth: u32) -> Option<Node> {
        let floats = Gives::Floats;
        let quantile = self.pick(&["0.5", "0.9", "0", "1", "0.99", "-1", "1.5", "0.123"]);
        Some(match name {
            "absent" => Node::new(
                floats,
                self.pick(&[
                    "absent(nothing{job=\"x\", a=~\"b\"})",
                    "absent(sum(nothing))",
                    "absent(load > 1e9)",
                    "absent(nothing)",
                ]),
            ),
            "absent_over_time" => Node::new(
                floats,
                self.pick(&[
                    "absent_over_time(nothing{job=\"x\"}[5m])",
                    "absent_over_time(nothing[1m])",
                    "absent_over_time((load > 1e9)[5m:])",
                ]),
            ),
            "scalar" => {
                let inner = self.floats(depth, Shape::Single);
                Node::with(Gives::Scalar, "scalar($)", vec![inner])
            }
            "histogram_quantile" | "histogram_fraction" | "histogram_quantiles" => {
                let classic = "sum by (job, le) (rate(latency_bucket[$d]))";
                let inner = match self.random.below(4) {
                    0 => Node::new(floats, classic.replace("$d", self.duration())),
                    1 => Node::new(
                        floats,
                        self.pick(&[
                            "latency_bucket",
                            "rate(latency_bucket[5m])",
                            "-latency_bucket",
                        ]),
                    ),
                    _ => self.histograms(depth),
                };
                match name {
                    "histogram_quantile" => {
                        Node::with(floats, &format!("{name}({quantile}, $)"), vec![inner])
                    }
                    "histogram_fraction" => {
                        let (low, high) = (
                            self.pick(&["0", "-Inf", "0.2", "-1"]),
                            self.pick(&["0.4", "1", "+Inf", "7", "-2"]),
                        );
                        Node::with(floats, &format!("{name}({low}, {high}, $)"), vec![inner])
                    }
                    _ => Node::with(
                        floats,
                        &format!("{name}($, \"q\", 0.5, {quantile}9)"),
                        vec![inner],
                    ),
                }
            }
            "quantile_over_time" => {
                let matrix = self.matrix(&FULL, depth);
                Node::with(floats, &format!("{name}({quantile}, $)"), vec![matrix])
            }
            "double_exponential_smoothing" => {
                let matrix = self.matrix(&FULL, depth);
                let (a, b) = (
                    self.pick(&["0.1", "0.5", "0.9"]),
                    self.pick(&["0.2", "0.6"]),
                );
                Node::with(floats, &format!("{name}($, {a}, {b})"), vec![matrix])
            }
            "info" => {
                let inner = if self.one_in(3) {
                    self.rate(&["latency_count"], 0)
                } else {
                    self.selector(&FULL)
                };
                let second = self.pick(&[
                    "",
                    "",
                    ", {version=~\".+\"}",
                    ", {__name__=\"build_info\"}",
                    ", {os=\"linux\"}",
                    ", {__name__=~\".+_info\"}",
                    ", {version=\"9\"}",
                    ", {revision=~\".*\"}",
                ]);
                Node::with(floats, &format!("info($ {second})"), vec![inner])
            }
            "label_replace" => {
                let inner = self.any_floats(depth);
                let rest = self.pick(&[
                    "\"new\", \"$D1-x\", \"job\", \"(.*)\"",
                    "\"job\", \"\", \"job\", \"api\"",
                    "\"new\", \"$D{n}\", \"instance\", \"(?P<n>a|b)\"",
                    "\"x.y\", \"v\", \"nothing\", \"\"",
                    "\"instance\", \"one\", \"instance\", \"c\"",
                    "\"__name__\", \"n\", \"job\", \"a.*\"",
                ]);
                let mut node = Node::with(floats, "label_replace($, #)", vec![inner]);
                if let Some(Part::Text(text)) = node.parts.last_mut() {
                    *text = text.replace('#', &rest.replace("$D", "$"));
                }
                node
            }
            "label_join" => {
                let inner = self.any_floats(depth);
                let rest = self.pick(&[
                    "\"new\", \"-\", \"job\", \"instance\"",
                    "\"j\", \",\"",
                    "\"job\", \"\", \"job\", \"nothing\"",
                ]);
                Node::with(floats, &format!("label_join($, {rest})"), vec![inner])
            }
            "start_timestamp" => {
                Node::with(floats, "start_timestamp($)", vec![self.shifted(&FULL)])
            }
            "sort_by_label" | "sort_by_label_desc" => {
                let inner = self.any_floats(depth);
                let rest = self.pick(&[
                    "\"job\"",
                    "\"instance\", \"job\"",
                    "\"code\", \"le\"",
                    "\"le\"",
                ]);
                Node::with(floats, &format!("{name}($, {rest})"), vec![inner])
            }
            "clamp" => {
                let inner = self.any_floats(depth);
                let bounds = self.pick(&["-1, 10", "0, 1", "-Inf, 3", "2, 20", "NaN, 1"]);
                Node::with(floats, &format!("clamp($, {bounds})"), vec![inner])
            }
            "round" => {
                let inner = self.any_floats(depth);
                let to = self.pick(&["", ", 0.5", ", 10", ", 0.03"]);
                Node::with(floats, &format!("round(${to})"), vec![inner])
            }
            "predict_linear" => {
                let matrix = self.matrix(&FULL, depth);
                Node::with(
                    floats,
                    &format!("{name}($, {})", self.pick(&["60", "3600", "-30", "0"])),
                    vec![matrix],
                )
            }
            // Near its poles the last bit of an argument is all.
            "tan" => {
                let inner = self.any_floats(depth);
                Node::with(floats, "tan(clamp($, -1.5, 1.5))", vec![inner]).tag("clamp")
            }
            "acos" | "asin" | "atanh" => {
                let inner = self.any_floats(depth);
                Node::with(floats, &format!("{name}(($) / 100)"), vec![inner])
            }
            "cosh" | "sinh" | "exp" => {
                let inner = self.any_floats(depth);
                Node::with(floats, &format!("{name}(clamp($, -20, 20))"), vec![inner]).tag("clamp")
            }
            // What a time that is none has is not defined.
            "day_of_month" | "day_of_week" | "day_of_year" | "days_in_month" | "hour"
            | "minute" | "month" | "year" => {
                let (metric, factor) = (
                    self.pick(&["temperature", "latency_count", "load"]),
                    self.pick(&["1e6", "86400", "-54321"]),
                );
                match self.random.below(3) {
                    0 => Node::new(floats, format!("{name}()")),
                    1 => Node::new(floats, format!("{name}(timestamp({metric}))")).tag("timestamp"),
                    _ => Node::new(floats, format!("{name}({metric} * {factor})"))
                        .tag("vector op scalar"),
                }
            }
            _ => return None,
        })
    }
}
