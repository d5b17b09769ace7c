//! Makes queries of the whole of LogQL that mean something over the loaded lines. It is long as
//! the language is: one table of forms, which belong beside each other.

use crate::harness::Random;
use crate::source::{FUNCTIONS, SOURCES, Source, Type};
use crate::tree::{Gives, Node, Part};

const MATCHERS: [&str; 4] = ["=", "!= matcher", "=~", "!~ matcher"];
const LINES: [&str; 8] = ["|=", "!=", "|~", "!~", "|>", "!>", "or line", "ip line"];
const PARSERS: [&str; 9] = [
    "json",
    "json fields",
    "logfmt",
    "logfmt fields",
    "--strict",
    "--keep-empty",
    "regexp",
    "pattern",
    "unpack",
];
const FILTERS: [&str; 10] = [
    "text filter",
    "regex filter",
    "number filter",
    "duration filter",
    "bytes filter",
    "ip filter",
    "and filter",
    "or filter",
    "comma filter",
    "metadata filter",
];
const STAGES: [&str; 9] = [
    "line_format",
    "label_format",
    "rename",
    "drop",
    "drop matcher",
    "keep",
    "keep matcher",
    "decolorize",
    "detected_level",
];
const ERRORS_SEEN: [&str; 3] = ["__error__ filter", "__error__ shown", "__error_details__"];
const UNWRAPS: [&str; 5] = [
    "unwrap",
    "unwrap duration()",
    "unwrap duration_seconds()",
    "unwrap bytes()",
    "unwrap filter",
];
const OVER_LINES: [&str; 5] = [
    "count_over_time",
    "rate",
    "bytes_over_time",
    "bytes_rate",
    "absent_over_time",
];
const OVER_NUMBERS: [&str; 10] = [
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "quantile_over_time",
    "first_over_time",
    "last_over_time",
    "rate_counter",
];
/// Those that `by` and `without` may follow.
const GROUPED: [&str; 8] = [
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "quantile_over_time",
    "first_over_time",
    "last_over_time",
];
const FOLDS: [&str; 7] = ["sum", "avg", "min", "max", "count", "stddev", "stdvar"];
const RANKS: [&str; 2] = ["topk", "bottomk"];
const SORTS: [&str; 2] = ["sort", "sort_desc"];
const ARITHMETIC: [&str; 6] = ["+", "-", "*", "/", "%", "^"];
const COMPARISONS: [&str; 6] = ["==", "!= binary", ">", ">=", "<", "<="];
const SETS: [&str; 3] = ["and", "or", "unless"];
const OTHER: [&str; 22] = [
    "by",
    "without",
    "no grouping",
    "over by",
    "over without",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "include",
    "vector op scalar",
    "scalar op vector",
    "scalar op scalar",
    "offset",
    "negative offset",
    "label_replace",
    "vector",
    "number",
    "variants",
    "unwrap error",
    "pipeline error",
];
/// Series of one of two hosts.
const ABSENT_FROM_B: &str = "sum by (env, host) (rate({app=\"web\", host=\"a\"}[1h]))";
/// What cannot be read or evaluated.
const ERRORS: [&str; 40] = [
    "{app=\"web\"",
    "{app=}",
    "{}",
    "{app=~\"(\"}",
    "{app=~\".*\"}",
    "{app!=\"web\"}",
    "{app=\"web\"} |",
    "{app=\"web\"} | json | status >",
    "{app=\"web\"} |= ",
    "{app=\"web\"} |~ \"(\"",
    "{app=\"web\"} | regexp \"(\"",
    "{app=\"web\"} | regexp \"x\"",
    "{app=\"web\"} | pattern \"x\"",
    "{app=\"web\"} | pattern \"<a><b>\"",
    "{app=\"web\"} | line_format \"{{\"",
    "{app=\"web\"} | line_format \"{{nothing .x}}\"",
    "{app=\"web\"} | label_format a=b,a=c",
    "{app=\"web\"} | label_format __error__=\"x\"",
    "{app=\"web\"} | unknown",
    "{app=\"web\"} | ip = ip(\"x\")",
    "{app=\"web\"} |= ip(\"300.1.1.1\")",
    "rate({app=\"web\"})",
    "rate({app=\"web\"}[0s])",
    "rate({app=\"web\"}[x])",
    "sum_over_time({app=\"web\"}[5m])",
    "count_over_time({app=\"web\"} | unwrap status [5m]) by (app)",
    "sum(rate({app=\"web\"}[5m]",
    "topk(rate({app=\"web\"}[5m]))",
    "topk(0, rate({app=\"web\"}[5m]))",
    "quantile_over_time({app=\"web\"} | unwrap x [5m])",
    "label_replace(rate({app=\"web\"}[5m]), \"a\", \"b\", \"c\", \"(\")",
    "sum({app=\"web\"})",
    "rate({app=\"web\"}[5m]) + on (app) rate({app=\"web\"}[5m])",
    "1 and 1",
    "rate({app=\"web\"}[5m]) and 1",
    "sum by (app) by (env) (rate({app=\"web\"}[5m]))",
    "count_over_time({app=\"odd\"} | json [1h])",
    "sum(rate({app=\"odd\"} | logfmt --strict [1h])) by (rows)",
    "unknown_over_time({app=\"web\"}[5m])",
    "{app=\"web\"} |> `<_`",
];

