//! Who may use the server, and over what: the file that `--web.config.file` names.
//!
//! Prometheus' format (`tls_server_config`, `http_server_config`, `basic_auth_users`), and
//! beside it `tokens`: bearer tokens for collectors and programs, of which the file has only
//! the SHA-256, each with a role.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::error::{ConfigError, Located, Problem, read_file};
use crate::tls::TlsVersion;

/// The checked file.
#[derive(Debug, Clone, Default)]
pub struct WebConfig {
    /// Certificate and key, if TLS is spoken.
    pub tls: Option<TlsServer>,
    /// Further headers of each answer.
    pub headers: BTreeMap<String, String>,
    /// Users and the bcrypt hashes of their passwords. A user may do everything.
    pub users: BTreeMap<String, String>,
    /// Bearer tokens.
    pub tokens: Vec<Token>,
}

/// The server's side of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsServer {
    /// PEM with the certificate and those above it.
    pub cert_file: PathBuf,
    /// PEM with its key.
    pub key_file: PathBuf,
    /// PEM with the authorities of clients' certificates.
    pub client_ca_file: Option<PathBuf>,
    /// Whether a client must show a certificate of these authorities.
    pub requires_client: bool,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is called in logs and in the identity of what it sends.
    pub name: String,
    /// The SHA-256 of the token's text.
    pub sha256: [u8; 32],
    /// What it is good for.
    pub role: Role,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Queries.
    Read,
    /// Remote write, Loki push and their like.
    Write,
    /// What a collector does: writing with numbered frames.
    Agent,
    /// Everything.
    Admin,
}

impl Role {
    /// Whether it may query.
    pub fn may_read(self) -> bool {
        matches!(self, Self::Read | Self::Admin)
    }

