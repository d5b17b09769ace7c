//! Scalars as Alertmanager's file writes them.

use std::time::Duration;

use kittiwake_config::parse_duration;
use kittiwake_model::duration;
use serde::{Deserialize, Deserializer, de};

/// A duration as Prometheus writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(pub Duration);

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(de::Error::custom)
    }
}

/// A duration as Go writes it: `1.5s`, `1h30m`, `100ms`; `0` needs no unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(pub Duration);

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        go_duration(&text).map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "{text:?} is no duration: write numbers with units h, m, s, ms, like 10s or 1m30s"
            ))
        })
    }
}

/// Reads a duration that is not negative as Go writes it.
pub fn go_duration(text: &str) -> Option<Duration> {
    let ns = duration::parse(text).ok()?;
    u64::try_from(ns).ok().map(Duration::from_nanos)
}

/// An address of `http` or `https`.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

/// What a secret is shown as, and what is read back as one.
const SHOWN: &str = "<secret>";

impl Url {
    /// Checks an address.
    pub fn new(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"));
        let Some(rest) = rest else {
            let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
            return Err(format!("unsupported scheme {scheme:?} for URL"));
        };
        if rest.is_empty() || rest.starts_with(['/', '?', '#']) {
            return Err("missing host for URL".to_owned());
        }
        text.parse::<hyper::Uri>()
            .map_err(|e| format!("no URL: {e}"))?;
        Ok(Self(text.to_owned()))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, Option<&str>) {
        match self.0.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.0, None),
        }
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        let (path, _) = self.parts();
        let after = path.split_once("://").map_or(path, |(_, rest)| rest);
        after.find('/').map_or("", |at| &after[at..])
    }

    /// The host with its port.
    pub fn host(&self) -> &str {
        let (path, _) = self.parts();
        let after = path.split_once("://").map_or(path, |(_, rest)| rest);
        after.split('/').next().unwrap_or_default()
    }

    /// With a path that ends in `/`.
    #[must_use]
    pub fn with_slash(self) -> Self {
        let (path, query) = self.parts();
        if path.ends_with('/') && !self.path().is_empty() {
            return self;
        }
        Self(joined(&format!("{path}/"), query))
    }

    /// With text put behind its path, and parameters behind its query.
    #[must_use]
    pub fn with(&self, tail: &str, parameters: &[(&str, &str)]) -> String {
        let (path, query) = self.parts();
        let mut query = query.unwrap_or_default().to_owned();
        for (name, value) in parameters {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(&kittiwake_template::urlquery(name));
            query.push('=');
            query.push_str(&kittiwake_template::urlquery(value));
        }
        joined(
            &format!("{path}{tail}"),
            Some(query.as_str()).filter(|q| !q.is_empty()),
        )
    }

    /// With further parts of a path.
    #[must_use]
    pub fn join(&self, tail: &str) -> String {
        let (path, query) = self.parts();
        let path = path.trim_end_matches('/');
        joined(&format!("{path}/{}", tail.trim_start_matches('/')), query)
    }
}

fn joined(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(SHOWN)
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

/// An address that is a secret: errors do not show it, and `<secret>` is read as one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretUrl(pub Url);

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == SHOWN {
            return Ok(Self(Url(text)));
        }
        Url::new(&text).map(Self).map_err(de::Error::custom)
    }
}

/// `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host.
    pub host: String,
    /// The port.
    pub port: String,
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let split = text.rsplit_once(':');
        let Some((host, port)) = split else {
            return Err(de::Error::custom(format!(
                "address {text:?}: missing port; write host:port"
            )));
        };
        if port.is_empty() {
            return Err(de::Error::custom(format!(
                "address {text:?}: port cannot be empty"
            )));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            host: host.to_owned(),
            port: port.to_owned(),
        })
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_put_together() {
        let url = Url::new("http://h:1/a?b=c").unwrap();
        assert_eq!(url.join("/d/e"), "http://h:1/a/d/e?b=c");
        assert_eq!(url.with("x", &[("k", "v w")]), "http://h:1/ax?b=c&k=v+w");
        assert_eq!((url.path(), url.host()), ("/a", "h:1"));
        let url = Url::new("http://h").unwrap().with_slash();
        assert_eq!(url.as_str(), "http://h/");
        assert_eq!(url.clone().with_slash(), url);
        for bad in ["ftp://h", "h", "http://", "http:///x", "http://a b/"] {
            assert!(Url::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_of_go() {
        for (text, ms) in [
            ("0", 0),
            ("1.5s", 1500),
            ("1h1m", 3_660_000),
            ("100ms", 100),
        ] {
            assert_eq!(go_duration(text).unwrap().as_millis(), ms, "{text}");
        }
        for bad in ["", "1", "s", "1d", "-1s", "1..s"] {
            assert!(go_duration(bad).is_none(), "{bad}");
        }
    }
}
