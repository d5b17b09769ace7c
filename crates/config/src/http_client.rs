//! How to speak HTTP to a target: who we are, whom we trust, which headers go along.
//!
//! The same settings stand in scrape jobs and in discovery, flat among their other fields, so
//! that [`http_settings!`] adds them to the struct that reads either.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::error::{Located, Problem};
use crate::secret::{Secret, SecretSource};
use crate::tls::TlsVersion;
use crate::url::scheme_and_host;

/// Headers that a user cannot set, since the client does.
pub(crate) const RESERVED_HEADERS: [&str; 14] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
];
/// One more, which a scrape sets.
const SCRAPE_TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// Checked settings of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpClient {
    /// What goes into the `Authorization` header.
    pub auth: Option<Auth>,
    /// Whom to trust, and which certificate to show.
    pub tls: TlsClient,
    /// Further headers.
    pub headers: Vec<Header>,
    /// Whether a redirect is followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 may be spoken.
    pub enable_http2: bool,
    /// Settings that are read but not obeyed yet (`oauth2`, `proxy_url`).
    pub unsupported: Vec<&'static str>,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self {
            auth: None,
            tls: TlsClient::default(),
            headers: Vec::new(),
            follow_redirects: true,
            enable_http2: true,
            unsupported: Vec::new(),
        }
    }
}

/// What goes into the `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `Basic`, from user and password.
    Basic {
        /// The user; none is the empty name.
        username: Option<SecretSource>,
        /// The password; none is the empty one.
        password: Option<SecretSource>,
    },
    /// A scheme with credentials.
    Token {
        /// `Bearer` unless the file says otherwise.
        scheme: String,
        /// What follows the scheme; a file's text is trimmed before it is used.
        credentials: SecretSource,
    },
}

/// The client's side of TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsClient {
    /// PEM with the authorities to trust; none: the system's.
    pub authorities: Option<SecretSource>,
    /// PEM with certificate and key to show.
    pub identity: Option<(SecretSource, SecretSource)>,
    /// The name that the server's certificate must have, if not the address's.
    pub server_name: Option<String>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
    /// The oldest version spoken.
    pub min_version: Option<TlsVersion>,
    /// The newest version spoken.
    pub max_version: Option<TlsVersion>,
}

/// A header with all its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: String,
    /// The values in order.
    pub values: Vec<SecretSource>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BasicAuthFields {
    username: Option<Secret>,
    username_file: Option<PathBuf>,
    username_ref: Option<String>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    password_ref: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthorizationFields {
    #[serde(rename = "type")]
    scheme: Option<String>,
    credentials: Option<Secret>,
    credentials_file: Option<PathBuf>,
    credentials_ref: Option<String>,
}

/// The client's side of TLS as it stands in a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFields {
    ca: Option<Secret>,
    ca_file: Option<PathBuf>,
    ca_ref: Option<String>,
    cert: Option<Secret>,
    cert_file: Option<PathBuf>,
    cert_ref: Option<String>,
    key: Option<Secret>,
    key_file: Option<PathBuf>,
    key_ref: Option<String>,
    server_name: Option<String>,
    insecure_skip_verify: Option<bool>,
    min_version: Option<TlsVersion>,
    max_version: Option<TlsVersion>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderFields {
    values: Option<Vec<String>>,
    secrets: Option<Vec<Secret>>,
    files: Option<Vec<PathBuf>>,
}

/// The settings as they stand in a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct HttpFields {
    pub basic_auth: Option<Spanned<BasicAuthFields>>,
    pub authorization: Option<Spanned<AuthorizationFields>>,
    pub oauth2: Option<OAuth2Fields>,
    pub bearer_token: Option<Secret>,
    pub bearer_token_file: Option<PathBuf>,
    pub tls_config: Option<Spanned<TlsFields>>,
    pub http_headers: Option<Spanned<BTreeMap<String, HeaderFields>>>,
    pub follow_redirects: Option<bool>,
    pub enable_http2: Option<bool>,
    pub proxy_url: Option<String>,
    pub no_proxy: Option<String>,
    pub proxy_from_environment: Option<bool>,
    pub proxy_connect_header: Option<Value>,
}

