//! Addresses, as far as a configuration is checked for them.

/// Scheme and host of an address, empty where it has none; nothing for what is no address.
pub(crate) fn scheme_and_host(text: &str) -> Option<(&str, &str)> {
    let is_bad = |c: char| c.is_ascii_control() || c == ' ';
    if text.chars().any(is_bad) {
        return None;
    }
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    let before_path = text.split(['/', '?', '#']).next().unwrap_or("");
    let (scheme, rest) = match text.split_once(':') {
        Some(("", _)) => return None,
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        // A colon before the first slash, and what stands before it is no scheme.
        Some((scheme, _)) if before_path.len() > scheme.len() => return None,
        _ => ("", text),
    };
    let Some(rest) = rest.strip_prefix("//") else {
        return Some((scheme, ""));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if host.starts_with('[') {
        let end = host.find(']')?;
        let port = host.get(end + 1..)?;
        return is_port(port).then_some((scheme, host));
    }
    let port = host.find(':').map_or("", |at| &host[at..]);
    let is_host = |host: &str| !host.contains(['<', '>', '"', '\\', '^', '`', '{', '|', '}']);
    (is_port(port) && is_host(host)).then_some((scheme, host))
}

fn is_port(port: &str) -> bool {
    match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        assert_eq!(scheme_and_host("http://a:1/b"), Some(("http", "a:1")));
        assert_eq!(scheme_and_host("a/b"), Some(("", "")));
        assert_eq!(scheme_and_host("https://"), Some(("https", "")));
        assert_eq!(
            scheme_and_host("http://u:p@[::1]:9/"),
            Some(("http", "[::1]:9"))
        );
        assert_eq!(scheme_and_host("unix:///run/x"), Some(("unix", "")));
        for bad in [
            ":",
            "://a",
            "http://a:b",
            "http://a b",
            "1a:b",
            "http://[::1",
        ] {
            assert_eq!(scheme_and_host(bad), None, "{bad}");
        }
    }
}
