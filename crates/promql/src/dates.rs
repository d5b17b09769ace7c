//! Parts of a date in UTC, from Unix seconds.

use kittiwake_model::calendar::{civil, days_in_month};

/// A time in ms as RFC 3339 writes it, in whole seconds.
pub(crate) fn rfc3339(time_ms: i64) -> String {
    let seconds = time_ms.div_euclid(1000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A part of a date, by the name of its function.
pub(crate) fn part(name: &str, seconds: f64) -> f64 {
    if !seconds.is_finite() {
        return f64::NAN;
    }
    let seconds = seconds as i64;
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let part = match name {
        "minute" => of_day / 60 % 60,
        "hour" => of_day / 3600,
        "day_of_week" => (days + 4).rem_euclid(7),
        "day_of_month" => day,
        "day_of_year" => (1..month).map(|m| days_in_month(year, m)).sum::<i64>() + day,
        "days_in_month" => days_in_month(year, month),
        "month" => month,
        _ => year,
    };
    part as f64
}

#[cfg(test)]
mod tests {
    use super::{part, rfc3339};

    #[test]
    fn parts_of_known_days() {
        // 2024-02-29T23:59:00Z, a Thursday.
        let leap = 1_709_251_140.0;
        for (name, want) in [
            ("minute", 59.0),
            ("hour", 23.0),
            ("day_of_week", 4.0),
            ("day_of_month", 29.0),
            ("day_of_year", 60.0),
            ("days_in_month", 29.0),
            ("month", 2.0),
            ("year", 2024.0),
        ] {
            assert_eq!(part(name, leap), want, "{name}");
        }
        assert_eq!(rfc3339(1_709_251_140_500), "2024-02-29T23:59:00Z");
        assert_eq!(part("year", -1.0), 1969.0);
        assert_eq!(part("day_of_year", -1.0), 365.0);
        assert!(part("year", f64::NAN).is_nan());
    }
}
