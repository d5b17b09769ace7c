//! `ip("…")`: an address, a range of them or a network, looked for in a text.

use std::net::IpAddr;

/// Addresses from the first to the last, as numbers, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpMatcher {
    is_v6: bool,
    first: u128,
    last: u128,
}

fn number(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (false, u128::from(u32::from(ip))),
        IpAddr::V6(ip) => (true, u128::from(ip)),
    }
}

impl IpMatcher {
    /// Reads `192.168.0.1`, `192.168.0.1-192.168.0.23` or `192.168.0.0/16`.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let invalid = || format!("ip: invalid pattern: {pattern:?}");
        let parse = |text: &str| text.parse::<IpAddr>().map(number).map_err(|_| invalid());
        if let Some((ip, bits)) = pattern.split_once('/') {
            let (is_v6, ip) = parse(ip)?;
            let width: u32 = if is_v6 { 128 } else { 32 };
            let bits: u32 = bits.parse().map_err(|_| invalid())?;
            let host = width.checked_sub(bits).ok_or_else(invalid)?;
            let mask = if host == 128 {
                u128::MAX
            } else {
                (1_u128 << host) - 1
            };
            return Ok(Self {
                is_v6,
                first: ip & !mask,
                last: ip | mask,
            });
        }
        let (from, to) = pattern.split_once('-').unwrap_or((pattern, pattern));
        let ((is_v6, first), (also_v6, last)) = (parse(from.trim())?, parse(to.trim())?);
        if is_v6 != also_v6 || first > last {
            return Err(invalid());
        }
        Ok(Self { is_v6, first, last })
    }

    fn contains(&self, text: &str) -> bool {
        text.parse::<IpAddr>().is_ok_and(|ip| {
            let (is_v6, ip) = number(ip);
            is_v6 == self.is_v6 && (self.first..=self.last).contains(&ip)
        })
    }

    /// Whether one of the addresses stands in a text.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let is_hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
        let is = |i: usize, wanted: u8| bytes.get(i) == Some(&wanted);
        let mut at = 0;
        while at < bytes.len() {
            let starts_v4 = bytes[at].is_ascii_digit()
                && at + 3 < bytes.len()
                && (1..4).any(|i| is(at + i, b'.'));
            let starts_v6 = is(at, b':') && is(at + 1, b':') && is_hex(at + 2)
                || (1..5).any(|len| (0..len).all(|i| is_hex(at + i)) && is(at + len, b':'));
            if !starts_v4 && !starts_v6 {
                at += 1;
                continue;
            }
            let fits = |b: &u8| {
                b.is_ascii_digit()
                    || *b == b'.'
                    || !starts_v4 && (b.is_ascii_hexdigit() || *b == b':')
            };
            let len = bytes[at..].iter().take_while(|b| fits(b)).count();
            if self.contains(&text[at..at + len]) {
                return true;
            }
            at += len + 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_addresses() {
        for (pattern, text, want) in [
            ("192.168.0.0/16", "from 192.168.4.5:80", true),
            ("192.168.0.0/16", "from 10.0.0.1", false),
            ("10.0.0.1-10.0.0.9", "10.0.0.7", true),
            ("::1", "at ::1 now", true),
            ("2001:db8::/32", "[2001:db8::5]:80", true),
            ("1.2.3.4", "1.2.3.45", false),
            ("1.2.3.4", "é1.2.3.4", true),
        ] {
            assert_eq!(
                IpMatcher::new(pattern).unwrap().is_in(text),
                want,
                "{pattern} {text}"
            );
        }
        assert!(IpMatcher::new("nope").is_err());
        assert!(IpMatcher::new("1.2.3.4/33").is_err());
    }
}
