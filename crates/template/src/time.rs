//! Times by Go's layouts (`2006-01-02T15:04:05Z07:00`).

use kittiwake_model::calendar::{civil, days_from_civil};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const DAY_NS: i128 = 86_400_000_000_000;
/// The start of the year 1.
const ZERO_NS: i128 = -62_135_596_800 * 1_000_000_000;

/// The pieces of a layout; longer ones stand before those that they start with.
const PIECES: [&str; 32] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "Z07:00",
    "Z0700",
    "-07:00",
    "-0700",
    "-07",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "002",
    "_2",
    "PM",
    "pm",
    ".000000000",
    ".999999999",
    ".000000",
    ".999999",
    ".000",
    ".999",
    "1",
    "2",
    "3",
    "4",
];

fn next_piece(layout: &str) -> Option<&'static str> {
    if layout.starts_with('5') {
        return Some("5");
    }
    PIECES.into_iter().find(|p| layout.starts_with(p))
}

fn zone(offset: i32, piece: &str) -> String {
    if piece.starts_with('Z') && offset == 0 {
        return "Z".to_owned();
    }
    let sign = if offset < 0 { '-' } else { '+' };
    let minutes = offset.abs() / 60;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    if piece == "-07" {
        format!("{sign}{hours:02}")
    } else if piece.contains(':') {
        format!("{sign}{hours:02}:{minutes:02}")
    } else {
        format!("{sign}{hours:02}{minutes:02}")
    }
}

/// Writes a time in ns, in a zone of this offset in seconds, by a layout. The earliest time
/// stands for Go's zero one.
pub fn format(layout: &str, ns: i64, offset: i32) -> String {
    let ns = match ns {
        i64::MIN => ZERO_NS,
        ns => i128::from(ns),
    };
    let local = ns + i128::from(offset) * 1_000_000_000;
    let days = local.div_euclid(DAY_NS) as i64;
    let in_day = local.rem_euclid(DAY_NS) as i64;
    let (year, month, day) = civil(days);
    let seconds = in_day / 1_000_000_000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{:09}", in_day % 1_000_000_000);
    let month_name = MONTHS[(month - 1).clamp(0, 11) as usize];
    let day_name = DAYS[(days + 4).rem_euclid(7) as usize];
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        let Some(piece) = next_piece(rest) else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[piece.len()..];
        let text = match piece {
            "January" => month_name.to_owned(),
            "Jan" => month_name[..3].to_owned(),
            "Monday" => day_name.to_owned(),
            "Mon" => day_name[..3].to_owned(),
            "MST" => "UTC".to_owned(),
            "2006" => format!("{year:04}"),
            "06" => format!("{:02}", year.rem_euclid(100)),
            "01" => format!("{month:02}"),
            "1" => month.to_string(),
            "02" => format!("{day:02}"),
            "_2" => format!("{day:2}"),
            "2" => day.to_string(),
            "002" => format!("{:03}", days - days_from_civil(year, 1, 1) + 1),
            "15" => format!("{hour:02}"),
            "03" => format!("{hour12:02}"),
            "3" => hour12.to_string(),
            "04" => format!("{minute:02}"),
            "4" => minute.to_string(),
            "05" => format!("{second:02}"),
            "5" => second.to_string(),
            "PM" => if hour >= 12 { "PM" } else { "AM" }.to_owned(),
            "pm" => if hour >= 12 { "pm" } else { "am" }.to_owned(),
            zeros if zeros.starts_with(".0") => format!(".{}", &fraction[..zeros.len() - 1]),
            nines if nines.starts_with(".9") => {
                let digits = fraction[..nines.len() - 1].trim_end_matches('0');
                if digits.is_empty() {
                    String::new()
                } else {
                    format!(".{digits}")
                }
            }
            piece => zone(offset, piece),
        };
        out.push_str(&text);
    }
    out
}

