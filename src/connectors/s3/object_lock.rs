//! Object Lock: how long what a store writes can be neither changed nor deleted.

use std::time::{Duration, SystemTime};

/// Who may lift a retention before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// Whoever has `s3:BypassGovernanceRetention`.
    Governance,
    /// Nobody.
    Compliance,
}

impl LockMode {
    /// Returns the mode as headers spell it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// A retention that every packfile and state gets when it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: LockMode,
    /// How long it lasts, counted from when an object is written.
    pub period: Duration,
}

/// The longest period: the century that AWS takes.
const LONGEST_DAYS: u64 = 36_500;

impl ObjectLock {
    /// Reads the options `object_lock` and `retain`: both, or neither.
    pub(super) fn parse(mode: Option<&str>, period: Option<&str>) -> Result<Option<Self>, String> {
        let mode = match mode.map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "off" | "none") => None,
            Some("governance") => Some(LockMode::Governance),
            Some("compliance") => Some(LockMode::Compliance),
            Some(other) => return Err(format!("object_lock is governance or compliance, not {other}")),
        };
        match (mode, period) {
            (None, None) => Ok(None),
            (Some(mode), Some(period)) => Ok(Some(Self { mode, period: parse_period(period)? })),
            (Some(_), None) => Err("object_lock needs retain, the time to keep objects: retain=30d".into()),
            (None, Some(_)) => Err("retain needs object_lock=governance or object_lock=compliance".into()),
        }
    }

    /// Returns until when an object written at a time is retained, RFC 3339 in UTC, to the second.
    pub(super) fn until(&self, written: SystemTime) -> String {
        let until = written.checked_add(self.period).and_then(|until| jiff::Timestamp::try_from(until).ok());
        until.unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// Reads a number of hours, days, weeks or years of 365 days: `12h`, `30d`, `4w`, `1y`.
fn parse_period(text: &str) -> Result<Duration, String> {
    let wrong = || format!("retain is a time such as 12h, 30d, 4w or 1y, at most 100y, not {text}");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let hours = match unit.to_ascii_lowercase() {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        'y' => 365 * 24,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    let hours = number.checked_mul(hours).filter(|hours| (1..=LONGEST_DAYS * 24).contains(hours));
    Ok(Duration::from_hours(hours.ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_options_or_neither() {
        assert_eq!(ObjectLock::parse(None, None), Ok(None));
        let days = |n: u64| Duration::from_hours(24 * n);
        for (text, wanted) in
            [("30d", days(30)), ("2w", days(14)), ("1y", days(365)), ("36h", Duration::from_hours(36))]
        {
            let found = ObjectLock::parse(Some("Compliance"), Some(text)).unwrap().unwrap();
            assert_eq!((found.mode, found.period), (LockMode::Compliance, wanted), "{text}");
        }
        for (mode, period) in [
            (Some("governance"), None),
            (None, Some("30d")),
            (Some("strict"), Some("30d")),
            (Some("governance"), Some("")),
            (Some("governance"), Some("0d")),
            (Some("governance"), Some("101y")),
            (Some("governance"), Some("30")),
            (Some("governance"), Some("3é")),
            (Some("governance"), Some("99999999999999999999d")),
        ] {
            assert!(ObjectLock::parse(mode, period).is_err(), "{mode:?} {period:?}");
        }
    }

    #[test]
    fn times_are_spelt_as_the_protocol_wants_them() {
        let lock = ObjectLock { mode: LockMode::Governance, period: Duration::from_hours(24) };
        assert_eq!(lock.until(SystemTime::UNIX_EPOCH), "1970-01-02T00:00:00Z");
    }
}
