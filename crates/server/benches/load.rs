//! What a sample and a line cost the whole server, from the socket to the disk: CPU of its
//! process, memory and bytes on disk. `cargo bench -p kittiwake-server` runs it whole; under
//! `cargo test` it is small and only shows that it works.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kittiwake_model::Labels;
use kittiwake_wire::loki_push::PushEncoder;
use kittiwake_wire::remote_write::RequestEncoder;

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(storage: &Path) -> Self {
        // Free a moment ago; nothing else on the machine asks for ports meanwhile.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_kittiwake"))
            .args([
                "--no-collector",
                "--storage.retention.time",
                "0",
                "--log.level",
                "warn",
            ])
            .args(["--web.listen-address", &address.to_string()])
            .arg("--storage.path")
            .arg(storage)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "no answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            process,
            address: address.to_string(),
        }
    }

    /// CPU in seconds and resident MiB.
    fn usage(&self) -> (f64, f64) {
        let id = self.process.id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let fields: Vec<f64> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .skip(1)
            .map(|f| f.parse().unwrap_or(0.0))
            .collect();
        // Ticks of 10 ms, pages of 4 KiB.
        ((fields[10] + fields[11]) / 100.0, fields[20] / 256.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One connection that is kept.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    fn post(&mut self, path: &str, headers: &str, body: &[u8]) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(head.as_bytes()).unwrap();
        self.0.get_mut().write_all(body).unwrap();
        let (mut status, mut len) = (String::new(), 0);
        self.0.read_line(&mut status).unwrap();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; len];
        self.0.read_exact(&mut answer).unwrap();
        assert!(
            status.contains("204"),
            "{status} {}",
            String::from_utf8_lossy(&answer)
        );
    }
}

fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    entries
        .map(|e| {
            let meta = e.metadata().unwrap();
            if meta.is_dir() {
                disk_bytes(&e.path())
            } else {
                meta.len()
            }
        })
        .sum()
}

fn main() {
    let is_bench = std::env::args().any(|a| a == "--bench");
    let (series, scrapes, requests) = if is_bench {
        (10_000, 600, 1500)
    } else {
        (50, 3, 3)
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut client = Client::connect(&server.address);

    let sets: Vec<Labels> = (0..series)
        .map(|i| {
            let name = format!("container_metric_{}_total", i % 50);
            let container = format!("shop-service-{}", i / 50);
            let id = format!("/docker/{:064x}", i / 50);
            Labels::from_pairs([
                ("__name__", name.as_str()),
                ("container", &container),
                ("name", &container),
                ("id", &id),
                ("image", "registry.example/shop/service:1.2.3"),
                ("host", "node-1"),
                ("instance", "node-1"),
                ("job", "cadvisor"),
                ("compose_project", "shop"),
            ])
            .unwrap()
        })
        .collect();
    let (before, _) = server.usage();
    let mut encoder = RequestEncoder::new();
    for scrape in 0..scrapes {
        for (chunk, sets) in sets.chunks(2000).enumerate() {
            for (i, set) in sets.iter().enumerate() {
                let value = (scrape * (chunk * 2000 + i)) as f64;
                encoder.series(set, [(1_790_000_000_000 + scrape as i64 * 15_000, value)]);
            }
            let body = encoder.finish().unwrap();
            client.post("/api/v1/write", "Content-Encoding: snappy\r\n", &body);
        }
    }
    let samples = (series * scrapes) as f64;
    let settle = || std::thread::sleep(Duration::from_secs(if is_bench { 10 } else { 0 }));
    settle();
    let (after, resident) = server.usage();
    println!(
        "remote write: {samples:.0} samples, {:.2} us CPU/sample, {:.2} B/sample, {resident:.0} MiB resident",
        (after - before) * 1e6 / samples,
        disk_bytes(&dir.path().join("metrics")) as f64 / samples,
    );

    let streams: Vec<Labels> = (0..50)
        .map(|i| {
            let name = format!("shop-service-{i}");
            Labels::from_pairs([
                ("container", name.as_str()),
                ("host", "node-1"),
                ("stream", "stdout"),
            ])
            .unwrap()
        })
        .collect();
    let (before, _) = server.usage();
    let (mut encoder, none, mut text_bytes) = (PushEncoder::new(), Labels::empty(), 0);
    for request in 0..requests {
        let lines: Vec<(i64, String)> = (0..1000_u64)
            .map(|i| {
                let n = request as u64 * 1000 + i;
                let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let line = format!("level=info msg=\"request done\" method=GET path=/api/v1/items/{} status=200 duration={}us trace={id:016x}", n % 5000, id % 90_000);
                (1_790_000_000_000_000_000 + n as i64 * 1_000_000, line)
            })
            .collect();
        text_bytes += lines.iter().map(|(_, l)| l.len()).sum::<usize>();
        encoder.stream(
            &streams[request % streams.len()],
            lines.iter().map(|(t, l)| (*t, l.as_str(), &none)),
        );
        client.post("/loki/api/v1/push", "", &encoder.finish().unwrap());
    }
    settle();
    let (after, resident) = server.usage();
    let lines = (requests * 1000) as f64;
    println!(
        "Loki push: {lines:.0} lines of {:.0} B, {:.2} us CPU/line, {:.1} B/line, {resident:.0} MiB resident",
        text_bytes as f64 / lines,
        (after - before) * 1e6 / lines,
        disk_bytes(&dir.path().join("logs")) as f64 / lines,
    );
}
