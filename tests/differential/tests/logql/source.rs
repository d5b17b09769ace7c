//! What kinds of streams there are, and what can be read from their lines.

/// What a field's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Text,
    Number,
    Duration,
    Bytes,
    Ip,
}

use Type::{Bytes, Duration, Ip, Number, Text};

/// A way to read fields of lines.
#[derive(Debug)]
pub struct Parser {
    /// What of the language it uses.
    pub tags: &'static [&'static str],
    pub text: &'static str,
    pub fields: &'static [(&'static str, Type)],
}

/// Streams of one application.
#[derive(Debug)]
pub struct Source {
    pub app: &'static str,
    pub parsers: &'static [Parser],
    /// Texts that some of its lines have.
    pub words: &'static [&'static str],
    /// Patterns of `|>` that some of its lines have.
    pub patterns: &'static [&'static str],
    /// Whether its lines can fail to parse.
    pub is_broken: bool,
}

const JSON: &[(&str, Type)] = &[
    ("level_extracted", Text),
    ("msg", Text),
    ("status", Number),
    ("took", Duration),
    ("size", Bytes),
    ("ratio", Number),
    ("user_id", Number),
    ("user_name", Text),
    ("user_a_b", Text),
    ("ip", Ip),
    ("ok", Text),
    ("env_extracted", Text),
];
const LOGFMT: &[(&str, Type)] = &[
    ("level", Text),
    ("caller", Text),
    ("msg", Text),
    ("took", Duration),
    ("size", Bytes),
    ("rows", Number),
    ("ratio", Number),
    ("ip", Ip),
    ("host_extracted", Text),
];
const WEB: &[(&str, Type)] = &[
    ("ip", Ip),
    ("user", Text),
    ("method", Text),
    ("path", Text),
    ("status", Number),
    ("bytes_sent", Number),
    ("seconds", Number),
];

const fn parser(
    tags: &'static [&'static str],
    text: &'static str,
    fields: &'static [(&'static str, Type)],
) -> Parser {
    Parser { tags, text, fields }
}

