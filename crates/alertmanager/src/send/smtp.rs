//! Handing a mail to a server (RFC 5321), with TLS from the start on port 465 or by STARTTLS, and
//! with the ways to authenticate that Alertmanager has: CRAM-MD5, PLAIN and LOGIN.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::hmac::{hex, hmac};
use super::{Failure, Sent};

/// Bytes of a line of an answer.
const LINE_BYTES_MAX: u64 = 4096;
/// Lines of an answer.
const LINES_MAX: usize = 100;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How to reach a server and who asks.
pub(super) struct Account<'a> {
    pub host: &'a str,
    pub port: &'a str,
    pub hello: &'a str,
    pub require_tls: bool,
    pub tls: Arc<rustls::ClientConfig>,
    /// The name that the certificate must have.
    pub tls_name: &'a str,
    pub username: &'a str,
    pub password: Sent<String>,
    pub secret: &'a str,
    pub identity: &'a str,
}

/// An open conversation.
pub(super) struct Conversation {
    stream: BufReader<Box<dyn Stream>>,
    is_encrypted: bool,
    extensions: Vec<String>,
}

fn broken(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::passing(format!("{what}: {error}"))
}

async fn encrypt(account: &Account<'_>, stream: Box<dyn Stream>) -> Sent<Box<dyn Stream>> {
    let name = ServerName::try_from(account.tls_name.to_owned());
    let name = name.map_err(|e| broken("tls_config", e))?;
    let connector = TlsConnector::from(Arc::clone(&account.tls));
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|e| broken("establish TLS connection to server", e))?;
    Ok(Box::new(stream))
}

impl Conversation {
    /// Connects, says hello, encrypts and authenticates as it is asked to.
    pub(super) async fn open(account: &Account<'_>) -> Sent<Self> {
        let port: u16 = account
            .port
            .parse()
            .map_err(|_| Failure::lasting(format!("port {:?} is no number", account.port)))?;
        let stream = TcpStream::connect((account.host, port)).await;
        let stream = stream.map_err(|e| broken("establish connection to server", e))?;
        let mut stream: Box<dyn Stream> = Box::new(stream);
        let is_encrypted = port == 465;
        if is_encrypted {
            stream = encrypt(account, stream).await?;
        }
        let mut it = Self {
            stream: BufReader::new(stream),
            is_encrypted,
            extensions: Vec::new(),
        };
        it.expect("greeting", 220).await?;
        it.hello(account).await?;
        if account.require_tls && !it.is_encrypted {
            it = it.start_tls(account).await?;
        }
        it.authenticate(account).await?;
        Ok(it)
    }

    async fn start_tls(mut self, account: &Account<'_>) -> Sent<Self> {
        if self.extension("STARTTLS").is_none() {
            return Err(Failure::passing(format!(
                "'require_tls' is true (default) but \"{}:{}\" does not advertise the STARTTLS extension",
                account.host, account.port
            )));
        }
        self.ask("STARTTLS", 220).await?;
        if !self.stream.buffer().is_empty() {
            // What came before the encryption must not count after it.
            return Err(Failure::passing("the server spoke before TLS was there"));
        }
        let stream = encrypt(account, self.stream.into_inner()).await?;
        let mut it = Self {
            stream: BufReader::new(stream),
            is_encrypted: true,
            extensions: Vec::new(),
        };
        it.hello(account).await?;
        Ok(it)
    }

    async fn hello(&mut self, account: &Account<'_>) -> Sent {
        if account.hello.contains(|c: char| c.is_control() || c == ' ') {
            return Err(Failure::lasting("hello is no name of a host"));
        }
        self.say(&format!("EHLO {}", account.hello)).await?;
        let (code, lines) = self.answer().await?;
        if code == 250 {
            self.extensions = lines.into_iter().skip(1).collect();
            return Ok(());
        }
        self.ask(&format!("HELO {}", account.hello), 250)
            .await
            .map(|_| ())
    }

