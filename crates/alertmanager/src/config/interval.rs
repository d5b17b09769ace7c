//! Named times: when a route is muted, and when it is active.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, de};

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Times that are all of these at once; what is not given is always true.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeInterval {
    times: Option<Vec<TimeRange>>,
    weekdays: Option<Vec<Weekdays>>,
    days_of_month: Option<Vec<Days>>,
    months: Option<Vec<Months>>,
    years: Option<Vec<Years>>,
    location: Option<Location>,
}

impl TimeInterval {
    /// Whether a time in ns lies in it.
    pub fn contains(&self, now_ns: i64) -> bool {
        let zone = self
            .location
            .as_ref()
            .map_or(TimeZone::UTC, |l| l.0.clone());
        let Ok(time) = Timestamp::from_nanosecond(i128::from(now_ns)) else {
            return false;
        };
        let time = time.to_zoned(zone);
        let minute = i64::from(time.hour()) * 60 + i64::from(time.minute());
        let day = i64::from(time.day());
        let last_day = i64::from(time.days_in_month());
        let any = |ranges: &Option<Vec<_>>, is_in: &dyn Fn(&_) -> bool| match ranges {
            None => true,
            Some(ranges) => ranges.iter().any(is_in),
        };
        let in_range = |range: Range, value: i64| (range.0..=range.1).contains(&value);
        any_of(self.times.as_deref(), |t| {
            (t.start..t.end).contains(&minute)
        }) && any(&self.days_of_month, &|Days(Range(begin, end))| {
            let from_end = |d: i64| if d < 0 { last_day + d + 1 } else { d };
            let (begin, end) = (from_end(*begin), from_end(*end));
            begin <= last_day && (begin..=end.min(last_day)).contains(&day)
        }) && any_of(self.months.as_deref(), |m| {
            in_range(m.0, i64::from(time.month()))
        }) && any_of(self.weekdays.as_deref(), |w| {
            in_range(w.0, i64::from(time.weekday().to_sunday_zero_offset()))
        }) && any_of(self.years.as_deref(), |y| {
            in_range(y.0, i64::from(time.year()))
        })
    }
}

fn any_of<T>(ranges: Option<&[T]>, is_in: impl Fn(&T) -> bool) -> bool {
    ranges.is_none_or(|ranges| ranges.iter().any(is_in))
}

/// First and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range(i64, i64);

/// Minutes of the day, the last one excluded.
#[derive(Debug, Clone, Copy)]
struct TimeRange {
    start: i64,
    end: i64,
}

impl<'de> Deserialize<'de> for TimeRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            start_time: Option<String>,
            end_time: Option<String>,
        }
        let fields = Fields::deserialize(deserializer)?;
        let (Some(start), Some(end)) = (fields.start_time, fields.end_time) else {
            return Err(de::Error::custom(
                "both start and end times must be provided",
            ));
        };
        let start = minute_of_day(&start).map_err(de::Error::custom)?;
        let end = minute_of_day(&end).map_err(de::Error::custom)?;
        if start >= end {
            return Err(de::Error::custom(
                "start time cannot be equal or greater than end time",
            ));
        }
        Ok(Self { start, end })
    }
}

fn minute_of_day(text: &str) -> Result<i64, String> {
    let bad = || format!("couldn't parse timestamp {text}, invalid format; write HH:MM");
    if text == "24:00" {
        return Ok(24 * 60);
    }
    let two = |t: &str| {
        let is_number = t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| t.parse::<i64>().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    match (two(hour), two(minute)) {
        (Some(hour @ 0..24), Some(minute @ 0..60)) => Ok(hour * 60 + minute),
        _ => Err(bad()),
    }
}

/// Reads `first:last`, or one that is both.
fn range(text: &str, member: impl Fn(&str) -> Result<i64, String>) -> Result<Range, String> {
    let text = text.to_lowercase();
    match text.split_once(':') {
        None => member(&text).map(|one| Range(one, one)),
        Some((_, last)) if last.contains(':') => {
            Err(format!("couldn't parse range {text}, invalid format"))
        }
        Some((first, last)) => Ok(Range(member(first)?, member(last)?)),
    }
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

macro_rules! ranges {
    ($name:ident, $read:expr) => {
        #[derive(Debug, Clone, Copy)]
        struct $name(Range);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let read: fn(&str) -> Result<Range, String> = $read;
                read(&text).map(Self).map_err(de::Error::custom)
            }
        }
    };
}

