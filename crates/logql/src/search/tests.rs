use proptest::prelude::*;

use super::*;

fn entry(line: &str) -> Entry {
    Entry {
        time_ns: 0,
        line: line.to_owned(),
        metadata: Labels::from_pairs([("trace_id", "7f"), ("detected_level", "warn")]).unwrap(),
    }
}

fn stream() -> Labels {
    Labels::from_pairs([("container", "web-1"), ("path", "/a b")]).unwrap()
}

/// The same by what a store does and what is left.
fn finds(query: &str, line: &str) -> bool {
    let search = Search::parse(query).unwrap();
    let (filters, is_all) = search.filters();
    let passes = filters.iter().all(|filter| filter.accepts(line));
    let accepts = search.accepts(&stream(), &entry(line));
    assert!(passes || !accepts, "{query}: a store would drop {line:?}");
    assert!(!is_all || passes == accepts, "{query} on {line:?}");
    accepts
}

#[test]
fn words_phrases_and_exclusions() {
    let line = "2026 ERROR connection to db-1 refused (a.b) \"x\"";
    for (query, want) in [
        ("", true),
        ("error refused", true),
        ("error accepted", false),
        ("\"connection to\"", true),
        ("\"to connection\"", false),
        ("-debug error", true),
        ("-error", false),
        ("-\"db-1 refused\"", false),
        ("NOT error", false),
        ("a.b", true),
        ("a.c", false),
        ("2026", true),
        ("\"\\\"x\\\"\"", true),
        ("-", true),
        ("*", true),
        ("conn*ion", true),
        ("error*refused", false),
        ("debug OR error", true),
        ("debug OR info", false),
        ("error AND (debug OR refused)", true),
        ("error -(debug OR refused)", false),
        ("/db-[0-9] ref/", true),
        ("/DB-[0-9]/", false),
        ("(a.b)", true),
    ] {
        assert_eq!(finds(query, line), want, "{query}");
    }
    assert!(finds("f(x) http://a/b", "call f(x) of HTTP://a/b"));
    assert!(finds("/var/log 12:30", "12:30:05 opened /var/log/x"));
}

#[test]
fn fields_of_labels_metadata_and_lines() {
    let json = r#"{"status":503,"took":"1.7s","size":"3KB","user":{"name":"Bob"},"level":"error"}"#;
    for (query, want) in [
        ("container:web-1", true),
        ("container:WEB-*", true),
        ("container:web", false),
        ("path:\"/a b\"", true),
        ("trace_id:7f", true),
        ("trace_id:*", true),
        ("span_id:*", false),
        ("-span_id:*", true),
        ("status:503", true),
        ("status:>500", true),
        ("status:>=503", true),
        ("status:<503", false),
        ("status:>1s", false),
        ("took:>1.5s", true),
        ("took:<1m", true),
        ("size:<10KB", true),
        ("user.name:bob", true),
        ("user_name:/^B/", true),
        ("level:error", true),
        ("level:warn", false),
        ("(status:404 OR status:503) took:*", true),
    ] {
        assert_eq!(finds(query, json), want, "{query}");
    }
    assert!(finds("level:warn", "no level here"));
    assert!(finds("status:>400 msg:\"a b\"", "status=404 msg=\"a b\""));
}

#[test]
fn what_makes_no_sense_is_told_with_its_place() {
    for (query, at) in [
        ("a \"b", 3),
        ("é (a OR b", 3),
        ("a OR", 5),
        ("OR a", 1),
        ("a )", 0),
        ("(a) b) c", 0),
        ("()", 2),
        ("a status:>x", 11),
        ("a /(/", 3),
        ("b:/[/", 3),
        ("NOT", 4),
    ] {
        match Search::parse(query) {
            Ok(_) => assert_eq!(at, 0, "{query}"),
            Err(error) => assert_eq!(error.at, at, "{query}: {error}"),
        }
    }
    assert!(Search::parse(&"a ".repeat(100)).is_err());
    assert!(Search::parse(&"(".repeat(100)).is_err());
    assert!(Search::parse(&"-".repeat(10_000)).is_err());
}

#[test]
fn what_was_searched_for_is_marked_as_browsers_count() {
    let marks = |query: &str, line: &str| Search::parse(query).unwrap().marks(line);
    assert_eq!(marks("error", "😀 Error, error"), [(3, 8), (10, 15)]);
    assert_eq!(marks("abc bcd -x", "abcd x"), [(0, 4)]);
    assert_eq!(marks("level:error a", "b"), []);
}

proptest! {
    #[test]
    fn any_text_is_searched_or_refused(query in "\\PC{0,40}", line in "\\PC{0,40}") {
        if let Ok(search) = Search::parse(&query) {
            search.accepts(&stream(), &entry(&line));
            for (start, end) in search.marks(&line) {
                prop_assert!(start < end && end <= line.encode_utf16().count());
            }
        }
    }

    #[test]
    fn a_store_drops_no_line_that_is_found(
        query in "[ab:*/()\"-]{0,6}( (OR|AND|NOT) )?[ab ()\"-]{0,6}",
        line in "[abAB=:/ ]{0,12}",
    ) {
        if Search::parse(&query).is_ok() {
            finds(&query, &line);
        }
    }
}
