//! What a block's encoding costs: CPU in us per line and bytes per line, for encoding, decoding
//! and filters, one thread. `cargo bench -p kittiwake-logstore --bench block` takes lines of
//! its own, `LINES=FILE` those of a file; under `cargo test` it is small and only shows that it
//! works.

#![allow(clippy::unwrap_used)]

use kittiwake_logstore::block::{Encoded, Field, Lines, ROWS_MAX, Reader, Rows, Scratch, encode};
use kittiwake_model::{FieldFormat, LineFilter};

fn main() {
    let is_bench = std::env::args().any(|a| a == "--bench");
    let text = std::env::var("LINES").map(|file| std::fs::read_to_string(file).unwrap());
    let text = text.unwrap_or_else(|_| generated(if is_bench { 200_000 } else { 500 }));
    let mut blocks = vec![Lines::default()];
    for line in text.lines() {
        if blocks.last().unwrap().len() == ROWS_MAX {
            blocks.push(Lines::default());
        }
        blocks.last_mut().unwrap().push(line);
    }
    let lines = blocks.iter().map(Lines::len).sum::<usize>() as f64;
    let per_line = |start: f64| (cpu_seconds() - start) * 1e6 / lines;

    let mut scratch = Scratch::default();
    let mut encoded = Vec::new();
    let (mut bytes, mut heads, mut words, mut hashes) = (0, 0, 0, 0);
    let start = cpu_seconds();
    for block in &blocks {
        let Encoded {
            bytes: content,
            head_bytes,
            tokens,
        } = encode(block, &mut scratch).unwrap();
        bytes += content.len();
        heads += head_bytes;
        words += tokens.words().len();
        hashes += tokens.variable_hashes().len();
        encoded.push((content.to_vec(), head_bytes));
    }
    println!(
        "encode {:.3} us/line, {:.2} B/line ({:.2} in heads), raw {:.1}; {:.1} words a block, {:.2} hashes a line",
        per_line(start),
        bytes as f64 / lines,
        heads as f64 / lines,
        text.len() as f64 / lines,
        words as f64 / blocks.len() as f64,
        hashes as f64 / lines,
    );
    let open = |number: usize| {
        let (content, head_bytes) = &encoded[number];
        let source = content.as_slice();
        Reader::open(source, &content[..*head_bytes], blocks[number].len()).unwrap()
    };
    let start = cpu_seconds();
    for (number, block) in blocks.iter().enumerate() {
        let decoded = open(number).lines().unwrap();
        assert_eq!(decoded.ends.len(), block.ends.len());
        if !is_bench || number == 0 {
            assert!(decoded == *block);
        }
    }
    println!("decode {:.3} us/line", per_line(start));
    let start = cpu_seconds();
    for number in 0..blocks.len() {
        open(number);
    }
    let per_block = (cpu_seconds() - start) * 1e6 / blocks.len() as f64;
    println!("open {per_block:.1} us/block");
    let contains = |text: &str| LineFilter::Contains(vec![text.to_owned()]);
    for filter in [
        contains("ERROR"),
        contains("processed batch"),
        contains("connection reset by peer"),
        contains("needle-77 "),
        contains("u586\""),
        LineFilter::Matches(vec![regex::Regex::new(r"order 10\d+86 ").unwrap()]),
    ] {
        let start = cpu_seconds();
        let mut found = 0;
        for (number, block) in blocks.iter().enumerate() {
            let mut rows = Rows::all(block.len());
            open(number).filter(&filter, &mut rows).unwrap();
            found += rows.count();
        }
        let per_block = (cpu_seconds() - start) * 1e6 / blocks.len() as f64;
        println!("{filter:?}: {found} lines, {per_block:.1} us/block");
    }
    let start = cpu_seconds();
    let mut found = 0;
    for (number, block) in blocks.iter().enumerate() {
        let mut rows = Rows::all(block.len());
        let mut reader = open(number);
        let filter = contains("processed batch");
        reader.filter(&filter, &mut rows).unwrap();
        reader
            .field(FieldFormat::Logfmt, "items", &rows, |_, field| {
                let Field::Value(value) = field else {
                    panic!("{field:?}");
                };
                found += u64::from(value.parse::<f64>().unwrap() > 400.0);
            })
            .unwrap();
    }
    let per_block = (cpu_seconds() - start) * 1e6 / blocks.len() as f64;
    println!("items > 400 of processed batches: {found} lines, {per_block:.1} us/block");
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Lines of four services.
fn generated(lines: u64) -> String {
    let mut text = String::new();
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for number in 0..lines {
        let level = ["info", "info", "info", "warn", "error"][random(5) as usize];
        let seconds = 1_700_000_000 + number / 90;
        let line = match random(4) {
            0 => format!(
                "10.0.{}.{} - - [{seconds}] \"GET /api/v1/items?id={} HTTP/1.1\" 200 {} rt=0.{:03}",
                random(256),
                random(256),
                random(1_000_000),
                random(60_000),
                random(1000)
            ),
            1 => format!(
                "{{\"ts\":{seconds},\"level\":\"{level}\",\"msg\":\"request completed\",\"trace_id\":\"{:016x}{:016x}\",\"user\":\"u{}\"}}",
                random(u64::MAX),
                random(u64::MAX),
                random(50_000)
            ),
            2 => format!(
                "level={level} ts={seconds} caller=worker.go:{} msg=\"processed batch\" items={} took={}ms",
                random(400),
                random(500),
                random(900)
            ),
            _ => format!(
                "{} [thread-{}] com.acme.Orders - processed order {} in {} ms",
                level.to_uppercase(),
                random(32),
                random(1 << 40),
                random(5000)
            ),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}