/// Everything that must give answers.
pub fn wanted() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let lists: [&[&str]; 15] = [
        &MATCHERS,
        &LINES,
        &PARSERS,
        &FILTERS,
        &STAGES,
        &ERRORS_SEEN,
        &UNWRAPS,
        &OVER_LINES,
        &OVER_NUMBERS,
        &FOLDS,
        &RANKS,
        &SORTS,
        &ARITHMETIC,
        &COMPARISONS,
        &SETS,
    ];
    all.extend(lists.into_iter().flatten().map(|&tag| tag.to_owned()));
    all.extend(OTHER.map(str::to_owned));
    all.extend(FUNCTIONS.iter().map(|(name, _)| format!("template {name}")));
    all.push("errors".to_owned());
    all
}

/// Whether lines are what a query gives.
pub fn gives_lines(node: &Node) -> bool {
    node.gives == Gives::Log
}

type Fields = Vec<(String, Type)>;

/// A selector with stages, and what it has read.
struct Pipe {
    source: &'static Source,
    stages: Vec<Node>,
    fields: Fields,
    is_parsed: bool,
    /// Whether labels may have changed since they were read. Loki filters on them before: see
    /// `tests/deviations.md`.
    is_changed: bool,
}

pub struct Generator<'r> {
    pub random: &'r mut Random,
}

fn stage(text: impl Into<String>, tag: &str) -> Node {
    Node::new(Gives::Stage, text).tag(tag)
}

