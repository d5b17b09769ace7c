//! The proleptic Gregorian calendar in days since 1970-01-01.
//!
//! Years are counted from March, so that the leap day is a year's last and months have a closed
//! form; 400 of them repeat (Howard Hinnant's algorithm).

/// Days of 400 years.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const TO_EPOCH_DAYS: i64 = 719_468;

/// Year, month from 1 and day from 1.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + TO_EPOCH_DAYS;
    let era = shifted.div_euclid(ERA_DAYS);
    let of_era = shifted.rem_euclid(ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The day of a date; months and days count from 1.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (from_march * 153 + 2) / 5 + day - 1 - TO_EPOCH_DAYS
}

/// How many days a month has, counted from 1.
pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_thousand_years_follows_the_one_before() {
        let first = days_from_civil(1600, 1, 1);
        let (mut year, mut month, mut day) = (1600, 1, 1);
        for days in first..first + 365_250 {
            assert_eq!(civil(days), (year, month, day), "{days}");
            assert_eq!(days_from_civil(year, month, day), days);
            day += 1;
            if day > days_in_month(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(days_from_civil(-4713, 11, 24)), (-4713, 11, 24));
    }
}