pub const SOURCES: &[Source] = &[
    Source {
        app: "web",
        parsers: &[
            parser(
                &["pattern"],
                "| pattern `<ip> - <user> [<_>] \"<method> <path> <_>\" <status> <bytes_sent> <_> <_> <seconds>`",
                WEB,
            ),
            parser(
                &["regexp"],
                r#"| regexp `(?P<ip>[0-9.]+) - (?P<user>\S+) .*"(?P<method>[A-Z]+) (?P<path>\S+) [^"]*" (?P<status>\d+) (?P<bytes_sent>\d+) .* (?P<seconds>[0-9.]+)$`"#,
                WEB,
            ),
            parser(
                &["regexp"],
                r#"| regexp "(?P<method>GET|PUT) (?P<path>/[a-z]*)""#,
                &[("method", Text), ("path", Text)],
            ),
            parser(
                &["pattern"],
                "| pattern `<_>] \"<method> <path> <_>\" <status> <_>`",
                &[("method", Text), ("path", Text), ("status", Number)],
            ),
        ],
        words: &[
            "GET", "login", "500", "alice", "items", "curl", "Zoë", ".css",
        ],
        patterns: &[
            "<_> - alice <_>",
            "<_>\"GET <_>\" 200 <_>",
            "10.0.3.<_>",
            "<_>HTTP/1.1\" 404 <_>",
        ],
        is_broken: false,
    },
    Source {
        app: "api",
        parsers: &[
            parser(&["json"], "| json", JSON),
            parser(
                &["json fields"],
                "| json name=\"user.name\", first=\"tags[0]\", status, deep=\"tags[1].deep\"",
                &[
                    ("name", Text),
                    ("first", Text),
                    ("status", Number),
                    ("deep", Number),
                ],
            ),
            parser(
                &["json fields"],
                "| json user=\"user\", took=\"took\", dash=\"user[\\\"a-b\\\"]\", gone=\"no.such\"",
                &[("user", Text), ("took", Duration), ("dash", Text)],
            ),
            parser(
                &["json fields"],
                "| json level=\"level\", tags, size, ok",
                &[
                    ("level_extracted", Text),
                    ("tags", Text),
                    ("size", Bytes),
                    ("ok", Text),
                ],
            ),
        ],
        words: &[
            "handled",
            "\"ok\":true",
            "404",
            "bob",
            "KB",
            "error",
            "250us",
        ],
        patterns: &[
            "<_>\"ok\":true<_>",
            "<_>handled <_> for bob<_>",
            "{\"\":\"empty\"<_>",
        ],
        is_broken: false,
    },
    Source {
        app: "db",
        parsers: &[
            parser(&["logfmt"], "| logfmt", LOGFMT),
            parser(&["logfmt", "--keep-empty"], "| logfmt --keep-empty", LOGFMT),
            parser(&["logfmt", "--strict"], "| logfmt --strict", LOGFMT),
            parser(
                &["logfmt fields"],
                "| logfmt took, n=\"rows\", size, lvl=\"level\"",
                &[
                    ("took", Duration),
                    ("n", Number),
                    ("size", Bytes),
                    ("lvl", Text),
                ],
            ),
            parser(
                &["logfmt fields", "--strict", "--keep-empty"],
                "| logfmt --strict --keep-empty rows, msg, empty, gone=\"nothing\"",
                &[("rows", Number), ("msg", Text)],
            ),
        ],
        words: &[
            "level=error",
            "query",
            "login",
            "flag",
            "caller=main",
            "1.5MB",
            "WARN",
        ],
        patterns: &[
            "level=info <_>",
            "<_>took=1s<_>",
            "level=<_> ts=<_> caller=main.go:1<_>",
        ],
        is_broken: false,
    },
    Source {
        app: "java",
        parsers: &[
            parser(
                &["regexp"],
                r"| regexp `^(?P<time>\S+ \S+) (?P<level>[A-Z]+) \[(?P<thread>[^\]]+)\] (?P<class>\S+) - took (?P<ms>\d+) ms`",
                &[
                    ("level", Text),
                    ("thread", Text),
                    ("class", Text),
                    ("ms", Number),
                ],
            ),
            parser(
                &["pattern"],
                "| pattern `<day> <time> <level> [<thread>] <class> - took <ms> ms<_>`",
                &[("level", Text), ("thread", Text), ("class", Text)],
            ),
        ],
        words: &[
            "ERROR",
            "worker-1",
            "IllegalState",
            "Store.java",
            "took",
            "at com",
        ],
        patterns: &["<_> ERROR <_>", "<_>[worker-3]<_>ms", "<_> - took <_> ms"],
        is_broken: false,
    },
    Source {
        app: "packed",
        parsers: &[
            parser(&["unpack"], "| unpack", &[("pod", Text)]),
            parser(
                &["unpack", "logfmt"],
                "| unpack | logfmt",
                &[
                    ("pod", Text),
                    ("level", Text),
                    ("rows", Number),
                    ("msg", Text),
                ],
            ),
        ],
        words: &["_entry", "pod-1", "rows", "login"],
        patterns: &["<_>\"pod\":\"pod-1\"<_>", "{\"_entry\"<_>"],
        is_broken: true,
    },
    Source {
        app: "odd",
        parsers: &[
            parser(
                &["json"],
                "| json",
                &[
                    ("rows", Number),
                    ("a_b_c", Number),
                    ("big", Number),
                    ("neg", Number),
                    ("esc", Text),
                ],
            ),
            parser(
                &["logfmt"],
                "| logfmt",
                &[("rows", Number), ("level", Text)],
            ),
            parser(
                &["logfmt", "--strict"],
                "| logfmt --strict",
                &[("rows", Number)],
            ),
            parser(
                &["logfmt", "--keep-empty"],
                "| logfmt --keep-empty",
                &[("rows", Number), ("text", Text)],
            ),
            parser(&["unpack"], "| unpack", &[("rows", Number)]),
            parser(
                &["json fields"],
                "| json rows, c=\"a.b.c\", x=\"list[1][0]\", esc",
                &[
                    ("rows", Number),
                    ("c", Number),
                    ("x", Number),
                    ("esc", Text),
                ],
            ),
            parser(
                &["decolorize", "logfmt"],
                "| decolorize | logfmt",
                &[("rows", Number)],
            ),
            parser(
                &["regexp"],
                r"| regexp `rows=(?P<rows>\d+)`",
                &[("rows", Number)],
            ),
            parser(
                &["pattern"],
                "| pattern `<_>rows=<rows>`",
                &[("rows", Number)],
            ),
        ],
        words: &["rows", "red", "größe", "long", "panic", "日本", "info", "1"],
        patterns: &["<_>rows=<_>", "plain <_> number <_>", "<_>ログ<_>", "{<_>}"],
        is_broken: true,
    },
    Source {
        app: "meta",
        parsers: &[
            parser(
                &["metadata filter"],
                "",
                &[
                    ("rows", Number),
                    ("took", Duration),
                    ("size", Bytes),
                    ("zone", Text),
                    ("trace_id", Text),
                    ("severity", Text),
                    ("env_extracted", Text),
                ],
            ),
            parser(
                &["logfmt"],
                "| logfmt",
                &[
                    ("rows", Number),
                    ("rows_extracted", Number),
                    ("took_extracted", Duration),
                    ("zone", Text),
                    ("severity", Text),
                    ("level", Text),
                    ("ratio", Number),
                ],
            ),
        ],
        words: &["level=error", "query", "flag", "login"],
        patterns: &["level=warn <_>", "<_>flag<_>"],
        is_broken: false,
    },
];