ranges!(Weekdays, |text| {
    let found = range(text, |day| {
        let at = WEEKDAYS.iter().position(|known| *known == day);
        at.map(|at| at as i64)
            .ok_or_else(|| format!("{day} is not a valid weekday"))
    })?;
    if found.0 > found.1 {
        return Err("start day cannot be before end day".to_owned());
    }
    Ok(found)
});

ranges!(Days, |text| {
    let Range(begin, end) = range(text, number)?;
    for day in [begin, end] {
        if day == 0 || !(-31..=31).contains(&day) {
            return Err(format!(
                "{day} is not a valid day of the month: out of range"
            ));
        }
    }
    if begin < 0 && end > 0 {
        return Err("end day must be negative if start day is negative".to_owned());
    }
    let least = |day: i64| if day < 0 { 28 + day } else { day };
    if least(begin) > least(end) {
        return Err(format!("end day {end} is always before start day {begin}"));
    }
    Ok(Range(begin, end))
});

ranges!(Months, |text| {
    let found = range(text, |month| {
        let at = MONTHS.iter().position(|known| *known == month);
        match at {
            Some(at) => Ok(at as i64 + 1),
            None => number(month).map_err(|_| format!("{month} is not a valid month")),
        }
    })?;
    if found.0 > found.1 {
        return Err(format!(
            "end month {} is before start month {}",
            found.1, found.0
        ));
    }
    Ok(found)
});

ranges!(Years, |text| {
    let found = range(text, number)?;
    if found.0 > found.1 {
        return Err(format!(
            "end year {} is before start year {}",
            found.1, found.0
        ));
    }
    Ok(found)
});

#[derive(Debug, Clone)]
struct Location(TimeZone);

impl<'de> Deserialize<'de> for Location {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        zone(&name).map(Self).map_err(de::Error::custom)
    }
}

/// A time zone by its name; the empty one is UTC.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        "Local" => Ok(TimeZone::system()),
        name => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(text: &str) -> TimeInterval {
        serde_saphyr::from_str(text).unwrap()
    }

    fn at(text: &str) -> i64 {
        let time: Timestamp = text.parse().unwrap();
        i64::try_from(time.as_nanosecond()).unwrap()
    }

    #[test]
    fn times_lie_in_what_is_said() {
        let text = "{times: [{start_time: '09:00', end_time: '17:00'}], weekdays: ['monday:friday'], location: Europe/Berlin}";
        let office = interval(text);
        // A Monday in summer, two hours ahead of UTC.
        assert!(office.contains(at("2024-07-01T07:00:00Z")));
        assert!(!office.contains(at("2024-07-01T06:59:59Z")));
        assert!(!office.contains(at("2024-07-01T15:00:00Z")));
        assert!(!office.contains(at("2024-06-30T10:00:00Z")));
        let last = interval(
            "{days_of_month: ['-3:-1'], months: ['february', '4:5'], years: ['2023:2024']}",
        );
        assert!(last.contains(at("2024-02-27T00:00:00Z")));
        assert!(!last.contains(at("2024-02-26T00:00:00Z")));
        assert!(last.contains(at("2023-02-26T00:00:00Z")));
        assert!(!last.contains(at("2024-03-31T00:00:00Z")));
        assert!(!interval("{days_of_month: ['31']}").contains(at("2024-02-29T00:00:00Z")));
        assert!(interval("{}").contains(0));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "{times: [{start_time: '9:00', end_time: '17:00'}]}",
            "{times: [{start_time: '17:00', end_time: '09:00'}]}",
            "{times: [{start_time: '09:00'}]}",
            "{weekdays: ['friday:monday']}",
            "{weekdays: ['1']}",
            "{days_of_month: ['0']}",
            "{days_of_month: ['-1:5']}",
            "{days_of_month: ['20:5']}",
            "{months: ['may:march']}",
            "{years: ['2024:2023']}",
            "{location: Nowhere/At_All}",
            "{moons: ['1']}",
        ] {
            assert!(
                serde_saphyr::from_str::<TimeInterval>(bad).is_err(),
                "{bad}"
            );
        }
    }
}