    /// The parameters of an extension that the server has.
    fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.iter().find_map(|line| {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            word.eq_ignore_ascii_case(name).then_some(rest)
        })
    }

    async fn authenticate(&mut self, account: &Account<'_>) -> Sent {
        let Some(mechanisms) = self.extension("AUTH").map(str::to_ascii_uppercase) else {
            return Ok(());
        };
        if account.username.is_empty() {
            return Ok(());
        }
        let mut problems = Vec::new();
        for mechanism in mechanisms.split_whitespace() {
            if mechanism == "CRAM-MD5" {
                if account.secret.is_empty() {
                    problems.push("missing secret for CRAM-MD5 auth mechanism".to_owned());
                    continue;
                }
                return self.cram_md5(account).await;
            }
            if !matches!(mechanism, "PLAIN" | "LOGIN") {
                continue;
            }
            let password = match &account.password {
                Ok(password) if !password.is_empty() => password.clone(),
                Ok(_) => {
                    problems.push(format!("missing password for {mechanism} auth mechanism"));
                    continue;
                }
                Err(failure) => {
                    problems.push(failure.message.clone());
                    continue;
                }
            };
            if mechanism == "LOGIN" {
                return self.login(account, &password).await;
            }
            let is_local = ["localhost", "127.0.0.1", "::1"].contains(&account.host);
            if !self.is_encrypted && !is_local {
                return Err(Failure::passing("PLAIN auth: unencrypted connection"));
            }
            let parts = format!("{}\0{}\0{password}", account.identity, account.username);
            let line = format!("AUTH PLAIN {}", STANDARD.encode(parts));
            return self.ask(&line, 235).await.map(|_| ());
        }
        if problems.is_empty() {
            problems.push(format!("unknown auth mechanism: {mechanisms}"));
        }
        Err(Failure::passing(format!(
            "find auth mechanism: {}",
            problems.join("; ")
        )))
    }

    async fn cram_md5(&mut self, account: &Account<'_>) -> Sent {
        let challenge = self.ask("AUTH CRAM-MD5", 334).await?;
        let challenge = STANDARD.decode(challenge.trim());
        let challenge = challenge.map_err(|e| broken("CRAM-MD5 auth", e))?;
        let digest = hex(&hmac::<md5::Md5>(account.secret.as_bytes(), &challenge));
        let answer = STANDARD.encode(format!("{} {digest}", account.username));
        self.ask(&answer, 235).await.map(|_| ())
    }

    async fn login(&mut self, account: &Account<'_>, password: &str) -> Sent {
        let mut asked = self.ask("AUTH LOGIN", 334).await?;
        for _ in 0..2 {
            let wanted = STANDARD.decode(asked.trim()).unwrap_or_default();
            let wanted = String::from_utf8_lossy(&wanted).to_lowercase();
            // "Username:" mostly, but also "User Name" and the like.
            let (text, code) = if wanted.starts_with("user") {
                (account.username, 334)
            } else if wanted.starts_with("pass") {
                (password, 235)
            } else {
                return Err(Failure::passing("LOGIN auth: unexpected server challenge"));
            };
            asked = self.ask(&STANDARD.encode(text), code).await?;
            if code == 235 {
                return Ok(());
            }
        }
        Err(Failure::passing("LOGIN auth: unexpected server challenge"))
    }

    /// Hands over one mail.
    pub(super) async fn send(&mut self, from: &str, to: &[String], message: &str) -> Sent {
        let body = if self.extension("8BITMIME").is_some() {
            " BODY=8BITMIME"
        } else {
            ""
        };
        self.ask(&format!("MAIL FROM:<{from}>{body}"), 250).await?;
        for address in to {
            self.ask(&format!("RCPT TO:<{address}>"), 250).await?;
        }
        self.ask("DATA", 354).await?;
        let mut text = String::with_capacity(message.len() + 16);
        for line in message.split("\r\n") {
            if line.starts_with('.') {
                text.push('.');
            }
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push('.');
        self.ask(&text, 250).await.map(|_| ())
    }

    /// Says goodbye; the mail is delivered already.
    pub(super) async fn quit(&mut self) {
        if let Err(failure) = self.ask("QUIT", 221).await {
            tracing::debug!(error = %failure, "the SMTP connection ended without a goodbye");
        }
    }

    async fn say(&mut self, line: &str) -> Sent {
        let mut bytes = line.as_bytes().to_vec();
        bytes.extend_from_slice(b"\r\n");
        let done = self.stream.get_mut().write_all(&bytes).await;
        done.map_err(|e| broken("write to the server", e))?;
        let done = self.stream.get_mut().flush().await;
        done.map_err(|e| broken("write to the server", e))
    }

    async fn ask(&mut self, line: &str, wanted: u16) -> Sent<String> {
        self.say(line).await?;
        // What was said may hold a password: its first word tells enough.
        let what = line.split([' ', '\r']).next().unwrap_or_default();
        let what = if matches!(
            what,
            "EHLO" | "HELO" | "STARTTLS" | "AUTH" | "MAIL" | "RCPT" | "DATA" | "QUIT"
        ) {
            format!("{what} command")
        } else {
            "delivery".to_owned()
        };
        self.expect(&what, wanted).await
    }

    /// The text of the answer, if it has this code.
    async fn expect(&mut self, what: &str, wanted: u16) -> Sent<String> {
        let (code, lines) = self.answer().await?;
        let text = lines.join(" ");
        // 251 is as good as 250: someone is told elsewhere.
        if code == wanted || wanted == 250 && code == 251 {
            Ok(text)
        } else {
            Err(Failure::passing(format!("{what}: {code} {text}")))
        }
    }

    async fn answer(&mut self) -> Sent<(u16, Vec<String>)> {
        let mut lines = Vec::new();
        while lines.len() < LINES_MAX {
            let mut line = Vec::new();
            let mut limited = (&mut self.stream).take(LINE_BYTES_MAX);
            let read = limited.read_until(b'\n', &mut line).await;
            read.map_err(|e| broken("read from the server", e))?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else {
                return Err(Failure::passing(format!(
                    "the server's answer {line:?} has no code"
                )));
            };
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok((code, lines));
            }
        }
        Err(Failure::passing("the server's answer has too many lines"))
    }
}
