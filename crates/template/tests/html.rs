//! HTML as Go's `html/template` (1.26) writes it for the same templates and values.

#![allow(clippy::needless_raw_string_hashes, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use kittiwake_template::{Limits, Mark, NoFunctions, Template, Value};
use proptest::prelude::*;

fn values() -> Value {
    let values = [
        ("A", Value::text("a<b>&\"c'+d")),
        ("U", Value::text("http://h/x y?q=1&z=<")),
        ("J", Value::text("javascript:alert(1)")),
        ("C", Value::text("red")),
        ("X", Value::text("expression(1)")),
        ("H", Value::Marked(Mark::Html, Arc::from("<b>x</b>"))),
        ("N", Value::Int(5)),
        ("E", Value::text("")),
    ];
    let values: BTreeMap<String, Value> = values.map(|(n, v)| (n.to_owned(), v)).into();
    Value::Map(Arc::new(values), false)
}

fn render(source: &str, values: &Value) -> String {
    let template = Template::parse(source, &NoFunctions).unwrap();
    let mut out = String::new();
    template
        .render_html(values, &NoFunctions, &Limits::default(), &mut out)
        .unwrap();
    out
}

#[test]
fn values_are_escaped_by_their_place() {
    for (source, want) in [
        (r##"{{.A}}"##, r##"a&lt;b&gt;&amp;&#34;c&#39;&#43;d"##),
        (
            r##"<p title="{{.A}}">{{.A}}</p>"##,
            r##"<p title="a&lt;b&gt;&amp;&#34;c&#39;&#43;d">a&lt;b&gt;&amp;&#34;c&#39;&#43;d</p>"##,
        ),
        (
            r##"<a href="{{.U}}">x</a>"##,
            r##"<a href="http://h/x%20y?q=1&amp;z=%3c">x</a>"##,
        ),
        (r##"<a href="{{.J}}">"##, r##"<a href="#ZgotmplZ">"##),
        (
            r##"<a href="/p?x={{.A}}&y={{.U}}">"##,
            r##"<a href="/p?x=a%3cb%3e%26%22c%27%2bd&y=http%3a%2f%2fh%2fx%20y%3fq%3d1%26z%3d%3c">"##,
        ),
        (
            r##"<a href='{{.U}}/{{.A}}'>"##,
            r##"<a href='http://h/x%20y?q=1&amp;z=%3c/a%3cb%3e&amp;%22c%27&#43;d'>"##,
        ),
        (
            r##"<p style="color: {{.C}}; a: {{.X}}">"##,
            r##"<p style="color: red; a: ZgotmplZ">"##,
        ),
        (r##"<!-- {{.A}} c -->y<br>"##, r##"y<br>"##),
        (
            r##"a < b {{.A}}"##,
            r##"a &lt; b a&lt;b&gt;&amp;&#34;c&#39;&#43;d"##,
        ),
        (
            r##"<title>{{.A}}</title>"##,
            r##"<title>a&lt;b&gt;&amp;&#34;c&#39;&#43;d</title>"##,
        ),
        (
            r##"<p class={{.A}}>"##,
            r##"<p class=a&lt;b&gt;&amp;&#34;c&#39;&#43;d>"##,
        ),
        (
            r##"{{.H}} <p title="{{.H}}">"##,
            r##"<b>x</b> <p title="x">"##,
        ),
        (
            r##"<script>var x = {{.A}}; var n = {{.N}};</script>{{.A}}"##,
            r##"<script>var x = "a\u003cb\u003e\u0026\"c'+d"; var n =  5 ;</script>a&lt;b&gt;&amp;&#34;c&#39;&#43;d"##,
        ),
        (
            r##"<p onclick="f({{.A}})">"##,
            r##"<p onclick="f(&#34;a\u003cb\u003e\u0026\&#34;c&#39;&#43;d&#34;)">"##,
        ),
        (
            r##"<a href="{{.U | urlquery}}">{{.A | html}}</a>"##,
            r##"<a href="http%3A%2F%2Fh%2Fx&#43;y%3Fq%3D1%26z%3D%3C">a&lt;b&gt;&amp;&#34;c&#39;+d</a>"##,
        ),
        (
            r##"<a href="/x?r={{.A | urlquery}}">"##,
            r##"<a href="/x?r=a%3Cb%3E%26%22c%27%2Bd">"##,
        ),
        (
            r##"<!DOCTYPE html><html xmlns="{{.U}}"><p title='{{.A}}' {{.C}}="x">"##,
            r##"<!DOCTYPE html><html xmlns="http://h/x%20y?q=1&amp;z=%3c"><p title='a&lt;b&gt;&amp;&#34;c&#39;&#43;d' red="x">"##,
        ),
        (
            r##"<style>a{color: {{.C}}}</style>"##,
            r##"<style>a{color: red}</style>"##,
        ),
        (
            r##"<a data-url="{{.J}}" src=x{{.C}}>"##,
            r##"<a data-url="#ZgotmplZ" src=xred>"##,
        ),
        (
            r##"<textarea>{{.H}}</textarea>"##,
            r##"<textarea>&lt;b&gt;x&lt;/b&gt;</textarea>"##,
        ),
        (
            r##"<script>var x = "{{.A}}";</script>"##,
            r##"<script>var x = "a\u003cb\u003e\u0026\u0022c\u0027\u002bd";</script>"##,
        ),
        (r##"x{{.Missing}}y"##, r##"xy"##),
    ] {
        assert_eq!(render(source, &values()), want, "{source}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered_and_no_value_opens_a_tag(
        before in "[<>a-z/=\"' !-]{0,20}",
        value in "[<>&\"'a:%+ ]{0,12}",
    ) {
        let values = Value::texts([("v", value)]);
        let out = render(&format!("{before}{{{{.v}}}}"), &values);
        let plain = render(&before, &values);
        prop_assert!(out.matches('<').count() <= plain.matches('<').count(), "{out}");
    }
}
