//! Templates as Go renders them.

use kittiwake_template::{Functions, Limits, NoFunctions, Template, Value, sprintf};
use proptest::prelude::*;

struct Upper;

impl Functions for Upper {
    fn has(&self, name: &str) -> bool {
        name == "upper"
    }

    fn call(&self, _name: &str, arguments: &[Value]) -> Result<Value, String> {
        match arguments {
            [Value::Text(text)] => Ok(Value::text(text.to_uppercase())),
            _ => Err("expected string".to_owned()),
        }
    }
}

fn render(source: &str) -> Result<String, String> {
    let template = Template::parse(source, &Upper).map_err(|e| e.to_string())?;
    let dot = Value::texts([("a", "x"), ("b", "yy"), ("level", "error")]);
    let mut out = String::new();
    let done = template.render(&dot, &Upper, &Limits::default(), &mut out);
    done.map(|()| out).map_err(|e| e.to_string())
}

#[test]
fn renders_as_go_does() {
    for (source, want) in [
        ("plain", "plain"),
        ("{{.a}}-{{ .b }}", "x-yy"),
        ("{{.none}}", ""),
        ("a {{- .a -}} b", "axb"),
        ("{{/* no */}}z", "z"),
        ("{{ .a | upper }}", "X"),
        ("{{ upper (print .a .b) }}", "XYY"),
        (
            "{{ if eq .level \"error\" \"warn\" }}bad{{ else }}fine{{ end }}",
            "bad",
        ),
        ("{{ if .none }}1{{ else if .a }}2{{ else }}3{{ end }}", "2"),
        ("{{ with $x := .b }}{{ $x }}{{ . }}{{ end }}", "yyyy"),
        ("{{ $n := 1 }}{{ $n = 2 }}{{ $n }}", "2"),
        (
            "{{ range $k, $v := . }}{{ $k }}={{ $v }};{{ end }}",
            "a=x;b=yy;level=error;",
        ),
        (
            "{{ range 3 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        ("{{ range . }}{{ break }}{{ else }}none{{ end }}", ""),
        (
            "{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" .a }}",
            "<x>",
        ),
        (
            "{{ and .a .b }} {{ or .none .b }} {{ not .none }}",
            "yy yy true",
        ),
        (
            "{{ len .b }} {{ index . \"a\" }} {{ slice .level 1 3 }}",
            "2 x rr",
        ),
        (
            "{{ printf \"%-5s|%5d|%05.1f|%q|%v\" .a 7 2.25 .b 1e21 }}",
            "x    |    7|002.2|\"yy\"|1e+21",
        ),
        (
            "{{ 1.5 }} {{ 'a' }} {{ 0x10 }} {{ true }}",
            "1.5 97 16 true",
        ),
        ("{{ `raw \\n` }}{{ \"\\u00e9\" }}", "raw \\né"),
        (
            "{{ html \"<a>\" }} {{ urlquery \"a b&c\" }}",
            "&lt;a&gt; a+b%26c",
        ),
        (
            "{{ lt 1 2 }} {{ ge \"b\" \"a\" }} {{ ne 1 1 }}",
            "true true false",
        ),
    ] {
        assert_eq!(render(source).as_deref(), Ok(want), "{source}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (source, want) in [
        ("{{.x", "1: unclosed action"),
        ("a\n{{ foo }}", "2: function \"foo\" not defined"),
        ("{{ if .a }}", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ $x }}", "undefined variable"),
        ("{{ .a.b }}", "can't evaluate field b in type string"),
        ("{{ eq 1 \"a\" }}", "incompatible types"),
        ("{{ upper 1 }}", "error calling upper: expected string"),
        ("{{ \"a }}", "unterminated quoted string"),
        ("{{ break }}", "outside {{range}}"),
        (
            "{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}",
            "maximum template depth",
        ),
        ("{{ range 100000000 }}{{ end }}", "too many steps"),
        ("{{ range 99999 }}0123456789abcdef{{ end }}", "too"),
    ] {
        let error = render(source).unwrap_err();
        assert!(error.contains(want), "{source}: {error}");
    }
    assert!(Template::parse(&"{{ if true }}".repeat(2000), &NoFunctions).is_err());
    assert!(Template::parse(&format!("{{{{ {} }}}}", "(".repeat(5000)), &NoFunctions).is_err());
}

#[test]
fn formats_as_go_does() {
    let float = Value::Float;
    for (format, values, want) in [
        ("%d%%", vec![Value::Int(5)], "5%"),
        ("%s", vec![], "%!s(MISSING)"),
        ("%d", vec![Value::text("a")], "%!d(string=a)"),
        ("x", vec![Value::Int(1)], "x%!(EXTRA int=1)"),
        (
            "%.2f %e %g",
            vec![float(1.005), float(12345.678), float(1e-7)],
            "1.00 1.234568e+04 1e-07",
        ),
        (
            "%+d %x %t %c",
            vec![
                Value::Int(3),
                Value::Int(255),
                Value::Bool(true),
                Value::Int(65),
            ],
            "+3 ff true A",
        ),
        ("%.3g", vec![float(1234.5)], "1.23e+03"),
        ("%*d", vec![Value::Int(4), Value::Int(7)], "   7"),
    ] {
        assert_eq!(sprintf(format, &values), want);
    }
}

proptest! {
    #[test]
    fn any_text_renders_or_is_refused(source in "(\\{\\{|\\}\\}|[a-z.$ |()\"`'=:-]|if|end|range|\\PC){0,40}") {
        let _ = render(&source);
    }
}
