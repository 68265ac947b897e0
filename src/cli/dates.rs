//! Dates and ages as people type them.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use crate::base::Timestamp;

/// Reads a point in time: RFC 3339 (`2025-08-04T10:00:00Z`), a local date with or without a time (`2025-08-04`,
/// `2025-08-04 10:00`), `now`, `today`, `yesterday`, or an age (`2d`, `1w`, `3 months`, `1h30m`) before `now`.
pub(crate) fn point(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let text = text.trim();
    let at = match text {
        "now" => Some(now.clone()),
        "today" => now.start_of_day().ok(),
        "yesterday" => now.yesterday().and_then(|day| day.start_of_day()).ok(),
        _ => absolute(text, now.time_zone()).or_else(|| now.checked_sub(age(text)?).ok()),
    };
    let at = at.ok_or_else(|| {
        format!("'{text}' is neither a date (2025-08-04, 2025-08-04 10:00, 2025-08-04T10:00:00Z) nor an age (12h, 30d, 2w, 3 months, 1y)")
    })?;
    let nanos = u32::try_from(at.timestamp().subsec_nanosecond().max(0)).expect("not negative");
    Ok(Timestamp { secs: at.timestamp().as_second(), nanos })
}

fn absolute(text: &str, zone: &TimeZone) -> Option<Zoned> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(instant.to_zoned(zone.clone()));
    }
    let text = text.replace('/', "-");
    let local = match text.parse::<Date>() {
        Ok(day) if text.len() <= 10 => day.to_datetime(jiff::civil::Time::midnight()),
        _ => text.parse::<DateTime>().ok()?,
    };
    local.to_zoned(zone.clone()).ok()
}

/// Reads an age. Months and years are those of the calendar.
fn age(text: &str) -> Option<Span> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) || text.contains("ago") {
        return None;
    }
    text.parse::<Span>().ok()
}

/// Formats a time for programs: RFC 3339 in UTC.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    jiff::Timestamp::new(time.secs, nanos).map_or_else(|_| "-".to_owned(), |instant| instant.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now: Zoned = "2025-03-31T12:00:00+02:00[Europe/Paris]".parse().unwrap();
        point(text, &now).map(rfc3339)
    }

    #[test]
    fn dates_are_local_and_ages_follow_the_calendar() {
        for (text, time) in [
            ("2025-01-02T03:04:05Z", "2025-01-02T03:04:05Z"),
            ("2025-01-02T03:04:05.5+01:00", "2025-01-02T02:04:05.5Z"),
            ("2025-01-02", "2025-01-01T23:00:00Z"),
            ("2025/01/02", "2025-01-01T23:00:00Z"),
            ("2025-07-02 10:00", "2025-07-02T08:00:00Z"),
            ("2006-01-02 15:04:05", "2006-01-02T14:04:05Z"),
            ("now", "2025-03-31T10:00:00Z"),
            ("today", "2025-03-30T22:00:00Z"),
            ("yesterday", "2025-03-29T23:00:00Z"),
            ("90m", "2025-03-31T08:30:00Z"),
            ("1h30m", "2025-03-31T08:30:00Z"),
            ("2d", "2025-03-29T11:00:00Z"),
            ("1w", "2025-03-24T11:00:00Z"),
            ("1 month", "2025-02-28T11:00:00Z"),
            ("3 months", "2024-12-31T11:00:00Z"),
            ("1y", "2024-03-31T10:00:00Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(time), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["", "soon", "2025-13-01", "-2d", "2d ago", "d", "99999999999y"] {
            assert!(at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_told_to_the_nanosecond() {
        let time = Timestamp { secs: 1_735_787_045, nanos: 9 };
        assert_eq!(rfc3339(time), "2025-01-02T03:04:05.000000009Z");
    }
}