    /// Whether it may send data.
    pub fn may_write(self) -> bool {
        matches!(self, Self::Write | Self::Agent | Self::Admin)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebFields {
    tls_server_config: Option<Spanned<TlsFields>>,
    http_server_config: Option<HttpFields>,
    basic_auth_users: Option<Spanned<BTreeMap<String, String>>>,
    tokens: Option<Vec<Spanned<TokenFields>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFields {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    min_version: Option<TlsVersion>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpFields {
    #[allow(dead_code, reason = "known to Prometheus; this server speaks HTTP/1.1")]
    http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFields {
    name: String,
    sha256: String,
    role: Role,
}

impl WebConfig {
    /// Reads and checks a file. Paths in it are relative to its folder.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = read_file(file)?;
        let dir = file.parent().unwrap_or(Path::new(""));
        Self::parse(&text, dir).map_err(|located| located.in_file(file))
    }

    /// Whether it lets in only those whom it names.
    pub fn has_access_rules(&self) -> bool {
        !self.users.is_empty()
            || !self.tokens.is_empty()
            || self.tls.as_ref().is_some_and(|t| t.requires_client)
    }

    fn parse(text: &str, dir: &Path) -> Result<Self, Located> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let fields: WebFields = serde_saphyr::from_str(text)?;
        let mut config = Self::default();
        if let Some(tls) = fields.tls_server_config {
            config.tls = Some(tls_server(tls, dir)?);
        }
        config.headers = fields
            .http_server_config
            .and_then(|h| h.headers)
            .unwrap_or_default();
        if let Some(users) = fields.basic_auth_users {
            let line = users.referenced.line();
            for (name, hash) in users.value {
                let is_bcrypt = hash.len() == 60
                    && ["$2a$", "$2b$", "$2y$"].iter().any(|p| hash.starts_with(p));
                if !is_bcrypt {
                    // The value stays out of the message: it may be the password itself.
                    let problem = Problem::Value {
                        field: "basic_auth_users",
                        value: name,
                        allowed: "the password must be given as its bcrypt hash ($2y$...)",
                    };
                    return Err(Located::new(line, problem));
                }
                config.users.insert(name, hash);
            }
        }
        for token in fields.tokens.unwrap_or_default() {
            let (line, token) = (token.referenced.line(), token.value);
            if token.name.is_empty() {
                return Err(Located::new(line, Problem::Missing("name of a token")));
            }
            if config.tokens.iter().any(|t| t.name == token.name) {
                let problem = Problem::Value {
                    field: "name of a token",
                    value: token.name,
                    allowed: "each token needs a name of its own",
                };
                return Err(Located::new(line, problem));
            }
            let Some(sha256) = hex32(&token.sha256) else {
                let problem = Problem::Value {
                    field: "sha256",
                    value: token.name,
                    allowed: "64 hexadecimal digits, as `printf %s TOKEN | sha256sum` prints",
                };
                return Err(Located::new(line, problem));
            };
            config.tokens.push(Token {
                name: token.name,
                sha256,
                role: token.role,
            });
        }
        Ok(config)
    }
}

fn tls_server(tls: Spanned<TlsFields>, dir: &Path) -> Result<TlsServer, Located> {
    let (line, tls) = (tls.referenced.line(), tls.value);
    let given = |path: Option<PathBuf>| path.filter(|p| !p.as_os_str().is_empty());
    let client_ca_file = given(tls.client_ca_file).map(|p| dir.join(p));
    let auth_type = tls.client_auth_type.unwrap_or_default();
    let requires_client = match auth_type.as_str() {
        "" | "NoClientCert" | "RequestClientCert" | "VerifyClientCertIfGiven" => false,
        "RequireAndVerifyClientCert" => true,
        _ => {
            let problem = Problem::Value {
                field: "client_auth_type",
                value: auth_type,
                allowed: "NoClientCert, RequestClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert",
            };
            return Err(Located::new(line, problem));
        }
    };
    if requires_client && client_ca_file.is_none() {
        return Err(Located::new(line, Problem::Missing("client_ca_file")));
    }
    let missing = |what| Located::new(line, Problem::Missing(what));
    Ok(TlsServer {
        cert_file: dir.join(given(tls.cert_file).ok_or_else(|| missing("cert_file"))?),
        key_file: dir.join(given(tls.key_file).ok_or_else(|| missing("key_file"))?),
        client_ca_file,
        requires_client,
        // Older ones are broken; who asks for them gets the oldest that is not.
        min_version: tls
            .min_version
            .unwrap_or(TlsVersion::Tls12)
            .max(TlsVersion::Tls12),
    })
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$10$abcdefghijklmnopqrstuuJ5lO5lO5lO5lO5lO5lO5lO5lO5lO5lO";

    fn parse(text: &str) -> Result<WebConfig, String> {
        WebConfig::parse(text, Path::new("/etc/kittiwake"))
            .map_err(|e| format!("{}: {}", e.line, e.problem))
    }

    #[test]
    fn users_tokens_and_tls_are_read() {
        let text = format!(
            "tls_server_config:\n  cert_file: web.crt\n  key_file: /k/web.key\nbasic_auth_users:\n  anna: {HASH}\ntokens:\n  - name: node-1\n    sha256: {}\n    role: agent\n",
            "0f".repeat(32)
        );
        let config = parse(&text).unwrap();
        let tls = config.tls.as_ref().unwrap();
        assert_eq!(tls.cert_file, Path::new("/etc/kittiwake/web.crt"));
        assert_eq!(tls.key_file, Path::new("/k/web.key"));
        assert_eq!(config.users["anna"], HASH);
        assert_eq!(config.tokens[0].sha256, [0x0f; 32]);
        assert!(config.tokens[0].role.may_write() && !config.tokens[0].role.may_read());
        assert!(config.has_access_rules());
        assert!(!parse("").unwrap().has_access_rules());
    }

    #[test]
    fn mistakes_name_the_line_and_what_is_allowed() {
        for (text, want) in [
            ("tokns: []\n", "1: "),
            ("basic_auth_users:\n  anna: secret\n", "bcrypt"),
            ("tls_server_config:\n  cert_file: a\n", "key_file"),
            (
                "tokens:\n  - name: x\n    sha256: 12\n    role: agent\n",
                "64 hex",
            ),
            (
                "tokens:\n  - name: x\n    sha256: 12\n    role: boss\n",
                "read",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
