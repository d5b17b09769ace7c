//! How long things are kept: the flags of retention.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kittiwake_config::{parse_duration, parse_size};
use kittiwake_model::Matcher;
use kittiwake_promql::parse_selector;

/// How long metrics and logs are kept.
#[derive(Debug, Clone, Args)]
pub struct Retention {
    /// How long metrics and logs are kept; 0 keeps all
    #[arg(
        id = "retention_time",
        long = "storage.retention.time",
        value_name = "DURATION",
        default_value = "30d"
    )]
    pub time: String,

    /// Bytes of metrics that are kept at most, like 50GB; the oldest go. 0 keeps all
    #[arg(
        id = "retention_size",
        long = "storage.retention.size",
        value_name = "SIZE",
        default_value = "0"
    )]
    pub size: String,

    /// How long metrics of an age beyond --storage.retention.time are kept at a resolution of 5
    /// minutes; 0 keeps none
    #[arg(
        id = "retention_5m",
        long = "storage.retention.5m",
        value_name = "DURATION",
        default_value = "0"
    )]
    pub five_minutes: String,

    /// As --storage.retention.5m, at a resolution of an hour, for what is older still
    #[arg(
        id = "retention_1h",
        long = "storage.retention.1h",
        value_name = "DURATION",
        default_value = "0"
    )]
    pub one_hour: String,

    /// Series that are kept for less long than others, like '{job="debug"}:3d'; may be repeated
    #[arg(
        id = "retention_series",
        long = "storage.retention.series",
        value_name = "SELECTOR:DURATION"
    )]
    pub series: Vec<String>,

    /// Bytes of logs that are kept at most, like 50GB; the oldest go. 0 keeps all
    #[arg(
        id = "retention_logs_size",
        long = "storage.retention.logs.size",
        value_name = "SIZE",
        default_value = "0"
    )]
    pub logs_size: String,

    /// Log streams that are kept for less long than others, like '{container="debug"}:3d'; may be
    /// repeated
    #[arg(
        id = "retention_streams",
        long = "storage.retention.streams",
        value_name = "SELECTOR:DURATION"
    )]
    pub streams: Vec<String>,
}

/// A selector and for how long its series are kept, in ms.
pub type Rule = (Vec<Matcher>, i64);

impl Retention {
    /// For how long all is kept, in ms; 0 keeps all.
    pub fn time_ms(&self) -> Result<i64> {
        duration_ms("storage.retention.time", &self.time)
    }

    /// How many bytes of metrics are kept; 0 keeps all.
    pub fn size_bytes(&self) -> Result<u64> {
        size_bytes("storage.retention.size", &self.size)
    }

    /// How many bytes of logs are kept; 0 keeps all.
    pub fn logs_size_bytes(&self) -> Result<u64> {
        size_bytes("storage.retention.logs.size", &self.logs_size)
    }

    /// The log streams that are kept for less long than others.
    pub fn stream_rules(&self) -> Result<Vec<Rule>> {
        let rule = |text: &String| rule("storage.retention.streams", text, log_selector);
        self.streams.iter().map(rule).collect()
    }

    /// For how long the tiers are kept, in ms; 0 where there is none.
    pub fn downsampled_ms(&self) -> Result<[i64; 2]> {
        let time = self.time_ms()?;
        let fine = duration_ms("storage.retention.5m", &self.five_minutes)?;
        let coarse = duration_ms("storage.retention.1h", &self.one_hour)?;
        for (flag, kept, shorter) in [
            ("5m", fine, time),
            ("1h", coarse, time),
            ("1h", coarse, fine),
        ] {
            if kept != 0 && (kept <= shorter || time == 0) {
                bail!(
                    "--storage.retention.{flag}: a tier holds what is older than all before it \
                     keeps, so it must be longer than --storage.retention.time and, for 1h, than \
                     --storage.retention.5m"
                );
            }
        }
        Ok([fine, coarse])
    }

    /// The series that are kept for less long than others.
    pub fn series_rules(&self) -> Result<Vec<Rule>> {
        let selector = |text: &str| Ok(parse_selector(text)?);
        let rule = |text: &String| rule("storage.retention.series", text, selector);
        self.series.iter().map(rule).collect()
    }
}

fn log_selector(text: &str) -> Result<Vec<Matcher>> {
    Ok(kittiwake_logql::parse_selector(text)?)
}

fn size_bytes(flag: &str, text: &str) -> Result<u64> {
    parse_size(text)
        .with_context(|| format!("--{flag} {text:?}: write a size like 50GB, or 0 to keep all"))
}

fn rule(flag: &str, text: &str, parse: impl Fn(&str) -> Result<Vec<Matcher>>) -> Result<Rule> {
    let (selector, keep) = text.rsplit_once(':').with_context(|| {
        format!("--{flag} {text:?}: write SELECTOR:DURATION, like {{job=\"debug\"}}:3d")
    })?;
    let matchers = parse(selector).with_context(|| format!("--{flag} {text:?}: {selector:?}"))?;
    if matchers.iter().all(|matcher| matcher.matches("")) {
        bail!(
            "--{flag} {text:?}: the selector takes everything; for how long all is kept is \
             said by --storage.retention.time"
        );
    }
    let keep = parse_duration(keep).with_context(|| format!("--{flag} {text:?}"))?;
    if keep.is_zero() {
        bail!("--{flag} {text:?}: write a duration over 0, like 3d");
    }
    Ok((matchers, i64::try_from(keep.as_millis())?))
}

fn duration_ms(flag: &str, text: &str) -> Result<i64> {
    if text == "0" {
        return Ok(0);
    }
    let duration = parse_duration(text)
        .with_context(|| format!("--{flag} {text:?}: write a duration like 30d or 12h, or 0"))?;
    Ok(i64::try_from(duration.as_millis())?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        retention: Retention,
    }

    fn parse(words: &[&str]) -> Retention {
        let words = ["kittiwake"].iter().chain(words);
        Flags::try_parse_from(words).unwrap().retention
    }

    #[test]
    fn times_and_tiers() {
        let time = |t: &str| parse(&["--storage.retention.time", t]).time_ms();
        assert_eq!(time("1d").unwrap(), 86_400_000);
        assert_eq!(time("0").unwrap(), 0);
        assert!(time("x").unwrap_err().to_string().contains("30d"));
        let tiers = |fine: &str, coarse: &str| {
            let words = [
                "--storage.retention.5m",
                fine,
                "--storage.retention.1h",
                coarse,
            ];
            parse(&words).downsampled_ms()
        };
        assert_eq!(tiers("0", "0").unwrap(), [0, 0]);
        assert_eq!(
            tiers("60d", "1y").unwrap(),
            [60 * 86_400_000, 365 * 86_400_000]
        );
        assert_eq!(tiers("0", "1y").unwrap(), [0, 365 * 86_400_000]);
        assert!(tiers("20d", "0").is_err());
        assert!(tiers("60d", "60d").is_err());
    }

    #[test]
    fn rules() {
        let rules = |text| parse(&["--storage.retention.series", text]).series_rules();
        let kept = rules("{job=\"a:b\",x=~\"y.*\"}:3d").unwrap();
        assert_eq!((kept[0].0.len(), kept[0].1), (2, 3 * 86_400_000));
        let streams = parse(&["--storage.retention.streams", "{a=~\"b.*\"}:12h"]).stream_rules();
        assert_eq!(streams.unwrap()[0].1, 12 * 3_600_000);
        for bad in ["{job=\"a\"}", "{job=}:3d", "{job=\"a\"}:x", "3d"] {
            assert!(rules(bad).is_err(), "{bad}");
        }
    }
}
