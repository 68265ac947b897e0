//! Calendar periods.

use std::fmt;

use jiff::civil::{Date, Weekday};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Zoned};

use crate::base::Timestamp;

/// A period of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Period {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, from midnight to midnight.
    Day,
    /// A day from Monday to Friday.
    Weekday,
    /// A week, from Monday on.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// One particular period: a certain day, a certain week.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bucket {
    period: Period,
    date: Date,
    hour: i8,
    minute: i8,
    /// Tells the two hours apart that bear one name when clocks are set back.
    offset: Option<Offset>,
}

/// Beyond so many weekdays a window has no end: counting them is work.
const MANY_WEEKDAYS: u32 = 20_000;

impl Period {
    /// All periods, the shortest first.
    pub const ALL: [Self; 7] =
        [Self::Minute, Self::Hour, Self::Day, Self::Weekday, Self::Week, Self::Month, Self::Year];

    /// Returns the period in the singular: the end of the cap's name (`per-day`).
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Weekday => "weekday",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Returns the bucket of an instant, in a time zone. Nothing for what lies in no such period.
    pub fn bucket(self, at: Timestamp, zone: &TimeZone) -> Option<Bucket> {
        let local = zoned(at, zone)?;
        let date = local.date();
        let day = Bucket { period: self, date, hour: 0, minute: 0, offset: None };
        Some(match self {
            Self::Minute => {
                Bucket { hour: local.hour(), minute: local.minute(), offset: Some(local.offset()), ..day }
            }
            Self::Hour => Bucket { hour: local.hour(), offset: Some(local.offset()), ..day },
            Self::Weekday if is_weekend(date) => return None,
            Self::Day | Self::Weekday => day,
            Self::Week => {
                let since_monday = i64::from(date.weekday().to_monday_zero_offset());
                Bucket { date: date.checked_sub(Span::new().days(since_monday)).ok()?, ..day }
            }
            Self::Month => Bucket { date: date.first_of_month(), ..day },
            Self::Year => Bucket { date: date.first_of_year(), ..day },
        })
    }

    /// Returns the instant that lies `count` periods before `now`: what is older is outside of the window. Nothing
    /// where that is before all time.
    pub fn back(self, count: u32, now: &Zoned) -> Option<Timestamp> {
        let n = i64::from(count);
        let span = match self {
            Self::Minute => Span::new().try_minutes(n),
            Self::Hour => Span::new().try_hours(n),
            Self::Day => Span::new().try_days(n),
            Self::Week => Span::new().try_weeks(n),
            Self::Month => Span::new().try_months(n),
            Self::Year => Span::new().try_years(n),
            Self::Weekday => return weekdays_back(count, now),
        };
        now.checked_sub(span.ok()?).ok().map(|at| timestamp(&at))
    }
}

/// Goes back day by day until so many of the days were weekdays.
fn weekdays_back(count: u32, now: &Zoned) -> Option<Timestamp> {
    if count > MANY_WEEKDAYS {
        return None;
    }
    let (mut days, mut date) = (0, now.date());
    let mut left = count;
    while left > 0 {
        date = date.yesterday().ok()?;
        days += 1;
        left -= u32::from(!is_weekend(date));
    }
    now.checked_sub(Span::new().days(days)).ok().map(|at| timestamp(&at))
}

fn is_weekend(date: Date) -> bool {
    matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
}

fn zoned(at: Timestamp, zone: &TimeZone) -> Option<Zoned> {
    let nanos = i32::try_from(at.nanos).ok()?;
    Some(jiff::Timestamp::new(at.secs, nanos).ok()?.to_zoned(zone.clone()))
}

fn timestamp(at: &Zoned) -> Timestamp {
    let nanos = at.timestamp().as_nanosecond();
    let (secs, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    Timestamp {
        secs: i64::try_from(secs).expect("times of the calendar fit"),
        nanos: u32::try_from(nanos).expect("below a billion"),
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, hour, minute, .. } = self;
        match self.period {
            Period::Minute => write!(f, "{date} {hour:02}:{minute:02}"),
            Period::Hour => write!(f, "{date} {hour:02}h"),
            Period::Day | Period::Weekday => write!(f, "{date}"),
            Period::Week => {
                let week = date.iso_week_date();
                write!(f, "{}-W{:02}", week.year(), week.week())
            }
            Period::Month => write!(f, "{:04}-{:02}", date.year(), date.month()),
            Period::Year => write!(f, "{:04}", date.year()),
        }
    }
}
