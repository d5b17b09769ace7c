//! A result that is altered in one place must not pass.

use kittiwake_promqltest::{Memory, run};
use regex::Regex;

/// An evaluation and the lines below it, each altered once.
fn alterations(eval: &str, block: &[String]) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = Vec::new();
    let mut alter = |index: usize, line: String| {
        let mut altered = vec![eval.to_owned()];
        altered.extend(block.iter().cloned());
        altered[index + 1] = line;
        all.push(altered);
    };
    let is_directive = |line: &String| line.trim_start().starts_with("expect");
    for (index, line) in block.iter().enumerate() {
        let line = line.trim();
        if let Some(altered) = annotation(line) {
            alter(index, altered);
        } else if !is_directive(&block[index]) {
            alter(index, value(line));
            if line.contains(['{', ' ']) {
                alter(index, label(line));
            }
        }
    }
    let is_ordered = eval.starts_with("eval_ordered")
        || block.iter().any(|line| line.trim() == "expect ordered");
    let series: Vec<usize> = (0..block.len())
        .filter(|i| !is_directive(&block[*i]))
        .collect();
    if is_ordered && let [first, second, ..] = series[..] {
        let mut swapped = vec![eval.to_owned()];
        swapped.extend(block.iter().cloned());
        swapped.swap(first + 1, second + 1);
        all.push(swapped);
    }
    if all.is_empty() {
        // Nothing is expected: then something is.
        let mut more = vec![eval.to_owned()];
        more.extend(block.iter().cloned());
        more.push("{altered=\"x\"} 1".to_owned());
        if !block.iter().any(|line| line.trim() == "expect fail") && !eval.starts_with("eval_fail")
        {
            all.push(more);
        }
    }
    all
}

/// An expected failure or annotation that is none.
fn annotation(line: &str) -> Option<String> {
    let other = match line.split_once(':') {
        Some((head @ ("expect warn msg" | "expect info msg" | "expect fail msg"), _)) => {
            format!("{head}: something else")
        }
        Some((head @ ("expect warn regex" | "expect info regex" | "expect fail regex"), _)) => {
            format!("{head}: ^something else$")
        }
        _ => match line {
            "expect no_warn" => "expect warn".to_owned(),
            "expect no_info" => "expect info".to_owned(),
            "expect warn" => "expect no_warn".to_owned(),
            "expect info" => "expect no_info".to_owned(),
            "expect fail" => "expect fail msg: something else".to_owned(),
            line => {
                let text = line.strip_prefix("expect string ")?.trim();
                let (head, quote) = text.split_at(text.len() - 1);
                format!("expect string {head}!{quote}")
            }
        },
    };
    Some(other)
}

/// Where the values of a series begin.
fn values_start(line: &str) -> usize {
    let series = Regex::new(r#"^[^\s{]*(\{(?:[^"'`}]|"(?:[^"\\]|\\.)*"|'[^']*'|`[^`]*`)*\})?\s*"#);
    let found = series.unwrap().find(line).map_or(0, |found| found.end());
    // A number alone is a scalar.
    if found == line.len() { 0 } else { found }
}

fn value(line: &str) -> String {
    let start = values_start(line);
    let (head, values) = line.split_at(start);
    if values.contains("{{") {
        let count = Regex::new(r"count:-?[\d.e+]+").unwrap();
        return if count.is_match(values) {
            format!("{head}{}", count.replace(values, "count:77777"))
        } else {
            format!("{head}{}", values.replacen("{{", "{{count:77777 ", 1))
        };
    }
    // The first value that is not left out.
    let first = Regex::new(r"(?:^|\s)([^\s_]\S*)").unwrap();
    let Some(found) = first.captures(values).and_then(|c| c.get(1)) else {
        return format!("{head}{}", values.replacen('_', "77777", 1));
    };
    let times = found
        .as_str()
        .rsplit_once('x')
        .map(|(_, times)| format!("x{times}"));
    let other = format!("77777.5{}", times.unwrap_or_default());
    format!(
        "{head}{}{other}{}",
        &values[..found.start()],
        &values[found.end()..]
    )
}

fn label(line: &str) -> String {
    let (head, values) = line.split_at(values_start(line));
    let head = head.trim_end();
    let head = match head.split_once('{') {
        Some((name, labels)) => format!("{name}{{altered=\"x\",{labels}"),
        None => format!("{head}{{altered=\"x\"}}"),
    };
    format!("{head} {values}")
}

#[test]
fn no_altered_case_passes() {
    let Some(scripts) = super::conformance() else {
        return;
    };
    let mut cases = 0;
    for (file, text) in scripts {
        let mut altered = String::new();
        let mut wanted = 0;
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if !line.trim_start().starts_with("eval") {
                altered.push_str(line);
                altered.push('\n');
                continue;
            }
            let mut block = Vec::new();
            while let Some(next) = lines.next_if(|next| {
                let next = next.trim();
                !next.is_empty() && !next.starts_with('#')
            }) {
                block.push(next.to_owned());
            }
            for case in alterations(line.trim(), &block) {
                altered.push('\n');
                altered.push_str(&case.join("\n"));
                altered.push_str("\n\n");
                wanted += 1;
            }
        }
        let outcome = run(&file, &altered, &mut Memory::default());
        if outcome.passed > 0 {
            let path = std::env::temp_dir().join("kittiwake-altered.test");
            std::fs::write(&path, &altered).unwrap();
        }
        assert_eq!(
            outcome.passed,
            0,
            "{}: some altered cases pass",
            file.display()
        );
        assert_eq!(outcome.failures.len(), wanted, "{}", file.display());
        cases += wanted;
    }
    assert!(cases > 1000, "{cases}");
}
