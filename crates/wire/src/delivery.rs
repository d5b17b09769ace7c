//! The headers by which a collector numbers its requests, so that the server stores each
//! frame once. The bodies are the standard ones; a server that does not know the headers
//! passes over them.

use kittiwake_model::delivery::{FrameNumber, Origin, Sender};

/// The agent's lasting identity.
pub const AGENT: &str = "x-kittiwake-agent";
/// The epoch of the agent's journal, 16 hexadecimal digits.
pub const EPOCH: &str = "x-kittiwake-epoch";
/// The frame's sequence in the journal.
pub const SEQUENCE: &str = "x-kittiwake-sequence";
/// The frame's part: its number from 0, and `/last` when no other follows.
pub const PART: &str = "x-kittiwake-part";
/// The oldest sequence that the agent still has.
pub const FIRST: &str = "x-kittiwake-first";
/// All of them.
pub const ALL: [&str; 5] = [AGENT, EPOCH, SEQUENCE, PART, FIRST];

/// Longest agent's identity, in bytes.
const AGENT_BYTES_MAX: usize = 128;

/// A header that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header {name}: {value:?} is not {wanted}")]
pub struct DeliveryError {
    /// The header.
    pub name: &'static str,
    /// Its value; empty when it is missing.
    pub value: String,
    /// What it should be.
    pub wanted: &'static str,
}

/// Reads the headers of a request; `None` when it is not numbered. `token` is the name by
/// which the sender was let in.
pub fn parse<'a>(
    get: impl Fn(&str) -> Option<&'a str>,
    token: &str,
) -> Result<Option<Origin>, DeliveryError> {
    let Some(agent) = get(AGENT) else {
        return Ok(None);
    };
    let error = |name, value: &str, wanted| DeliveryError {
        name,
        value: value.chars().take(64).collect(),
        wanted,
    };
    if agent.is_empty() || agent.len() > AGENT_BYTES_MAX {
        return Err(error(AGENT, agent, "1 to 128 bytes"));
    }
    let value = |name| get(name).unwrap_or("");
    let number = |name| {
        let text = value(name);
        text.parse::<u64>()
            .map_err(|_| error(name, text, "a whole number"))
    };
    let epoch = value(EPOCH);
    let part = value(PART);
    let (digits, is_last) = match part.strip_suffix("/last") {
        Some(digits) => (digits, true),
        None => (part, false),
    };
    Ok(Some(Origin {
        sender: Sender {
            token: token.to_owned(),
            agent: agent.to_owned(),
            epoch: u64::from_str_radix(epoch, 16)
                .map_err(|_| error(EPOCH, epoch, "a hexadecimal number"))?,
        },
        frame: FrameNumber {
            sequence: number(SEQUENCE)?,
            part: digits
                .parse()
                .map_err(|_| error(PART, part, "a number, or a number and /last"))?,
            is_last,
        },
        first: number(FIRST)?,
    }))
}

/// The headers of a request, as names and values.
pub fn headers(
    agent: &str,
    epoch: u64,
    frame: FrameNumber,
    first: u64,
) -> [(&'static str, String); 5] {
    let last = if frame.is_last { "/last" } else { "" };
    [
        (AGENT, agent.to_owned()),
        (EPOCH, format!("{epoch:016x}")),
        (SEQUENCE, frame.sequence.to_string()),
        (PART, format!("{}{last}", frame.part)),
        (FIRST, first.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_mistakes_are_named() {
        for is_last in [true, false] {
            let frame = FrameNumber {
                sequence: 77,
                part: 3,
                is_last,
            };
            let sent = headers("node-1", 0xabc, frame, 70);
            let get = |name: &str| {
                let found = sent.iter().find(|(n, _)| *n == name);
                found.map(|(_, v)| v.as_str())
            };
            let origin = parse(get, "t").unwrap().unwrap();
            assert_eq!(origin.frame, frame);
            assert_eq!((origin.first, origin.sender.epoch), (70, 0xabc));
            assert_eq!(origin.sender.token, "t");
            for name in [EPOCH, SEQUENCE, PART, FIRST] {
                let without = |n: &str| if n == name { Some("x") } else { get(n) };
                assert_eq!(parse(without, "t").unwrap_err().name, name);
            }
        }
        assert_eq!(parse(|_| None, "t").unwrap(), None);
    }
}