/// Reads a time by a layout, in UTC unless it says otherwise.
pub fn parse(layout: &str, text: &str) -> Option<i64> {
    let (mut year, mut month, mut day) = (0_i64, 1_i64, 1_i64);
    let (mut hour, mut minute, mut second, mut ns) = (0_i64, 0_i64, 0_i64, 0_i64);
    let (mut offset, mut is_pm) = (0_i64, None);
    let (mut layout, mut text) = (layout, text);
    while let Some(c) = layout.chars().next() {
        let Some(piece) = next_piece(layout) else {
            text = text.strip_prefix(c)?;
            layout = &layout[c.len_utf8()..];
            continue;
        };
        layout = &layout[piece.len()..];
        let mut take = |least: usize, most: usize| -> Option<i64> {
            let digits = text
                .bytes()
                .take(most)
                .take_while(u8::is_ascii_digit)
                .count();
            let number = (digits >= least).then(|| text[..digits].parse().ok())??;
            text = &text[digits..];
            Some(number)
        };
        match piece {
            "2006" => year = take(4, 4)?,
            "06" => year = 2000 + take(2, 2)?,
            "01" | "1" => month = take(1, 2)?,
            "02" | "2" | "_2" => day = take(1, 2)?,
            "15" | "03" | "3" => hour = take(1, 2)?,
            "04" | "4" => minute = take(1, 2)?,
            "05" | "5" => {
                second = take(1, 2)?;
                // A fraction may follow even where the layout has none.
                if !layout.starts_with(['.', ',']) && text.starts_with('.') {
                    ns = fraction(&mut text)?;
                }
            }
            "January" | "Jan" => {
                let len = if piece == "Jan" { 3 } else { usize::MAX };
                let index = MONTHS
                    .iter()
                    .position(|m| text.starts_with(&m[..len.min(m.len())]))?;
                text = &text[len.min(MONTHS[index].len())..];
                month = index as i64 + 1;
            }
            "Monday" | "Mon" => {
                let len = if piece == "Mon" { 3 } else { usize::MAX };
                let name = DAYS
                    .iter()
                    .find(|d| text.starts_with(&d[..len.min(d.len())]))?;
                text = &text[len.min(name.len())..];
            }
            "PM" | "pm" => {
                is_pm = Some(text.get(..2)?.eq_ignore_ascii_case("pm"));
                text = &text[2..];
            }
            "MST" => {
                let len = text
                    .find(|c: char| !c.is_ascii_uppercase())
                    .unwrap_or(text.len());
                text = &text[len..];
            }
            dots if dots.starts_with('.') => {
                if text.starts_with('.') {
                    ns = fraction(&mut text)?;
                }
            }
            zone => {
                if zone.starts_with('Z') && text.starts_with('Z') {
                    text = &text[1..];
                    continue;
                }
                let sign = match text.chars().next()? {
                    '+' => 1,
                    '-' => -1,
                    _ => return None,
                };
                let hours: i64 = text.get(1..3)?.parse().ok()?;
                text = &text[3..];
                text = text.strip_prefix(':').unwrap_or(text);
                let mut minutes = 0;
                if zone != "-07" {
                    minutes = text.get(..2)?.parse().ok()?;
                    text = &text[2..];
                }
                offset = sign * (hours * 3600 + minutes * 60);
            }
        }
    }
    if !text.is_empty() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    match is_pm {
        Some(true) if hour < 12 => hour += 12,
        Some(false) if hour == 12 => hour = 0,
        _ => {}
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    (seconds - offset)
        .checked_mul(1_000_000_000)?
        .checked_add(ns)
}

fn fraction(text: &mut &str) -> Option<i64> {
    let digits = text[1..].bytes().take_while(u8::is_ascii_digit).count();
    let taken = &text[1..=digits];
    *text = &text[digits + 1..];
    let padded: String = taken.chars().chain("000000000".chars()).take(9).collect();
    padded.parse().ok()
}
