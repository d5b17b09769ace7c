//! The built-in Alertmanager as its users meet it: amtool, a mail server, a receiver that takes
//! notes, and a killed server.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Api, PATIENCE, Random, Server, built, free_address, oracle, says, wait_for};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A server with a configuration of its Alertmanager.
fn server(dir: &Path, config: &str) -> Server {
    let file = dir.join("alertmanager.yml");
    std::fs::write(&file, config).unwrap();
    let flag = format!("--alertmanager.config.file={}", file.display());
    Server::start(dir, None, &[&flag])
}

fn alertmanager(server: &Server) -> Api {
    Api {
        base: format!("{}/alertmanager", server.api().base),
    }
}

#[test]
fn amtool_asks_and_silences() {
    let Some(amtool) = oracle("amtool") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = "route:\n  receiver: a\n  routes:\n  - matchers: [team=db]\n    receiver: b\n\
                  receivers:\n- name: a\n- name: b\n  webhook_configs:\n  - url: http://127.0.0.1:9/hidden\n\
                  inhibit_rules:\n- source_matchers: [a=b]\n  target_matchers: [c=d]\n";
    let mut server = server(dir.path(), config);
    let file = dir.path().join("alertmanager.yml").display().to_string();
    let url = format!("--alertmanager.url={}", alertmanager(&server).base);
    let run = |words: &[&str]| says(Command::new(&amtool).arg(&url).args(words));
    run(&[
        "alert",
        "add",
        "Slow",
        "team=db",
        "--annotation=summary=very",
    ]);
    run(&["alert", "add", "alertname=Full", "müll.x=1"]);
    let said = run(&["alert", "query", "-o", "extended"]);
    assert!(
        said.contains("Slow") && said.contains("summary=\"very\""),
        "{said}"
    );
    let said = run(&["alert", "query", "team=~d.*", "-o", "json"]);
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found[0]["receivers"], json!([{ "name": "b" }]), "{said}");
    assert_eq!(found.as_array().unwrap().len(), 1, "{said}");
    let id = run(&["silence", "add", "-a", "me", "-c", "why", "alertname=Slow"]);
    let id = id.trim();
    assert!(!run(&["alert", "query"]).contains("Slow"));
    assert!(run(&["alert", "query", "--silenced"]).contains("Slow"));
    run(&["silence", "update", "-d", "3h", "-c", "longer", id]);
    let said = run(&["silence", "query"]);
    assert!(said.contains(id) && said.contains("longer"), "{said}");
    run(&["silence", "expire", id]);
    assert!(!run(&["silence", "query"]).contains(id));
    assert!(run(&["silence", "query", "--expired"]).contains(id));
    let said = run(&["config", "show"]);
    assert!(
        said.contains("<secret>") && !said.contains("hidden"),
        "{said}"
    );
    let said = run(&["config", "routes", "test", "team=db"]);
    assert_eq!(said.trim(), "b");
    assert!(run(&["config", "routes"]).contains("receiver: b"));
    // It finds in a file what we find.
    let theirs = says(Command::new(&amtool).args(["check-config", &file]));
    let ours = says(Command::new(built("kittiwake")).args(["check", "alerts", &file]));
    for line in theirs.lines().filter(|line| line.starts_with(" - ")) {
        assert!(ours.contains(line), "{line} in {ours}");
    }
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}

#[test]
fn a_wrong_file_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.yml");
    for (text, wanted) in [
        (
            "route:\n  receiver: a\n",
            "wrong.yml:2: undefined receiver \"a\"",
        ),
        (
            "route:\n  receiver: a\nreceivers:\n- name: a\n  webhook_configs:\n  - uri: http://x\n",
            "wrong.yml:6: unknown field `uri`",
        ),
        (
            "route:\n  receiver: a\nreceivers:\n- name: a\n  slack_configs:\n  - channel: c\n",
            "wrong.yml:6: no Slack API URL",
        ),
        (
            "route:\n  receiver: a\n  routes:\n  - receiver: a\n    matchers: ['a=~(']\nreceivers: [{name: a}]\n",
            "wrong.yml:4: ",
        ),
        (
            "global:\n  http_config:\n    proxy_url: http://x\nroute: {receiver: a}\nreceivers: [{name: a}]\n",
            "proxy_url is not supported",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let flag = format!("--alertmanager.config.file={}", file.display());
        for flags in [
            vec!["check", "alerts", file.to_str().unwrap()],
            vec![
                flag.as_str(),
                "--no-collector",
                "--storage.path",
                dir.path().to_str().unwrap(),
                "--web.listen-address",
                "127.0.0.1:0",
            ],
        ] {
            let out = Server::run(&flags);
            let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
            assert!(
                !out.status.success() && said.contains(wanted),
                "{wanted} in {said}"
            );
        }
    }
}