/// Adds the fields of [`HttpFields`] to a struct, and a method that takes them out.
macro_rules! http_settings {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($body:tt)* }) => {
        $(#[$meta])*
        $vis struct $name {
            $($body)*
            basic_auth: Option<serde_saphyr::Spanned<crate::http_client::BasicAuthFields>>,
            authorization: Option<serde_saphyr::Spanned<crate::http_client::AuthorizationFields>>,
            oauth2: Option<crate::http_client::OAuth2Fields>,
            bearer_token: Option<crate::secret::Secret>,
            bearer_token_file: Option<std::path::PathBuf>,
            tls_config: Option<serde_saphyr::Spanned<crate::http_client::TlsFields>>,
            http_headers: Option<serde_saphyr::Spanned<
                std::collections::BTreeMap<String, crate::http_client::HeaderFields>>>,
            follow_redirects: Option<bool>,
            enable_http2: Option<bool>,
            proxy_url: Option<String>,
            no_proxy: Option<String>,
            proxy_from_environment: Option<bool>,
            proxy_connect_header: Option<serde_json::Value>,
        }

        impl $name {
            fn http_fields(&mut self) -> crate::http_client::HttpFields {
                crate::http_client::HttpFields {
                    basic_auth: self.basic_auth.take(),
                    authorization: self.authorization.take(),
                    oauth2: self.oauth2.take(),
                    bearer_token: self.bearer_token.take(),
                    bearer_token_file: self.bearer_token_file.take(),
                    tls_config: self.tls_config.take(),
                    http_headers: self.http_headers.take(),
                    follow_redirects: self.follow_redirects,
                    enable_http2: self.enable_http2,
                    proxy_url: self.proxy_url.take(),
                    no_proxy: self.no_proxy.take(),
                    proxy_from_environment: self.proxy_from_environment,
                    proxy_connect_header: self.proxy_connect_header.take(),
                }
            }
        }
    };
}
pub(crate) use http_settings;

impl TlsFields {
    /// Checks the settings of an item that starts on `line`; paths are relative to `dir`.
    pub fn check(self, line: u64, dir: &Path) -> Result<TlsClient, Located> {
        let mut unsupported = Vec::new();
        let tls = tls_client(line, self, dir, &mut unsupported)?;
        refuse(line, &unsupported)?;
        Ok(tls)
    }
}

http_settings! {
    /// The settings as an item of their own (`http_config`).
    #[derive(Debug, Clone, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct HttpSettings {}
}

impl HttpSettings {
    /// Whether `authorization` is set.
    pub fn has_authorization(&self) -> bool {
        self.authorization.is_some()
    }

    /// Checks the settings of an item that starts on `line`; paths are relative to `dir`.
    /// What is not supported is refused.
    pub fn check(mut self, line: u64, dir: &Path) -> Result<HttpClient, Located> {
        let client = self.http_fields().check(line, dir)?;
        refuse(line, &client.unsupported)?;
        Ok(client)
    }
}

