//! The retention flags: how many periods back, how many of each period, by which group.

use super::error::CommandError;
use crate::snapshot::retention::{GroupBy, Period, Retention, Rule};

/// Windows, caps and groups of snapshots.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RetentionArgs {
    /// Those of the last N minutes
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    minutes: Option<u32>,
    /// Those of the last N hours
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    hours: Option<u32>,
    /// Those of the last N days
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    days: Option<u32>,
    /// Those of the last N days from Monday to Friday
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    weekdays: Option<u32>,
    /// Those of the last N weeks
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    weeks: Option<u32>,
    /// Those of the last N months
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    months: Option<u32>,
    /// Those of the last N years
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    years: Option<u32>,
    /// At most the newest N of each minute
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    per_minute: Option<u32>,
    /// At most the newest N of each hour
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    per_hour: Option<u32>,
    /// At most the newest N of each day
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    per_day: Option<u32>,
    /// At most the newest N of each day from Monday to Friday
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    per_weekday: Option<u32>,
    /// At most the newest N of each week
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    per_week: Option<u32>,
    /// At most the newest N of each month
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    per_month: Option<u32>,
    /// At most the newest N of each year
    #[arg(long, value_name = "N", value_parser = number, help_heading = "Query flags")]
    per_year: Option<u32>,
    /// Decide apart for each source, host, root, name, job, tags … or their combination; none for all at once (default
    /// source)
    #[arg(long, value_name = "FIELDS", help_heading = "Query flags")]
    group_by: Option<GroupBy>,
}

/// Reads a number of periods; upstream's manual writes `-days 30d`, too.
fn number(text: &str) -> Result<u32, String> {
    let digits = text.strip_suffix(|unit: char| "mhdwy".contains(unit)).unwrap_or(text);
    match digits.parse::<u32>() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("'{text}' is not a number")),
    }
}

impl RetentionArgs {
    /// Returns whether there is no window and no cap.
    pub(crate) fn has_no_rule(&self) -> bool {
        self.retention().is_empty()
    }

    /// Fails where a way of grouping was given, and nothing to decide by.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        if self.group_by.is_some() && self.has_no_rule() {
            return Err(CommandError::usage("-group-by needs a window or a cap")
                .hint("such as -days 30 or -per-day 1"));
        }
        Ok(())
    }

    /// Returns the rules.
    pub(crate) fn retention(&self) -> Retention {
        let parts = |period: Period| match period {
            Period::Minute => (self.minutes, self.per_minute),
            Period::Hour => (self.hours, self.per_hour),
            Period::Day => (self.days, self.per_day),
            Period::Weekday => (self.weekdays, self.per_weekday),
            Period::Week => (self.weeks, self.per_week),
            Period::Month => (self.months, self.per_month),
            Period::Year => (self.years, self.per_year),
        };
        Retention::new(Period::ALL.map(|period| {
            let (window, cap) = parts(period);
            Rule { period, window, cap }
        }))
    }

    /// Returns the way of grouping.
    pub(crate) fn group_by(&self) -> GroupBy {
        self.group_by.clone().unwrap_or_default()
    }

    /// Fills in from `base` what is not given here.
    #[must_use]
    pub(crate) fn over(self, base: Self) -> Self {
        Self {
            minutes: self.minutes.or(base.minutes),
            hours: self.hours.or(base.hours),
            days: self.days.or(base.days),
            weekdays: self.weekdays.or(base.weekdays),
            weeks: self.weeks.or(base.weeks),
            months: self.months.or(base.months),
            years: self.years.or(base.years),
            per_minute: self.per_minute.or(base.per_minute),
            per_hour: self.per_hour.or(base.per_hour),
            per_day: self.per_day.or(base.per_day),
            per_weekday: self.per_weekday.or(base.per_weekday),
            per_week: self.per_week.or(base.per_week),
            per_month: self.per_month.or(base.per_month),
            per_year: self.per_year.or(base.per_year),
            group_by: self.group_by.or(base.group_by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_carry_their_unit() {
        assert_eq!(number("30"), Ok(30));
        assert_eq!(number("30d"), Ok(30));
        for text in ["0", "", "d", "-1", "1.5", "30dd", "x"] {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_given_goes_over_what_is_not() {
        let policy = RetentionArgs { days: Some(7), per_week: Some(1), ..RetentionArgs::default() };
        let given = RetentionArgs { days: Some(3), per_day: Some(2), ..RetentionArgs::default() };
        let rules: Vec<String> =
            given.over(policy).retention().rules().iter().map(ToString::to_string).collect();
        assert_eq!(rules, ["-days 3 -per-day 2", "-per-week 1"]);
        let alone = RetentionArgs { group_by: Some(GroupBy::NONE), ..RetentionArgs::default() };
        assert_eq!(alone.check().unwrap_err().exit().code(), 64);
    }
}
