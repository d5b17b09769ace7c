//! Rules made by chance.

use serde_json::{Map, Value, json};

use crate::harness::Random;

/// A rule and what it is made of.
#[derive(Debug, Clone)]
pub struct Generated {
    pub name: String,
    pub is_alert: bool,
    pub rule: Value,
    pub features: Vec<&'static str>,
}

/// Every feature that a rule can have; each must take part.
pub const FEATURES: &[&str] = &[
    "record",
    "alert",
    "for",
    "keep_firing_for",
    "label",
    "label template",
    "label taken away",
    "annotation",
    "annotation template",
    "template query",
    "template humanize",
    "template condition",
    "template that fails",
    "selector",
    "rate",
    "aggregation",
    "vector matching",
    "offset",
    "histogram",
    "over recorded",
    "set operator",
    "over time",
    "changed names",
];

/// Features that only rules have that depend on the time alone.
pub const TIMELESS: &[&str] = &["absent", "time", "number"];

pub struct Generator<'a> {
    pub random: &'a mut Random,
    /// Whether rules may be true before there are samples.
    pub may_be_timeless: bool,
    /// The unit of time: how long `for` and the like last, in s.
    pub unit_s: u64,
}

impl Generator<'_> {
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.below(choices.len() as u64) as usize]
    }

    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn number(&mut self, end: u64) -> String {
        format!("{}", self.random.below(end * 2) as f64 / 2.0)
    }

    /// A rule of this number. `recorded`: names that rules before it record.
    pub fn rule(&mut self, number: usize, recorded: &[String]) -> Generated {
        let is_alert = !self.chance(3);
        let mut features = vec![if is_alert { "alert" } else { "record" }];
        let expr = self.expr(recorded, &mut features);
        let name = if is_alert {
            format!("Alert{number}")
        } else {
            format!("rec:{number}")
        };
        let mut rule = Map::new();
        let kind = if is_alert { "alert" } else { "record" };
        rule.insert(kind.to_owned(), json!(name));
        rule.insert("expr".to_owned(), json!(expr));
        let mut labels = Map::new();
        if self.chance(2) {
            features.push("label");
            let value = self.one_of(&["page", "ticket", "überall", "a b"]);
            labels.insert("severity".to_owned(), json!(value));
        }
        if self.chance(6) {
            features.push("label taken away");
            labels.insert("code".to_owned(), json!(""));
        }
        if is_alert {
            self.alert(&mut rule, &mut labels, &mut features);
        }
        if !labels.is_empty() {
            rule.insert("labels".to_owned(), Value::Object(labels));
        }
        Generated {
            name,
            is_alert,
            rule: Value::Object(rule),
            features,
        }
    }

    fn alert(
        &mut self,
        rule: &mut Map<String, Value>,
        labels: &mut Map<String, Value>,
        features: &mut Vec<&'static str>,
    ) {
        for (field, feature) in [("for", "for"), ("keep_firing_for", "keep_firing_for")] {
            if self.chance(2) {
                features.push(feature);
                let length = self.unit_s * (1 + self.random.below(6));
                rule.insert(field.to_owned(), json!(format!("{length}s")));
            }
        }
        if self.chance(3) {
            features.push("label template");
            let text = self.one_of(&[
                "{{ $labels.job }}-x",
                "{{ .Labels.instance | toUpper }}",
                "{{ reReplaceAll \"h([0-9])\" \"host$1\" $labels.instance }}",
                "{{ $externalLabels.dc }}",
                "{{ if $labels.code }}{{ $labels.code }}{{ else }}none{{ end }}",
            ]);
            labels.insert("made".to_owned(), json!(text));
        }
        let mut annotations = Map::new();
        if self.chance(2) {
            features.push("annotation");
            annotations.insert("summary".to_owned(), json!("plain \"text\""));
        }
        if self.chance(2) {
            features.push("annotation template");
            let (text, feature) = self.one_of(&[
                ("{{ $labels.job }} {{ $labels.none }} {{ $value }}", "annotation template"),
                ("{{ $value | humanize }} {{ $value | humanize1024 }}", "template humanize"),
                ("{{ $value | humanizeDuration }} {{ humanizePercentage $value }}", "template humanize"),
                ("{{ humanizeTimestamp $value }} {{ printf \"%.3f|%5.1f\" $value $value }}", "template humanize"),
                ("{{ with query \"load{job='a',instance='h1'}\" }}{{ . | first | value }}{{ end }}", "template query"),
                (
                    "{{ range query \"sum by (instance) (load)\" | sortByLabel \"instance\" }}{{ .Labels.instance }}={{ .Value }};{{ end }}",
                    "template query",
                ),
                ("{{ if gt $value 3.0 }}high{{ else if eq $value 1.0 }}one{{ else }}low{{ end }}", "template condition"),
                ("{{ query \"none\" | first | value }}", "template that fails"),
                ("{{ humanize $labels.job }}", "template that fails"),
                ("{{ $labels }} {{ title \"a b\" }} {{ parseDuration \"1h\" }} {{ match \"a.*\" $labels.job }}", "annotation template"),
                ("{{ range $k, $v := $labels }}{{ $k }}:{{ $v }},{{ end }}", "annotation template"),
                ("{{ graphLink \"up == 0\" }} {{ $externalURL }} {{ len $labels.job }}", "annotation template"),
            ]);
            features.push(feature);
            annotations.insert("text".to_owned(), json!(text));
        }
        if self.chance(8) {
            annotations.insert("empty".to_owned(), json!(""));
        }
        if !annotations.is_empty() {
            rule.insert("annotations".to_owned(), Value::Object(annotations));
        }
    }

    fn selector(&mut self) -> String {
        let names = ["up", "load", "load", "requests_total"];
        let name = self.one_of(&names);
        let matcher = self.one_of(&[
            "",
            "",
            "{job=\"a\"}",
            "{instance=~\"h[12]\"}",
            "{job!=\"b\"}",
            "{code!~\"5..\"}",
        ]);
        format!("{name}{matcher}")
    }

    fn expr(&mut self, recorded: &[String], features: &mut Vec<&'static str>) -> String {
        let vector = self.vector(recorded, features);
        if features.contains(&"number") {
            return vector;
        }
        match self.random.below(4) {
            0 => vector,
            1 => {
                let operator = self.one_of(&[">", "<", ">=", "!="]);
                format!("{vector} {operator} {}", self.number(10))
            }
            2 => {
                features.push("set operator");
                let operator = self.one_of(&["and", "unless", "or"]);
                let other = self.selector();
                format!(
                    "({vector}) {operator} on (job, instance) ({other} > {})",
                    self.number(6)
                )
            }
            _ => format!("{vector} > bool {}", self.number(8)),
        }
    }

    fn vector(&mut self, recorded: &[String], features: &mut Vec<&'static str>) -> String {
        let minutes = self.unit_s * (2 + self.random.below(8));
        let selector = self.selector();
        match self
            .random
            .below(if self.may_be_timeless { 13 } else { 10 })
        {
            0 => {
                features.push("selector");
                selector
            }
            1 => {
                features.push("rate");
                let function = self.one_of(&["rate", "increase", "irate", "delta"]);
                format!("{function}(requests_total[{minutes}s])")
            }
            2 => {
                features.push("aggregation");
                let function = self.one_of(&["sum", "max", "min", "count", "group"]);
                let by = self.one_of(&["by (job)", "without (instance)", "", "by (job, code)"]);
                format!("{function} {by} ({selector})")
            }
            3 => {
                features.push("vector matching");
                let operator = self.one_of(&["+", "-", "*"]);
                format!("load {operator} on (job, instance) up")
            }
            4 => {
                features.push("offset");
                format!("{selector} offset {}s", self.unit_s)
            }
            5 => {
                features.push("histogram");
                let function = self.one_of(&[
                    "histogram_avg(sizes)",
                    "histogram_count(sizes)",
                    "sizes",
                    "histogram_sum(sum by (job) (sizes))",
                ]);
                function.to_owned()
            }
            6 if !recorded.is_empty() => {
                features.push("over recorded");
                recorded[self.random.below(recorded.len() as u64) as usize].clone()
            }
            7 => {
                features.push("over time");
                let function = self.one_of(&["max_over_time", "count_over_time", "last_over_time"]);
                format!("{function}(load[{minutes}s])")
            }
            8 => {
                features.push("changed names");
                format!("label_replace({selector}, \"other\", \"$1\", \"instance\", \"h(.)\")")
            }
            9 => {
                features.push("aggregation");
                let function = self.one_of(&[
                    "quantile(0.5, load)",
                    "avg by (job) (load)",
                    "count_values(\"v\", up)",
                ]);
                function.to_owned()
            }
            10 => {
                features.push("absent");
                "absent(up{job=\"none\"})".to_owned()
            }
            11 => {
                features.push("time");
                format!("vector(time() % {} )", self.unit_s * 10)
            }
            12 => {
                features.push("number");
                "time() / 60".to_owned()
            }
            _ => {
                features.push("selector");
                selector
            }
        }
    }
}