fn refuse(line: u64, unsupported: &[&'static str]) -> Result<(), Located> {
    match unsupported.first() {
        None => Ok(()),
        Some(field) => {
            let problem = Problem::Setting(format!("{field} is not supported here"));
            Err(Located::new(line, problem))
        }
    }
}

impl HttpFields {
    /// The names of the settings that are given and say something else than is so anyway.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        let has_text = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        [
            ("basic_auth", self.basic_auth.is_some()),
            ("authorization", self.authorization.is_some()),
            ("oauth2", self.oauth2.is_some()),
            ("bearer_token", self.has_bearer_token()),
            ("bearer_token_file", self.has_bearer_token_file()),
            ("tls_config", self.tls_config.is_some()),
            ("http_headers", self.http_headers.is_some()),
            ("follow_redirects", self.follow_redirects == Some(false)),
            ("enable_http2", self.enable_http2 == Some(false)),
            ("proxy_url", has_text(&self.proxy_url)),
            ("no_proxy", has_text(&self.no_proxy)),
            (
                "proxy_from_environment",
                self.proxy_from_environment == Some(true),
            ),
            ("proxy_connect_header", self.proxy_connect_header.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }

    fn has_bearer_token(&self) -> bool {
        is_given(self.bearer_token.as_ref())
    }

    fn has_bearer_token_file(&self) -> bool {
        is_named(self.bearer_token_file.as_ref())
    }

    /// Checks the settings of an item that starts on `line`; paths are relative to `dir`.
    pub(crate) fn check(self, line: u64, dir: &Path) -> Result<HttpClient, Located> {
        let mut unsupported = Vec::new();
        for (field, is_set) in [
            ("oauth2", self.oauth2.is_some()),
            ("proxy_url", self.proxy_url.is_some()),
            ("no_proxy", self.no_proxy.is_some()),
            (
                "proxy_from_environment",
                self.proxy_from_environment == Some(true),
            ),
            ("proxy_connect_header", self.proxy_connect_header.is_some()),
        ] {
            if is_set {
                unsupported.push(field);
            }
        }
        let ways = [
            ("basic_auth", self.basic_auth.is_some()),
            ("authorization", self.authorization.is_some()),
            ("oauth2", self.oauth2.is_some()),
            ("bearer_token", self.has_bearer_token()),
            ("bearer_token_file", self.has_bearer_token_file()),
        ];
        exclusive(line, &ways)?;
        if let Some(oauth2) = &self.oauth2 {
            oauth2.check(line)?;
        }
        self.check_proxy(line)?;
        let auth = if let Some(basic) = self.basic_auth {
            Some(basic_auth(basic, dir, &mut unsupported)?)
        } else if let Some(authorization) = self.authorization {
            token_auth(authorization, dir, &mut unsupported)?
        } else {
            SecretSource::one_of(self.bearer_token, self.bearer_token_file, dir).map(
                |credentials| Auth::Token {
                    scheme: "Bearer".to_owned(),
                    credentials,
                },
            )
        };
        let tls = match self.tls_config {
            Some(tls) => tls_client(tls.referenced.line(), tls.value, dir, &mut unsupported)?,
            None => TlsClient::default(),
        };
        let headers = match self.http_headers {
            Some(headers) => headers_of(headers, dir)?,
            None => Vec::new(),
        };
        Ok(HttpClient {
            auth,
            tls,
            headers,
            follow_redirects: self.follow_redirects.unwrap_or(true),
            enable_http2: self.enable_http2.unwrap_or(true),
            unsupported,
        })
    }
}

/// Whether a secret is given and not empty.
fn is_given(secret: Option<&Secret>) -> bool {
    secret.is_some_and(|secret| !secret.expose().is_empty())
}

/// Whether a file is given and not the empty name.
fn is_named(file: Option<&PathBuf>) -> bool {
    file.is_some_and(|file| !file.as_os_str().is_empty())
}

fn is_text(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

impl HttpFields {
    fn check_proxy(&self, line: u64) -> Result<(), Located> {
        let (has_url, has_except) = (
            is_text(self.proxy_url.as_ref()),
            is_text(self.no_proxy.as_ref()),
        );
        let is_from_environment = self.proxy_from_environment == Some(true);
        let has_header = self.proxy_connect_header.as_ref();
        let has_header =
            has_header.is_some_and(|header| header.as_object().is_some_and(|h| !h.is_empty()));
        check_url(line, "proxy_url", self.proxy_url.as_deref())?;
        let wrong = if has_header && !is_from_environment && !has_url {
            "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured"
        } else if is_from_environment && has_url {
            "if proxy_from_environment is configured, proxy_url must not be configured"
        } else if is_from_environment && has_except {
            "if proxy_from_environment is configured, no_proxy must not be configured"
        } else if has_except && !has_url {
            "if no_proxy is configured, proxy_url must also be configured"
        } else {
            return Ok(());
        };
        Err(Located::new(line, Problem::Yaml(wrong.to_owned())))
    }
}

/// Refuses what is no address.
pub(crate) fn check_url(line: u64, field: &'static str, text: Option<&str>) -> Result<(), Located> {
    match text {
        Some(text) if scheme_and_host(text).is_none() => {
            let problem = Problem::Value {
                field,
                value: text.to_owned(),
                allowed: "an address like http://host:9090/path",
            };
            Err(Located::new(line, problem))
        }
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OAuth2Fields {
    client_id: Option<String>,
    client_secret: Option<Secret>,
    client_secret_file: Option<PathBuf>,
    client_secret_ref: Option<String>,
    client_certificate_key_id: Option<Value>,
    client_certificate_key: Option<Secret>,
    client_certificate_key_file: Option<PathBuf>,
    client_certificate_key_ref: Option<String>,
    grant_type: Option<String>,
    signature_algorithm: Option<String>,
    iss: Option<Value>,
    audience: Option<Value>,
    claims: Option<Value>,
    scopes: Option<Vec<String>>,
    token_url: Option<String>,
    endpoint_params: Option<BTreeMap<String, String>>,
    tls_config: Option<Spanned<TlsFields>>,
    proxy_url: Option<String>,
    no_proxy: Option<String>,
    proxy_from_environment: Option<bool>,
    proxy_connect_header: Option<Value>,
}

impl OAuth2Fields {
    fn check(&self, line: u64) -> Result<(), Located> {
        let wrong = |text: &str| Err(Located::new(line, Problem::Yaml(text.to_owned())));
        // What is checked where a token is asked for.
        let _ = (
            &self.client_certificate_key_id,
            &self.iss,
            &self.audience,
            &self.claims,
            &self.scopes,
            &self.endpoint_params,
        );
        if !is_text(self.client_id.as_ref()) {
            return wrong("oauth2 client_id must be configured");
        }
        if !is_text(self.token_url.as_ref()) {
            return wrong("oauth2 token_url must be configured");
        }
        if self.grant_type.as_deref() == Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
            exclusive(
                line,
                &[
                    (
                        "client_certificate_key",
                        is_given(self.client_certificate_key.as_ref()),
                    ),
                    (
                        "client_certificate_key_file",
                        is_named(self.client_certificate_key_file.as_ref()),
                    ),
                    (
                        "client_certificate_key_ref",
                        is_text(self.client_certificate_key_ref.as_ref()),
                    ),
                ],
            )?;
            let known = ["", "RS256", "RS384", "RS512"];
            if !known.contains(&self.signature_algorithm.as_deref().unwrap_or("")) {
                return wrong("valid signature algorithms are RS256, RS384 and RS512");
            }
        } else {
            exclusive(
                line,
                &[
                    (
                        "oauth2 client_secret",
                        is_given(self.client_secret.as_ref()),
                    ),
                    (
                        "oauth2 client_secret_file",
                        is_named(self.client_secret_file.as_ref()),
                    ),
                    (
                        "oauth2 client_secret_ref",
                        is_text(self.client_secret_ref.as_ref()),
                    ),
                ],
            )?;
        }
        let mut unsupported = Vec::new();
        if let Some(tls) = &self.tls_config {
            tls_client(
                tls.referenced.line(),
                tls.value.clone(),
                Path::new(""),
                &mut unsupported,
            )?;
        }
        let proxy = HttpFields {
            proxy_url: self.proxy_url.clone(),
            no_proxy: self.no_proxy.clone(),
            proxy_from_environment: self.proxy_from_environment,
            proxy_connect_header: self.proxy_connect_header.clone(),
            ..HttpFields::default()
        };
        proxy.check_proxy(line)
    }
}

/// Refuses two of a list of settings that exclude each other.
pub(crate) fn exclusive(line: u64, ways: &[(&'static str, bool)]) -> Result<(), Located> {
    let mut set = ways.iter().filter(|(_, is_set)| *is_set);
    match (set.next(), set.next()) {
        (Some((first, _)), Some((second, _))) => {
            Err(Located::new(line, Problem::Both { first, second }))
        }
        _ => Ok(()),
    }
}

fn basic_auth(
    basic: Spanned<BasicAuthFields>,
    dir: &Path,
    unsupported: &mut Vec<&'static str>,
) -> Result<Auth, Located> {
    let (line, basic) = (basic.referenced.line(), basic.value);
    exclusive(
        line,
        &[
            ("username", is_given(basic.username.as_ref())),
            ("username_file", is_named(basic.username_file.as_ref())),
            ("username_ref", is_text(basic.username_ref.as_ref())),
        ],
    )?;
    exclusive(
        line,
        &[
            ("password", is_given(basic.password.as_ref())),
            ("password_file", is_named(basic.password_file.as_ref())),
            ("password_ref", is_text(basic.password_ref.as_ref())),
        ],
    )?;
    if basic.username_ref.is_some() || basic.password_ref.is_some() {
        unsupported.push("basic_auth by reference");
    }
    Ok(Auth::Basic {
        username: SecretSource::one_of(basic.username, basic.username_file, dir),
        password: SecretSource::one_of(basic.password, basic.password_file, dir),
    })
}

fn token_auth(
    authorization: Spanned<AuthorizationFields>,
    dir: &Path,
    unsupported: &mut Vec<&'static str>,
) -> Result<Option<Auth>, Located> {
    let (line, fields) = (authorization.referenced.line(), authorization.value);
    exclusive(
        line,
        &[
            ("credentials", is_given(fields.credentials.as_ref())),
            (
                "credentials_file",
                is_named(fields.credentials_file.as_ref()),
            ),
            ("credentials_ref", is_text(fields.credentials_ref.as_ref())),
        ],
    )?;
    if fields.credentials_ref.is_some() {
        unsupported.push("credentials_ref");
    }
    let scheme = fields.scheme.unwrap_or_default().trim().to_owned();
    if scheme.eq_ignore_ascii_case("basic") {
        let problem = Problem::Value {
            field: "authorization.type",
            value: scheme,
            allowed: "use basic_auth for it",
        };
        return Err(Located::new(line, problem));
    }
    let scheme = if scheme.is_empty() {
        "Bearer".to_owned()
    } else {
        scheme
    };
    let credentials = SecretSource::one_of(fields.credentials, fields.credentials_file, dir);
    Ok(credentials.map(|credentials| Auth::Token {
        scheme,
        credentials,
    }))
}

fn tls_client(
    line: u64,
    tls: TlsFields,
    dir: &Path,
    unsupported: &mut Vec<&'static str>,
) -> Result<TlsClient, Located> {
    exclusive(
        line,
        &[("ca", tls.ca.is_some()), ("ca_file", tls.ca_file.is_some())],
    )?;
    exclusive(
        line,
        &[
            ("cert", tls.cert.is_some()),
            ("cert_file", tls.cert_file.is_some()),
        ],
    )?;
    exclusive(
        line,
        &[
            ("key", tls.key.is_some()),
            ("key_file", tls.key_file.is_some()),
        ],
    )?;
    let by_reference = tls.ca_ref.is_some() || tls.cert_ref.is_some() || tls.key_ref.is_some();
    if by_reference {
        unsupported.push("tls_config by reference");
    }
    let cert = SecretSource::one_of(tls.cert, tls.cert_file, dir);
    let key = SecretSource::one_of(tls.key, tls.key_file, dir);
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(_), None) if !by_reference => {
            return Err(Located::new(
                line,
                Problem::Missing("key or key_file beside cert"),
            ));
        }
        (None, Some(_)) if !by_reference => {
            return Err(Located::new(
                line,
                Problem::Missing("cert or cert_file beside key"),
            ));
        }
        _ => None,
    };
    Ok(TlsClient {
        authorities: SecretSource::one_of(tls.ca, tls.ca_file, dir),
        identity,
        server_name: tls.server_name.filter(|n| !n.is_empty()),
        insecure_skip_verify: tls.insecure_skip_verify.unwrap_or(false),
        min_version: tls.min_version,
        max_version: tls.max_version,
    })
}

fn headers_of(
    headers: Spanned<BTreeMap<String, HeaderFields>>,
    dir: &Path,
) -> Result<Vec<Header>, Located> {
    let line = headers.referenced.line();
    let mut checked = Vec::with_capacity(headers.value.len());
    for (name, fields) in headers.value {
        let mut reserved = RESERVED_HEADERS.iter().chain([&SCRAPE_TIMEOUT_HEADER]);
        if reserved.any(|r| r.eq_ignore_ascii_case(&name)) {
            let problem = Problem::Value {
                field: "http_headers",
                value: name,
                allowed: "the client sets this header itself",
            };
            return Err(Located::new(line, problem));
        }
        let inline = fields
            .values
            .unwrap_or_default()
            .into_iter()
            .map(Secret::new);
        let inline = inline
            .chain(fields.secrets.unwrap_or_default())
            .map(SecretSource::Inline);
        let files = fields.files.unwrap_or_default().into_iter();
        let values = inline
            .chain(files.map(|f| SecretSource::File(dir.join(f))))
            .collect();
        checked.push(Header { name, values });
    }
    Ok(checked)
}