impl Generator<'_> {
    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.random.below(of.len() as u64) as usize]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.random.below(n) == 0
    }

    /// A query that uses `wanted`.
    pub fn query(&mut self, wanted: &str) -> Node {
        if wanted == "errors" {
            return Node::new(Gives::Log, self.pick(&ERRORS)).tag(wanted);
        }
        let is_metric = [
            &UNWRAPS[..],
            &OVER_LINES,
            &OVER_NUMBERS,
            &FOLDS,
            &RANKS,
            &SORTS,
            &ARITHMETIC,
            &COMPARISONS,
            &SETS,
            &OTHER,
        ]
        .iter()
        .any(|list| list.contains(&wanted));
        if is_metric {
            return self.metric(wanted);
        }
        if self.one_in(4) && !wanted.starts_with("__error") {
            let (name, window) = (self.pick(&OVER_LINES[..4]), self.window());
            let pipe = self.pipe(wanted);
            let core = self.over_lines(name, pipe, window);
            let fold = self.pick(&FOLDS);
            let grouping = self.pick(&["app", "env, host", "level", "status", "rows"]);
            return if self.one_in(3) {
                core
            } else {
                Node::with(
                    Gives::Floats,
                    &format!("{fold} by ({grouping}) ($)"),
                    vec![core],
                )
                .tag(fold)
                .tag("by")
            };
        }
        let pipe = self.pipe(wanted);
        let text = "$".repeat(pipe.stages.len());
        Node::with(Gives::Log, &text, pipe.stages)
    }

    // ----- lines

    fn source_for(&mut self, wanted: &str) -> &'static Source {
        let fits = |source: &&Source| {
            let has = |tag: &str| source.parsers.iter().any(|p| p.tags.contains(&tag));
            let has_type = |of: Type| {
                let mut all = source.parsers.iter().flat_map(|p| p.fields);
                all.any(|(_, t)| *t == of)
            };
            match wanted {
                _ if PARSERS.contains(&wanted) => has(wanted),
                "decolorize" | "__error__ shown" | "__error_details__" => source.app == "odd",
                "__error__ filter" => source.is_broken,
                "ip line" => ["web", "db"].contains(&source.app),
                "metadata filter" => source.app == "meta",
                "ip filter" => has_type(Type::Ip) && source.app != "api",
                "duration filter"
                | "unwrap duration()"
                | "unwrap duration_seconds()"
                | "template duration"
                | "template duration_seconds" => has_type(Type::Duration),
                "bytes filter" | "unwrap bytes()" | "template bytes" => has_type(Type::Bytes),
                "template fromJson" => source.app == "api",
                "number filter" | "unwrap" | "template ceil" => has_type(Type::Number),
                _ => true,
            }
        };
        let all: Vec<&'static Source> = SOURCES.iter().filter(fits).collect();
        all[self.random.below(all.len() as u64) as usize]
    }

    fn pipe(&mut self, wanted: &str) -> Pipe {
        let source = self.source_for(wanted);
        let mut pipe = Pipe {
            source,
            stages: vec![self.selector(source, wanted)],
            fields: Vec::new(),
            is_parsed: false,
            is_changed: false,
        };
        if LINES.contains(&wanted) || self.one_in(4) {
            let tag = if LINES.contains(&wanted) {
                wanted
            } else {
                self.pick(&LINES[..7])
            };
            let filter = self.line_filter(source, tag);
            pipe.stages.push(filter);
        }
        if wanted == "decolorize" || (source.app == "odd" && self.one_in(6)) {
            pipe.stages.push(stage(" | decolorize", "decolorize"));
        }
        if wanted == "detected_level" {
            let level = match source.app {
                "web" => "unknown",
                "api" => "notice",
                _ => self.pick(&["error", "info", "warn"]),
            };
            pipe.stages
                .push(stage(format!(" | detected_level=\"{level}\""), wanted));
        }
        let is_plain = MATCHERS.contains(&wanted) || LINES.contains(&wanted);
        if !(is_plain || wanted == "detected_level") || self.one_in(2) {
            self.parse(&mut pipe, wanted);
        }
        let filter = FILTERS.contains(&wanted).then_some(wanted);
        if filter.is_some() || self.one_in(6) {
            self.label_filter(&mut pipe, filter);
        }
        if let Some(name) = wanted.strip_prefix("template ") {
            self.template(&mut pipe, name);
        } else if STAGES.contains(&wanted) {
            self.other_stage(&mut pipe, wanted);
        } else if self.one_in(4) {
            let tag = self.pick(&STAGES[..7]);
            self.other_stage(&mut pipe, tag);
        }
        self.error_stage(&mut pipe, wanted);
        // Loki filters lines before it takes colours off: see `tests/deviations.md`.
        let is_plain = |stage: &Node| !stage.tags.iter().any(|tag| tag == "decolorize");
        if self.one_in(12) && pipe.stages.iter().all(is_plain) {
            let filter = self.line_filter(source, "|=");
            pipe.stages.push(filter);
        }
        pipe
    }

    fn error_stage(&mut self, pipe: &mut Pipe, wanted: &str) {
        let text = match wanted {
            "__error__ filter" => " | __error__=\"\"",
            "__error__ shown" => self.pick(&[
                " | __error__!=\"\"",
                " | __error__=~\"JSON.*|Logfmt.*\"",
                " | __error__=\"JSONParserErr\"",
            ]),
            "__error_details__" => {
                " | __error__!=\"\" | line_format `{{.__error__}}: {{.__error_details__}}`"
            }
            _ => return,
        };
        pipe.stages.push(stage(text, wanted));
    }

    fn selector(&mut self, source: &Source, wanted: &str) -> Node {
        let app = source.app;
        let mut node = match wanted {
            "=~" => Node::new(Gives::Selector, format!("{{app=~\"{app}|nothing\"")).tag("=~"),
            "!= matcher" => Node::new(Gives::Selector, format!("{{app=\"{app}\", env!=\"dev\""))
                .tag("=")
                .tag(wanted),
            "!~ matcher" => Node::new(Gives::Selector, format!("{{app=\"{app}\", env!~\"d.+\""))
                .tag("=")
                .tag(wanted),
            _ => Node::new(Gives::Selector, format!("{{app=\"{app}\"")).tag("="),
        };
        let more = match self.random.below(6) {
            0 => ", env=\"prod\"",
            1 => ", host=~\"a|c\"",
            2 if wanted.is_empty() => ", service_name=~\".+\"",
            _ => "",
        };
        node.parts.push(Part::Text(format!("{more}}}")));
        node
    }

    fn line_filter(&mut self, source: &Source, tag: &str) -> Node {
        let word = self.pick(source.words);
        let other = self.pick(source.words);
        let quoted = |text: &str| format!("`{text}`");
        let escaped = |text: &str| format!("`{}`", text.replace('.', "\\."));
        match tag {
            "|>" | "!>" => {
                let pattern = self.pick(source.patterns);
                let rest = match self.random.below(4) {
                    0 => format!(" or {}", quoted(self.pick(source.patterns))),
                    _ => String::new(),
                };
                stage(format!(" {tag} {}{rest}", quoted(pattern)), tag)
            }
            "or line" => {
                let op = self.pick(&["|=", "!=", "|~", "!~"]);
                stage(format!(" {op} {} or {}", quoted(word), quoted(other)), tag).tag(op)
            }
            "ip line" => {
                let of = self.pick(&[
                    "10.0.3.0/24",
                    "192.168.4.5",
                    "10.0.3.1-10.1.0.5",
                    "172.16.0.0/12",
                ]);
                let op = self.pick(&["|=", "!="]);
                stage(format!(" {op} ip(\"{of}\")"), tag)
            }
            "|~" | "!~" => {
                let text = match self.random.below(5) {
                    0 => format!("`(?i){}`", word.to_uppercase()),
                    1 => format!("`{}|{other}`", word.replace('.', "\\.")),
                    2 => "`[0-9]{3,} ?[a-z]`".to_owned(),
                    3 => format!("`.*{}.*`", word.replace('.', "\\.")),
                    _ => escaped(word),
                };
                stage(format!(" {tag} {text}"), tag)
            }
            _ => stage(format!(" {tag} {}", quoted(word)), tag),
        }
    }

    fn parse(&mut self, pipe: &mut Pipe, wanted: &str) {
        let of_type = match wanted {
            "duration filter"
            | "unwrap duration()"
            | "unwrap duration_seconds()"
            | "template duration"
            | "template duration_seconds" => Some(Type::Duration),
            "bytes filter" | "unwrap bytes()" | "template bytes" => Some(Type::Bytes),
            "ip filter" => Some(Type::Ip),
            "number filter" | "unwrap" => Some(Type::Number),
            _ => None,
        };
        let parsers = pipe.source.parsers.iter();
        let fitting: Vec<_> = parsers
            .filter(|parser| {
                if ["__error__ shown", "__error_details__"].contains(&wanted) {
                    return parser.tags.contains(&"json") || parser.tags.contains(&"--strict");
                }
                let has = |t: Type| parser.fields.iter().any(|(_, f)| *f == t);
                let is_tag = PARSERS.contains(&wanted) || wanted == "metadata filter";
                (!is_tag || parser.tags.contains(&wanted)) && of_type.is_none_or(has)
            })
            .collect();
        let all = pipe.source.parsers;
        let parser = match fitting.len() {
            0 => &all[self.random.below(all.len() as u64) as usize],
            len => fitting[self.random.below(len as u64) as usize],
        };
        let mut node = Node::new(Gives::Stage, format!(" {}", parser.text));
        for tag in parser.tags.iter().filter(|tag| **tag != "metadata filter") {
            node = node.tag(*tag);
        }
        pipe.stages.push(node);
        pipe.is_parsed = true;
        let own = parser.fields.iter();
        pipe.fields
            .extend(own.map(|(name, t)| ((*name).to_owned(), *t)));
    }

    fn field(&mut self, pipe: &Pipe, of: Type) -> Option<String> {
        let all: Vec<&String> = pipe
            .fields
            .iter()
            .filter(|(_, t)| *t == of)
            .map(|(name, _)| name)
            .collect();
        let len = all.len() as u64;
        (len > 0).then(|| all[self.random.below(len) as usize].clone())
    }

    fn text_field(&mut self, pipe: &Pipe) -> String {
        if self.one_in(5) {
            return self
                .pick(&["env", "host", "app", "service_name", "level"])
                .to_owned();
        }
        self.field(pipe, Type::Text)
            .unwrap_or_else(|| "env".to_owned())
    }

    /// One comparison of a label, with what it is.
    fn comparison(&mut self, pipe: &Pipe, wanted: Option<&str>) -> (String, &'static str) {
        let op = self.pick(&["==", "=", "!=", ">", ">=", "<", "<="]);
        let ordered = self.pick(&[">", ">=", "<", "<=", "!="]);
        let kinds = [
            "number filter",
            "duration filter",
            "bytes filter",
            "ip filter",
            "regex filter",
            "text filter",
        ];
        let kind = match wanted {
            Some(kind) if kinds.contains(&kind) => kind,
            _ => self.pick(&kinds),
        };
        match kind {
            "number filter" => {
                if let Some(name) = self.field(pipe, Type::Number) {
                    let value = self.pick(&["200", "404", "0", "100.5", "1e3", "4", "50"]);
                    let op = if self.one_in(4) { op } else { ordered };
                    return (format!("{name} {op} {value}"), "number filter");
                }
            }
            "duration filter" => {
                if let Some(name) = self.field(pipe, Type::Duration) {
                    let value = self.pick(&["10ms", "1s", "250us", "1m2.5s", "0s"]);
                    let op = if self.one_in(4) { op } else { ordered };
                    return (format!("{name} {op} {value}"), "duration filter");
                }
            }
            "bytes filter" => {
                if let Some(name) = self.field(pipe, Type::Bytes) {
                    let value = self.pick(&["12KB", "1MB", "1KiB", "600B", "2MiB", "1.5MB"]);
                    let op = if self.one_in(4) { op } else { ordered };
                    return (format!("{name} {op} {value}"), "bytes filter");
                }
            }
            "ip filter" => {
                if let Some(name) = self.field(pipe, Type::Ip) {
                    let op = self.pick(&["=", "!="]);
                    let of = self.pick(&["10.0.3.0/24", "192.168.4.5", "10.0.3.1-10.1.0.5"]);
                    return (format!("{name} {op} ip(\"{of}\")"), "ip filter");
                }
            }
            _ => {}
        }
        let name = self.text_field(pipe);
        let values = values_of(&name);
        if kind == "regex filter" {
            // Not a literal beside `.*`: see `tests/deviations.md`.
            let value = match self.random.below(4) {
                0 => format!("{}|nothing", self.pick(values)),
                1 => format!("(?i){}", self.pick(values)),
                _ => self
                    .pick(&["[a-cA-P/].*", ".*o.*", "[A-Za-z]+", ".+", "..?.?.+"])
                    .to_owned(),
            };
            let op = self.pick(&["=~", "=~", "!~"]);
            return (format!("{name} {op} `{value}`"), "regex filter");
        }
        let value = self.pick(values);
        let op = self.pick(&["=", "!=", "!="]);
        (format!("{name} {op} \"{value}\""), "text filter")
    }

    fn label_filter(&mut self, pipe: &mut Pipe, wanted: Option<&str>) {
        let (first, tag) = self.comparison(pipe, wanted);
        let between = match wanted {
            Some("and filter") => " and ",
            Some("or filter") => " or ",
            Some("comma filter") => ", ",
            _ => match self.random.below(6) {
                0 => " and ",
                1 => " or ",
                _ => "",
            },
        };
        if between.is_empty() {
            let mut node = stage(format!(" | {first}"), tag);
            if wanted == Some("metadata filter") {
                node = node.tag("metadata filter");
            }
            pipe.stages.push(node);
            return;
        }
        let (second, other) = self.comparison(pipe, None);
        let text = match self.random.below(3) {
            0 => {
                let (third, _) = self.comparison(pipe, None);
                let last = self.pick(&[" and ", " or ", " "]);
                format!(" | {first}{between}({second}{last}{third})")
            }
            _ => format!(" | {first}{between}{second}"),
        };
        let mut node = stage(text, tag).tag(other);
        node = match between {
            " and " => node.tag("and filter"),
            " or " => node.tag("or filter"),
            _ => node.tag("comma filter"),
        };
        if wanted == Some("metadata filter") {
            node = node.tag("metadata filter");
        }
        pipe.stages.push(node);
    }

    fn example(&mut self, pipe: &Pipe, name: &str) -> String {
        let example = FUNCTIONS.iter().find(|(n, _)| *n == name);
        let mut text = example
            .unwrap_or_else(|| panic!("no function {name}"))
            .1
            .to_owned();
        for (sign, of) in [
            (".T", Type::Text),
            (".N", Type::Number),
            (".D", Type::Duration),
            (".B", Type::Bytes),
        ] {
            while let Some(at) = find_field(&text, sign) {
                let field = match of {
                    Type::Text => Some(self.text_field(pipe)),
                    of => self.field(pipe, of),
                };
                let field = field.unwrap_or_else(|| "gone".to_owned());
                text.replace_range(at..at + 2, &format!(".{field}"));
            }
        }
        text
    }

    fn template(&mut self, pipe: &mut Pipe, name: &str) {
        let text = self.example(pipe, name);
        let tag = format!("template {name}");
        if self.one_in(3) {
            pipe.stages
                .push(stage(format!(" | label_format made=`{text}`"), "label_format").tag(tag));
            pipe.is_changed = true;
        } else {
            pipe.stages
                .push(stage(format!(" | line_format `{text}`"), "line_format").tag(tag));
        }
    }

    fn other_stage(&mut self, pipe: &mut Pipe, tag: &str) {
        let field = self.text_field(pipe);
        let second = self.text_field(pipe);
        let text = match tag {
            "line_format" => {
                let name = FUNCTIONS[self.random.below(FUNCTIONS.len() as u64) as usize].0;
                return self.template(pipe, name);
            }
            "label_format" => {
                let name = FUNCTIONS[self.random.below(FUNCTIONS.len() as u64) as usize].0;
                let made = self.example(pipe, name);
                let target = self.pick(&["made", "env", "level", "status"]);
                format!(" | label_format {target}=`{made}`, copy=`{{{{.{field}}}}}`")
            }
            "rename" => {
                let target = self.pick(&["moved", "env", "level", "rows"]);
                format!(" | label_format {target}={field}")
            }
            "drop" => format!(" | drop {field}, {second}"),
            "drop matcher" => {
                let value = self.pick(&["prod", "bob", "error", ".+"]);
                let op = self.pick(&["=", "!=", "=~", "!~"]);
                format!(" | drop {field}{op}\"{value}\", {second}")
            }
            "keep" => format!(" | keep {field}, {second}"),
            "keep matcher" => {
                let value = self.pick(&["prod", "bob", "error", ".+"]);
                let op = self.pick(&["=", "!=", "=~"]);
                format!(" | keep {field}{op}\"{value}\", env")
            }
            _ => return,
        };
        pipe.stages.push(stage(text, tag));
        pipe.is_changed = true;
    }

    // ----- numbers

    fn window(&mut self) -> &'static str {
        self.pick(&["7m", "10m", "1h", "30m", "17m", "2h", "1h"])
    }

    fn behind(&mut self, wanted: &str) -> (String, Vec<&'static str>) {
        match wanted {
            "offset" => (
                format!(" offset {}", self.pick(&["5m", "10m", "20m"])),
                vec!["offset"],
            ),
            "negative offset" => (" offset -5m".to_owned(), vec!["negative offset"]),
            _ if self.one_in(10) => (" offset 5m".to_owned(), vec!["offset"]),
            _ => (String::new(), Vec::new()),
        }
    }

    fn over_lines(&mut self, name: &str, mut pipe: Pipe, window: &str) -> Node {
        if pipe.is_parsed && !self.one_in(6) {
            pipe.stages
                .push(stage(" | __error__=\"\"", "__error__ filter"));
        }
        let text = format!("{name}({} [{window}])", "$".repeat(pipe.stages.len()));
        Node::with(Gives::Floats, &text, pipe.stages).tag(name)
    }

    fn range(&mut self, name: &str, wanted: &str) -> Node {
        let window = self.window();
        let (behind, tags) = self.behind(wanted);
        let takes_numbers = OVER_NUMBERS.contains(&name) || (name == "rate" && self.one_in(4));
        let mut node = if takes_numbers || UNWRAPS.contains(&wanted) {
            self.over_numbers(name, wanted, window, &behind)
        } else {
            let mut pipe = self.pipe(wanted);
            if pipe.is_parsed && !self.one_in(8) {
                pipe.stages
                    .push(stage(" | __error__=\"\"", "__error__ filter"));
            }
            if name == "absent_over_time" {
                pipe.stages.push(stage(" |= `never seen`", "|="));
            }
            let text = format!(
                "{name}({} [{window}]{behind})",
                "$".repeat(pipe.stages.len())
            );
            Node::with(Gives::Floats, &text, pipe.stages)
        };
        node = node.tag(name);
        for tag in tags {
            node = node.tag(tag);
        }
        node
    }

    fn over_numbers(&mut self, name: &str, wanted: &str, window: &str, behind: &str) -> Node {
        let kinds = [
            "unwrap",
            "unwrap duration()",
            "unwrap duration_seconds()",
            "unwrap bytes()",
        ];
        let kind = if kinds.contains(&wanted) {
            wanted
        } else {
            self.pick(&["unwrap", "unwrap", "unwrap duration()", "unwrap bytes()"])
        };
        let kind = kinds
            .iter()
            .find(|k| **k == kind)
            .copied()
            .unwrap_or("unwrap");
        let mut pipe = self.pipe(kind);
        let (of, call) = match kind {
            "unwrap duration()" => (Type::Duration, "duration"),
            "unwrap duration_seconds()" => (Type::Duration, "duration_seconds"),
            "unwrap bytes()" => (Type::Bytes, "bytes"),
            _ => (Type::Number, ""),
        };
        let field = self.field(&pipe, of).unwrap_or_else(|| "gone".to_owned());
        let text = if call.is_empty() {
            format!(" | unwrap {field}")
        } else {
            format!(" | unwrap {call}({field})")
        };
        pipe.stages.push(stage(text, kind));
        if !pipe.is_changed && (wanted == "unwrap filter" || self.one_in(6)) {
            let (filter, _) = self.comparison(&pipe, None);
            pipe.stages
                .push(stage(format!(" | {filter}"), "unwrap filter"));
        }
        if !(wanted == "unwrap error" || self.one_in(10)) {
            pipe.stages
                .push(stage(" | __error__=\"\"", "__error__ filter"));
        }
        let is_grouped = GROUPED.contains(&name);
        let (grouping, tag) = match wanted {
            "over by" => (" by (app, env)", "over by"),
            "over without" => (" without (host, level)", "over without"),
            _ if is_grouped => match self.random.below(5) {
                0 => (" by (env)", "over by"),
                1 => (" without (app, host)", "over without"),
                2 => (" by ()", "over by"),
                3 => (" by (level, host)", "over by"),
                _ => ("", ""),
            },
            _ => ("", ""),
        };
        let parameter = match name {
            "quantile_over_time" => format!("{}, ", self.pick(&["0.5", "0.99", "0", "1", "0.333"])),
            _ => String::new(),
        };
        let text = format!(
            "{name}({parameter}{} [{window}]{behind}){grouping}",
            "$".repeat(pipe.stages.len())
        );
        let node = Node::with(Gives::Floats, &text, pipe.stages);
        if tag.is_empty() { node } else { node.tag(tag) }
    }

    /// Any series.
    fn series(&mut self) -> Node {
        let name = if self.one_in(2) {
            self.pick(&OVER_LINES[..4])
        } else {
            self.pick(&OVER_NUMBERS[..9])
        };
        self.range(name, "")
    }

    /// Series of certain labels.
    fn by(&mut self, labels: &str) -> Node {
        let fold = self.pick(&["sum", "avg", "min", "max"]);
        let window = self.pick(&["10m", "30m", "1h"]);
        let app = self.pick(&["web", "api", "db"]);
        let core = match self.random.below(3) {
            0 => format!("count_over_time({{app=\"{app}\"}}[{window}])"),
            1 => format!("bytes_rate({{app=\"{app}\"}}[{window}])"),
            _ => format!("rate({{app=\"{app}\"}} |= `1` [{window}])"),
        };
        Node::with(
            Gives::Floats,
            &format!("{fold} by ({labels}) ($)"),
            vec![Node::new(Gives::Floats, core)],
        )
        .tag(fold)
    }

    fn metric(&mut self, wanted: &str) -> Node {
        let core = self.core(wanted);
        if self.one_in(2)
            || wanted == "variants"
            || SORTS.contains(&wanted)
            || core.gives == Gives::Scalar
        {
            return core;
        }
        match self.random.below(5) {
            0 | 1 => {
                let fold = self.pick(&FOLDS);
                self.grouped(fold, core)
            }
            2 => Node::with(Gives::Floats, "($) * 2", vec![core])
                .tag("*")
                .tag("vector op scalar"),
            3 => {
                let right = self.by("env");
                Node::with(Gives::Floats, "($) or ($)", vec![core, right]).tag("or")
            }
            _ => Node::with(Gives::Floats, "($) + 0.5", vec![core])
                .tag("+")
                .tag("vector op scalar"),
        }
    }

    fn grouped(&mut self, fold: &str, core: Node) -> Node {
        // These rates are nearly the same: their variance has few digits, which depend on the order.
        let is_close = core.all_tags().contains("rate_counter");
        let fold = match fold {
            "stddev" | "stdvar" if is_close => "max",
            fold => fold,
        };
        let (grouping, tag) = match self.random.below(5) {
            0 => ("", "no grouping"),
            1 => (" by (env)", "by"),
            2 => (" by (app, host, level)", "by"),
            3 => (" without (host)", "without"),
            _ => (
                " without (app, env, service_name, detected_level)",
                "without",
            ),
        };
        Node::with(Gives::Floats, &format!("{fold}{grouping} ($)"), vec![core])
            .tag(fold)
            .tag(tag)
    }

    fn core(&mut self, wanted: &str) -> Node {
        if OVER_LINES.contains(&wanted) || OVER_NUMBERS.contains(&wanted) {
            return self.range(wanted, "");
        }
        if UNWRAPS.contains(&wanted) {
            let name = self.pick(&OVER_NUMBERS[..9]);
            return self.range(name, wanted);
        }
        if FOLDS.contains(&wanted) {
            let inner = self.series();
            return self.grouped(wanted, inner);
        }
        if RANKS.contains(&wanted) {
            return self.ranked(wanted);
        }
        if SORTS.contains(&wanted) {
            let inner = self.series();
            return Node::with(Gives::Floats, &format!("{wanted}($)"), vec![inner]).tag(wanted);
        }
        if ARITHMETIC.contains(&wanted) || COMPARISONS.contains(&wanted) {
            let op = wanted.trim_end_matches(" binary");
            // Most values are between them.
            let (behind, before): (&[&str], &[&str]) = match op {
                ">" | ">=" => (&["0", "1e-9", "1"], &["1e12", "2"]),
                "<" | "<=" => (&["1e12", "2"], &["0", "1e-9", "1"]),
                _ => (
                    &["2", "0", "0.5", "-3", "1e3"],
                    &["2", "0", "0.5", "-3", "1e3"],
                ),
            };
            // Two of a kind are seldom equal.
            let kind = if op == "==" { 0 } else { self.random.below(3) };
            let node = match kind {
                0 => {
                    let left = self.by("env, host");
                    let right = if op == "==" {
                        left.clone()
                    } else {
                        self.by("env, host")
                    };
                    Node::with(Gives::Floats, &format!("($) {op} ($)"), vec![left, right])
                }
                1 => {
                    let left = self.series();
                    let number = self.pick(behind);
                    Node::with(Gives::Floats, &format!("($) {op} {number}"), vec![left])
                        .tag("vector op scalar")
                }
                _ => {
                    let right = self.series();
                    let number = self.pick(before);
                    Node::with(Gives::Floats, &format!("{number} {op} ($)"), vec![right])
                        .tag("scalar op vector")
                }
            };
            return node.tag(wanted);
        }
        if SETS.contains(&wanted) {
            let (left, right) = (self.series(), self.by("env, host"));
            let on = match wanted {
                "unless" => "",
                _ => self.pick(&["", "", " on (env)", " ignoring (host)"]),
            };
            let (left, right) = match on {
                "" => (self.by("env, host"), self.by("env, host")),
                _ => (left, right),
            };
            // All of one host is left.
            let right = match wanted {
                "unless" => Node::new(Gives::Floats, ABSENT_FROM_B),
                _ => right,
            };
            return Node::with(
                Gives::Floats,
                &format!("($) {wanted}{on} ($)"),
                vec![left, right],
            )
            .tag(wanted);
        }
        self.other(wanted)
    }

    fn ranked(&mut self, wanted: &str) -> Node {
        // Those with equal values are in no order; sums of many bytes are hardly ever equal.
        let parser = SOURCES[0].parsers[self.random.below(2) as usize].text;
        let k = self.pick(&["1", "2", "3"]);
        let grouping = self.pick(&["", " by (env)", " without (host, method)"]);
        let inner = Node::new(
            Gives::Floats,
            format!(
                "sum by (env, host, method) (sum_over_time({{app=\"web\"}} {parser} | unwrap bytes_sent [1h]))"
            ),
        );
        Node::with(
            Gives::Floats,
            &format!("{wanted}{grouping} ({k}, $)"),
            vec![inner],
        )
        .tag(wanted)
    }

    fn other(&mut self, wanted: &str) -> Node {
        let op = self.pick(&["+", "-", "*", "/", "!=", "<"]);
        match wanted {
            "by" | "without" | "no grouping" => {
                let fold = self.pick(&FOLDS);
                loop {
                    let inner = self.series();
                    let node = self.grouped(fold, inner);
                    if node.tags.iter().any(|tag| tag == wanted) {
                        return node;
                    }
                }
            }
            "over by" | "over without" => {
                let name = self.pick(&GROUPED);
                self.range(name, wanted)
            }
            "offset" | "negative offset" => {
                let name = self.pick(&OVER_LINES[..4]);
                self.range(name, wanted)
            }
            "unwrap error" => {
                let name = self.pick(&OVER_NUMBERS[..9]);
                let field = self.pick(&["took", "size", "msg"]);
                let parts = [
                    format!("{name}({{app=\"db\"}} | logfmt | unwrap {field} | __error__=\"\" [30m])"),
                    format!("{name}({{app=\"db\"}} | logfmt | unwrap {field} | __error__!=\"\" [30m])"),
                    format!("count_over_time({{app=\"db\"}} | logfmt | {field} > 5 [30m])"),
                    format!("count_over_time({{app=\"db\"}} | logfmt | {field} > 5 | __error__=\"\" [30m])"),
                    "count_over_time({app=\"odd\"} | json | __error__!=\"\" [30m])".to_owned(),
                    "sum by (__error__) (count_over_time({app=\"odd\"} | json | __error__!=\"\" [30m]))".to_owned(),
                ];
                let text = &parts[1 + self.random.below(5) as usize];
                let text = if name == "quantile_over_time" {
                    &parts[4]
                } else {
                    text
                };
                Node::new(Gives::Floats, text.clone()).tag(wanted)
            }
            "pipeline error" => {
                let inner = self.pick(&[
                    "sum by (app) (count_over_time({app=\"odd\"} | logfmt --strict [1h]))",
                    "sum(count_over_time({app=\"odd\"} | json [1h]))",
                    "sum by (rows) (count_over_time({app=\"odd\"} | json | __error__=~\".*\" [1h]))",
                    "count_over_time({app=\"odd\"} | json | drop __error__ [1h])",
                    "count_over_time({app=\"odd\"} | json | drop __error__, __error_details__ [1h])",
                    "sum by (level) (rate({app=\"odd\"} | logfmt [1h]))",
                ]);
                Node::new(Gives::Floats, inner).tag(wanted)
            }
            "bool" => {
                let compare = self.pick(&["==", "!=", ">", "<", ">=", "<="]);
                let (left, right) = (self.by("env, host"), self.by("env, host"));
                Node::with(
                    Gives::Floats,
                    &format!("($) {compare} bool ($)"),
                    vec![left, right],
                )
                .tag(wanted)
            }
            "on" => {
                let (left, right) = (self.by("env, app"), self.by("env"));
                Node::with(
                    Gives::Floats,
                    &format!("($) {op} on (env) ($)"),
                    vec![left, right],
                )
                .tag(wanted)
            }
            "ignoring" => {
                let (left, right) = (self.by("env, app"), self.by("env, app"));
                Node::with(
                    Gives::Floats,
                    &format!("($) {op} ignoring (app) ($)"),
                    vec![left, right],
                )
                .tag(wanted)
            }
            "group_left" | "include" => {
                let (left, right) = (self.by("env, host"), self.by("env, app"));
                let include = if wanted == "include" { "(app)" } else { "()" };
                Node::with(
                    Gives::Floats,
                    &format!("($) {op} on (env) group_left {include} ($)"),
                    vec![left, right],
                )
                .tag(wanted)
                .tag("group_left")
            }
            "group_right" => {
                let (left, right) = (self.by("env"), self.by("env, host"));
                Node::with(
                    Gives::Floats,
                    &format!("($) {op} ignoring (host) group_right () ($)"),
                    vec![left, right],
                )
                .tag(wanted)
            }
            "scalar op scalar" => {
                let (a, b) = (self.pick(&["1", "2.5", "0"]), self.pick(&["3", "0", "-1"]));
                let op = self.pick(&["+", "-", "*", "/", "%", "^", ">", "=="]);
                Node::new(Gives::Scalar, format!("{a} {op} {b}")).tag(wanted)
            }
            "number" => {
                Node::new(Gives::Scalar, self.pick(&["1", "-2.5", "1e3", "0.1"])).tag(wanted)
            }
            "vector" => {
                let right = self.series();
                match self.random.below(3) {
                    0 => Node::new(Gives::Floats, "vector(3.5)").tag(wanted),
                    1 => Node::with(Gives::Floats, "sum($) or vector(0)", vec![right]).tag(wanted),
                    _ => Node::with(Gives::Floats, "vector(2) + sum($)", vec![right]).tag(wanted),
                }
            }
            "label_replace" => {
                let inner = self.by("env, app");
                let arguments = self.pick(&[
                    "\"x\", \"$1-$1\", \"env\", \"(p|d).*\"",
                    "\"app\", \"new\", \"app\", \"web|db\"",
                    "\"x\", \"${first}\", \"env\", \"(?P<first>.).*\"",
                    "\"env\", \"\", \"env\", \"prod\"",
                    "\"x\", \"none\", \"gone\", \"\"",
                ]);
                Node::with(
                    Gives::Floats,
                    &format!("label_replace($, {arguments})"),
                    vec![inner],
                )
                .tag(wanted)
            }
            "variants" => self.variants(),
            _ => {
                let number = self.pick(&["2", "0", "0.5"]);
                let inner = self.series();
                let text = match wanted {
                    "scalar op vector" => format!("{number} {op} ($)"),
                    _ => format!("($) {op} {number}"),
                };
                Node::with(Gives::Floats, &text, vec![inner]).tag(wanted)
            }
        }
    }

    fn variants(&mut self) -> Node {
        let app = self.pick(&["web", "db", "meta"]);
        let window = self.pick(&["10m", "1h"]);
        let of = format!("{{app=\"{app}\"}}");
        let mut all = vec![
            format!("sum by (host) (count_over_time({of} |= `1` [{window}]))"),
            format!("sum by (env) (bytes_over_time({of}[{window}]))"),
            format!("max by (env) (rate({of}[{window}]))"),
            format!("sum(rate({of}[{window}]))"),
        ];
        let first = self.random.below(all.len() as u64) as usize;
        let one = all.swap_remove(first);
        let second = self.random.below(all.len() as u64) as usize;
        let two = all.swap_remove(second);
        Node::new(
            Gives::Floats,
            format!("variants({one}, {two}) of ({of} |= `e` [{window}])"),
        )
        .tag("variants")
    }
}

/// Values that a field has.
fn values_of(name: &str) -> &'static [&'static str] {
    match name {
        "env" => &["prod", "dev"],
        "host" => &["a", "a", "b"],
        "user" | "user_name" | "name" => &["bob", "alice", "Zoë"],
        "method" | "first" => &["GET", "POST"],
        "path" => &["/login", "/health", "/api/v1/items"],
        "level" | "level_extracted" | "severity" | "lvl" => &["error", "info", "WARN", "ERROR"],
        "thread" => &["worker-1", "worker-3"],
        "class" => &["com.example.Store"],
        "pod" => &["pod-1", "pod-2"],
        "zone" => &["eu", "us"],
        "ok" => &["true", "false"],
        "host_extracted" => &["other"],
        "user_a_b" => &["dash"],
        "env_extracted" => &["of the line", "of the metadata"],
        "app" | "service_name" => &["web", "db", "api", "odd"],
        _ => &["none", "other"],
    }
}

/// Where a sign stands for a field: no letter follows it.
fn find_field(text: &str, sign: &str) -> Option<usize> {
    text.match_indices(sign).map(|(at, _)| at).find(|at| {
        let next = text[at + sign.len()..].chars().next();
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}