/// Functions of templates with an example of each. `T`, `N`, `D`, `B` stand for fields of that
/// type. No character is cut: see `tests/deviations.md`.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("ToLower", "{{ToLower .T}}"),
    ("ToUpper", "{{ .T | ToUpper }}"),
    ("Replace", "{{Replace .T \"a\" \"X\" -1}}"),
    ("Trim", "{{Trim .T \"/abz\"}}"),
    ("TrimLeft", "{{TrimLeft .T \"/abz\"}}"),
    ("TrimRight", "{{TrimRight .T \"/abez\"}}"),
    ("TrimPrefix", "{{TrimPrefix .T \"/\"}}"),
    ("TrimSuffix", "{{TrimSuffix .T \"e\"}}"),
    ("TrimSpace", "{{TrimSpace .T}}"),
    (
        "regexReplaceAll",
        "{{regexReplaceAll \"([a-z]+)\" .T \"<${1}>\"}}",
    ),
    (
        "regexReplaceAllLiteral",
        "{{ regexReplaceAllLiteral \"[a-m]\" .T \"$1\" }}",
    ),
    ("count", "{{count \"[aeiou]\" .T}}"),
    ("urldecode", "{{urldecode .T}}"),
    ("urlencode", "{{.T | urlencode}}"),
    ("bytes", "{{bytes .B}}"),
    ("duration", "{{.D | duration}}"),
    ("duration_seconds", "{{duration_seconds .D}}"),
    ("unixEpochMillis", "{{__timestamp__ | unixEpochMillis}}"),
    ("unixEpochNanos", "{{__timestamp__ | unixEpochNanos}}"),
    (
        "toDateInZone",
        "{{toDateInZone \"2006-01-02 15\" \"UTC\" \"2023-11-14 07\" | unixEpoch}}",
    ),
    (
        "unixToTime",
        "{{unixToTime \"1700000000123\" | date \"2006-01-02 15:04:05.000\"}}",
    ),
    ("alignLeft", "{{alignLeft 7 .T}}|"),
    ("alignRight", "{{alignRight 5 .T}}|"),
    ("b64enc", "{{b64enc .T}}"),
    ("b64dec", "{{.T | b64enc | b64dec}}"),
    ("lower", "{{lower .T}}"),
    ("upper", "{{upper .T}}"),
    ("title", "{{title .T}}"),
    ("trunc", "{{trunc 2 .T}}{{trunc -5 .T}}"),
    ("substr", "{{substr 2 6 .T}}{{.T | substr 0 -1}}"),
    (
        "contains",
        "{{if contains \"a\" .T}}yes{{else}}no {{.T}}{{end}}",
    ),
    ("hasPrefix", "{{hasPrefix \"G\" .T}}"),
    ("hasSuffix", "{{if .T | hasSuffix \"e\"}}e{{end}}"),
    ("indent", "{{indent 2 .T}}"),
    ("nindent", "{{nindent 3 .T}}"),
    ("replace", "{{replace \"a\" \"bb\" .T}}"),
    ("repeat", "{{repeat 2 .T}}"),
    ("trim", "{{trim .T}}"),
    ("trimAll", "{{trimAll \"/abez\" .T}}"),
    ("trimSuffix", "{{.T | trimSuffix \"e\"}}"),
    ("trimPrefix", "{{trimPrefix \"/\" .T}}"),
    ("int", "{{int .N}}"),
    ("float64", "{{float64 .N}}"),
    ("add", "{{add .N 1 2}}"),
    ("sub", "{{sub .N 7}}"),
    ("mul", "{{mul .N 3}}"),
    ("div", "{{div .N 7}}"),
    ("mod", "{{mod .N 7}}"),
    ("addf", "{{addf .N 1.5}}"),
    ("subf", "{{subf .N 0.25}}"),
    ("mulf", "{{.N | mulf 2.5}}"),
    ("divf", "{{divf .N 8}}"),
    ("max", "{{max .N 100}}"),
    ("min", "{{min .N 100 300}}"),
    ("maxf", "{{maxf .N 100.5}}"),
    ("minf", "{{minf .N 100.5}}"),
    ("ceil", "{{ceil .N}}"),
    ("floor", "{{floor .N}}"),
    ("round", "{{round .N 1}}"),
    (
        "fromJson",
        "{{range $k, $v := fromJson __line__}}{{$k}}={{$v}} {{end}}",
    ),
    (
        "date",
        "{{__timestamp__ | date \"2006-01-02T15:04:05.000000Z07:00 Mon Jan _2 PM\"}}",
    ),
    (
        "toDate",
        "{{toDate \"2006-01-02\" \"2023-11-14\" | unixEpoch}}",
    ),
    ("now", "{{if now}}now{{end}}"),
    ("unixEpoch", "{{unixEpoch __timestamp__}}"),
    (
        "default",
        "{{.missing | default \"none\"}}{{default \"x\" .T}}",
    ),
    ("__line__", "<{{__line__ | trunc 7}}>"),
    ("__timestamp__", "{{__timestamp__}}"),
    (
        "if",
        "{{if eq .T \"bob\"}}one{{else if gt (len .T) 4}}two{{else}}three{{end}}",
    ),
    (
        "with",
        "{{with .T}}{{.}}{{else}}none{{end}} {{with .gone}}{{.}}{{end}}",
    ),
    ("printf", "{{printf \"%-8s|%q|%v\" .T .T .N}}"),
    ("variable", "{{$x := .T}}{{$x}}-{{- $x -}}"),
    ("logic", "{{and .T .N}} {{or .gone .T}} {{not .gone}}"),
    ("slice", "{{slice .N 0 1}}{{index .N 0}}"),
    ("html", "{{html .T}} {{js .T}} {{urlquery .T}}"),
    ("print", "{{print .T 1 2 .N}} {{println .T}}"),
    ("dot", "{{.T}} {{.gone}} {{.N}}"),
    ("nested", "{{add (int .N) (len .T) | printf \"%05d\"}}"),
];