/// What a receiver was sent, and when.
type Notes = Arc<Mutex<Vec<(Instant, Value)>>>;

/// A receiver that takes a while to answer and notes what it answered.
fn receiver() -> (String, Notes) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let notes = Notes::default();
    let shared = Arc::clone(&notes);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let notes = Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                let mut reader = BufReader::new(stream);
                loop {
                    let mut len = 0;
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        let line = line.to_ascii_lowercase();
                        if let Some(value) = line.strip_prefix("content-length:") {
                            len = value.trim().parse().unwrap();
                        }
                        if line.trim().is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; len];
                    if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                    let body = serde_json::from_slice(&body).unwrap();
                    notes.lock().unwrap().push((Instant::now(), body));
                    // The other side may have been killed.
                    let _ = writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                }
            });
        }
    });
    (url, notes)
}

/// Kills unless `KILLS` says otherwise.
const KILLS: usize = 5;
/// What was answered this long before a kill may not have been noted.
const IN_FLIGHT: Duration = Duration::from_millis(300);

#[test]
fn a_killed_server_loses_no_alert_and_no_silence_and_repeats_only_what_was_in_flight() {
    let (url, notes) = receiver();
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "route:\n  receiver: a\n  group_by: [alertname]\n  group_wait: 200ms\n  group_interval: 1s\n  \
         repeat_interval: 24h\nreceivers:\n- name: a\n  webhook_configs:\n  - url: {url}\n"
    );
    let mut server = server(dir.path(), &config);
    let api = alertmanager(&server);
    let kills = std::env::var("KILLS").ok().and_then(|k| k.parse().ok());
    let mut random = Random::new();
    let (mut silences, mut alerts, mut killed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..kills.unwrap_or(KILLS) {
        for number in 0..5 {
            let name = format!("A{round}-{number}");
            let labels = json!({ "alertname": name, "round": round.to_string() });
            // Longer than the test takes, and told once.
            let alert = json!([{ "labels": labels, "endsAt": "2100-01-01T00:00:00Z" }]);
            let answer = api.post("/api/v2/alerts", &JSON, alert.to_string().as_bytes());
            assert_eq!(answer.unwrap().status, 200);
            alerts.push(name);
            let silence = json!({
                "matchers": [{ "name": "none", "value": format!("{round}-{number}"), "isRegex": false }],
                "startsAt": "2020-01-01T00:00:00Z",
                "endsAt": "2100-01-01T00:00:00Z",
                "createdBy": "me",
                "comment": "",
            });
            let answer = api.post("/api/v2/silences", &JSON, silence.to_string().as_bytes());
            silences.push(
                answer.unwrap().json()["silenceID"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        std::thread::sleep(Duration::from_millis(random.below(600)));
        server.program.kill();
        killed.push(Instant::now());
        server.restart();
    }
    for id in &silences {
        let answer = api.get(&format!("/api/v2/silence/{id}"), &[]).unwrap();
        assert_eq!(answer.status, 200, "silence {id} is lost");
        assert_eq!(answer.json()["status"]["state"], "active");
    }
    let told = || {
        let mut told: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
        for (at, note) in notes.lock().unwrap().iter() {
            let name = note["groupLabels"]["alertname"]
                .as_str()
                .unwrap()
                .to_owned();
            told.entry(name).or_default().push(*at);
        }
        told
    };
    wait_for("all alerts to be told of", || {
        let told = told();
        alerts
            .iter()
            .all(|name| told.contains_key(name))
            .then_some(())
    });
    // What would be told twice is told by now.
    std::thread::sleep(Duration::from_secs(3));
    for (name, times) in told() {
        let last = times.len() - 1;
        for at in &times[..last] {
            let in_flight = killed.iter().any(|kill| {
                kill.checked_duration_since(*at)
                    .is_some_and(|d| d < IN_FLIGHT)
                    || at > kill && at.duration_since(*kill) < IN_FLIGHT
            });
            assert!(in_flight, "{name} was told again though it had been taken");
        }
    }
    server.program.assert_quiet(&[]);
}

/// The mail server, and what it prints.
struct Mail(Child, Receiver<String>);

impl Mail {
    fn start(python: &Path, dir: &Path, port: &str) -> Self {
        says(Command::new("openssl").current_dir(dir).args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ]));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/smtp.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(port)
            .args([dir.join("cert.pem"), dir.join("key.pem")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (said, heard) = mpsc::channel();
        // It ends with the program.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        let mail = Self(child, heard);
        assert_eq!(mail.line(), "ready");
        mail
    }

    fn line(&self) -> String {
        let line = self.1.recv_timeout(PATIENCE);
        line.expect("the mail server says nothing")
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_mail_server_takes_mails_over_tls_with_a_password() {
    let Some(python) = oracle("python-clients") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let port = address.rsplit(':').next().unwrap();
    let mail = Mail::start(&python, dir.path(), port);
    let secret = dir.path().join("password");
    std::fs::write(&secret, "secret\n").unwrap();
    let config = format!(
        "global:\n  smtp_smarthost: localhost:{port}\n  smtp_from: Kittiwake <from@example.org>\n  \
         smtp_auth_username: user\n  smtp_auth_password_file: {}\n  smtp_hello: here.example\n  \
         smtp_tls_config: {{ca_file: {}}}\n\
         route: {{receiver: a, group_wait: 100ms, group_by: [alertname]}}\n\
         receivers:\n- name: a\n  email_configs:\n  - to: 'one@example.org, \"Two, B\" <two@example.org>'\n    \
         text: '{{{{ .Status }}}} {{{{ .CommonAnnotations.summary }}}}'\n    \
         headers: {{x-Kind: 'grün {{{{ .Status }}}}'}}\n    threading: {{enabled: true, thread_by_date: none}}\n",
        secret.display(),
        dir.path().join("cert.pem").display()
    );
    let server = server(dir.path(), &config);
    let summary = "Grüße & <b>bold</b>\n.a line with a dot";
    let alert = json!([{
        "labels": { "alertname": "Größe <x>", "instance": "i" },
        "annotations": { "summary": summary },
        "generatorURL": "http://p/?a=1&b=2",
    }]);
    let answer = alertmanager(&server).post("/api/v2/alerts", &JSON, alert.to_string().as_bytes());
    assert_eq!(answer.unwrap().status, 200);
    let got: Value = serde_json::from_str(&mail.line()).unwrap();
    assert_eq!(got["from"], "from@example.org");
    assert_eq!(got["to"], json!(["one@example.org", "two@example.org"]));
    assert_eq!(got["hello"], "here.example");
    assert_eq!(got["tls"], true);
    let login = got["login"].as_str().unwrap();
    assert!(["PLAIN user", "LOGIN user"].contains(&login), "{login}");
    let headers = &got["headers"];
    assert_eq!(headers["Subject"], "[FIRING:1] Größe <x> (i)");
    assert_eq!(headers["X-Kind"], "grün firing");
    assert_eq!(headers["References"], headers["In-Reply-To"]);
    let text = got["parts"]["text/plain"].as_str().unwrap();
    let text = text.replace("\r\n", "\n");
    assert_eq!(text.trim_end(), format!("firing {summary}"));
    let html = got["parts"]["text/html"].as_str().unwrap();
    for wanted in [
        "<title>[FIRING:1] Größe &lt;x&gt; (i)</title>",
        "alertname = Größe &lt;x&gt;<br>",
        "summary = Grüße &amp; &lt;b&gt;bold&lt;/b&gt;",
        "href=\"http://p/?a=1&amp;b=2\"",
        "/alertmanager/#/alerts?receiver=a\"",
    ] {
        assert!(html.contains(wanted), "{wanted} in {html}");
    }
    server.program.assert_quiet(&[]);
}
