use jiff::Zoned;
use proptest::prelude::*;

use super::*;
use crate::base::{Id, Timestamp};
use crate::format::snapshot::{Header, Importer, Roots, Source};
use crate::format::summary::Summary;

fn at(text: &str) -> Timestamp {
    let zoned: Zoned = text.parse().unwrap();
    Timestamp::from_secs(zoned.timestamp().as_second())
}

fn rule(period: Period, window: impl Into<Option<u32>>, cap: impl Into<Option<u32>>) -> Rule {
    Rule { period, window: window.into(), cap: cap.into() }
}

/// Decides over local times of Paris; returns those kept.
fn kept<'t>(rules: &[Rule], now: &str, times: &[&'t str]) -> Vec<&'t str> {
    let paris = |text: &str| format!("{text}[Europe/Paris]");
    let items: Vec<Item<'_>> =
        times.iter().map(|time| Item { timestamp: at(&paris(time)), group: b"" }).collect();
    let now: Zoned = paris(now).parse().unwrap();
    let decisions = Retention::new(rules.iter().copied()).decide(&items, &now);
    times.iter().zip(decisions).filter(|(_, decision)| decision.keeps()).map(|(time, _)| *time).collect()
}

const NOW: &str = "2025-11-21T10:00:00";

#[test]
fn a_window_alone_keeps_what_is_not_older() {
    let times = ["2025-10-21T10:00:00", "2025-10-22T09:59:59", "2025-10-22T10:00:00", "2025-11-21T09:00:00"];
    assert_eq!(kept(&[rule(Period::Day, 30, None)], NOW, &times), times[2..]);
    assert_eq!(kept(&[rule(Period::Month, 1, None)], NOW, &times), times);
    assert_eq!(kept(&[rule(Period::Hour, 1, None)], NOW, &times), times[3..]);
    assert_eq!(kept(&[rule(Period::Minute, 60, None)], NOW, &times), times[3..]);
}

#[test]
fn a_cap_keeps_the_newest_of_each_period() {
    let times = [
        "2024-12-31T12:00:00",
        "2025-11-20T23:00:00",
        "2025-11-20T23:30:00",
        "2025-11-21T00:00:00",
        "2025-11-21T08:00:00",
        "2025-11-21T08:00:30",
    ];
    assert_eq!(kept(&[rule(Period::Day, None, 1)], NOW, &times), [times[0], times[2], times[5]]);
    assert_eq!(kept(&[rule(Period::Day, None, 2)], NOW, &times), [0, 1, 2, 4, 5].map(|n| times[n]));
    assert_eq!(kept(&[rule(Period::Year, None, 1)], NOW, &times), [times[0], times[5]]);
    assert_eq!(kept(&[rule(Period::Minute, None, 1)], NOW, &times), [0, 1, 2, 3, 5].map(|n| times[n]));
}

#[test]
fn a_cap_holds_within_its_window_and_rules_add_up() {
    let times = [
        "2025-09-02T12:00:00", // more than two months ago
        "2025-10-05T12:00:00",
        "2025-10-30T12:00:00",
        "2025-11-03T12:00:00", // a Monday
        "2025-11-09T12:00:00", // the Sunday of that week
        "2025-11-20T12:00:00",
        "2025-11-21T09:00:00",
        "2025-11-21T09:30:00",
    ];
    let rules = [rule(Period::Day, 1, 3), rule(Period::Week, 3, 1), rule(Period::Month, 2, 1)];
    assert_eq!(kept(&rules[..1], NOW, &times), times[5..]);
    assert_eq!(kept(&rules[1..2], NOW, &times), [times[4], times[7]]);
    assert_eq!(kept(&rules[2..], NOW, &times), [times[2], times[7]]);
    assert_eq!(kept(&rules, NOW, &times), [2, 4, 5, 6, 7].map(|n| times[n]));
}

#[test]
fn weekdays_skip_weekends() {
    // 2025-11-21 is a Friday.
    let times = [
        "2025-11-13T10:00:00", // Thursday
        "2025-11-14T10:00:00", // Friday
        "2025-11-15T10:00:00", // Saturday
        "2025-11-17T10:00:00", // Monday
        "2025-11-21T09:00:00",
    ];
    assert_eq!(kept(&[rule(Period::Weekday, 5, None)], NOW, &times), [times[1], times[3], times[4]]);
    assert_eq!(kept(&[rule(Period::Weekday, None, 1)], NOW, &times), [0, 1, 3, 4].map(|n| times[n]));
    // From a Sunday, one weekday back is Friday.
    let times = ["2025-11-21T09:00:00", "2025-11-21T11:00:00", "2025-11-22T11:00:00"];
    assert_eq!(
        kept(&[rule(Period::Weekday, 1, None)], "2025-11-23T10:00:00", &times),
        [times[1], times[2]],
        "the Saturday stays because it is the newest"
    );
}

#[test]
fn days_are_local_and_clocks_may_be_set() {
    // Paris: forward on 2025-03-30 at 2:00, back on 2025-10-26 at 3:00.
    let times = ["2025-03-29T09:59:00", "2025-03-29T10:01:00", "2025-03-30T09:00:00"];
    // A day of 23 hours: the same time of the day before.
    assert_eq!(kept(&[rule(Period::Day, 1, None)], "2025-03-30T10:00:00", &times), times[1..]);
    let hours = ["2025-03-29T08:59:00", "2025-03-29T09:01:00", "2025-03-30T09:00:00"];
    assert_eq!(kept(&[rule(Period::Hour, 24, None)], "2025-03-30T10:00:00", &hours), hours[1..]);
    // The hour from 2 to 3 comes twice; each is an hour of its own, but one day holds both.
    let paris: jiff::tz::TimeZone = jiff::tz::TimeZone::get("Europe/Paris").unwrap();
    let now = "2025-10-26T10:00:00[Europe/Paris]".parse::<Zoned>().unwrap();
    let items = ["2025-10-26T00:30:00Z", "2025-10-26T01:30:00Z"].map(|text| {
        let at: jiff::Timestamp = text.parse().unwrap();
        Item { timestamp: Timestamp::from_secs(at.as_second()), group: b"" }
    });
    let names = items.map(|item| Period::Hour.bucket(item.timestamp, &paris).unwrap().to_string());
    assert_eq!(names, ["2025-10-26 02h", "2025-10-26 02h"]);
    let keeps = |rule| {
        let decisions = Retention::new([rule]).decide(&items, &now);
        decisions.iter().map(Decision::keeps).collect::<Vec<_>>()
    };
    assert_eq!(keeps(rule(Period::Hour, None, 1)), [true, true]);
    assert_eq!(keeps(rule(Period::Day, None, 1)), [false, true]);
    assert_eq!(keeps(rule(Period::Minute, None, 1)), [true, true]);
}

#[test]
fn buckets_have_names() {
    let paris = jiff::tz::TimeZone::get("Europe/Paris").unwrap();
    let name = |period: Period, text: &str| period.bucket(at(text), &paris).map(|bucket| bucket.to_string());
    let new_year = "2026-01-01T00:30:00[Europe/Paris]";
    for (period, wanted) in [
        (Period::Minute, "2026-01-01 00:30"),
        (Period::Hour, "2026-01-01 00h"),
        (Period::Day, "2026-01-01"),
        (Period::Weekday, "2026-01-01"),
        (Period::Week, "2026-W01"),
        (Period::Month, "2026-01"),
        (Period::Year, "2026"),
    ] {
        assert_eq!(name(period, new_year).as_deref(), Some(wanted));
    }
    assert_eq!(name(Period::Week, "2021-01-02T12:00:00[Europe/Paris]").as_deref(), Some("2020-W53"));
    assert_eq!(name(Period::Weekday, "2025-11-22T12:00:00[Europe/Paris]"), None);
}

#[test]
fn the_newest_of_each_group_stays() {
    let items = [(1, "a"), (2, "b"), (3, "a"), (4, "b")]
        .map(|(secs, group)| Item { timestamp: Timestamp::from_secs(secs), group: group.as_bytes() });
    let now: Zoned = NOW.parse::<jiff::civil::DateTime>().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    let retention = Retention::new([rule(Period::Day, 1, None)]);
    let decisions = retention.decide(&items, &now);
    assert_eq!(decisions.iter().map(Decision::keeps).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!(decisions[2].reasons, [Reason::Newest]);
    assert_eq!(decisions[2].reasons[0].to_string(), "the newest of its group");
}

#[test]
fn since_ends_what_caps_keep() {
    let retention = Retention::new([rule(Period::Day, None, 1)]).since(Some(Timestamp::from_secs(86_400)));
    let items =
        [100, 86_399, 86_400, 200_000].map(|secs| Item { timestamp: Timestamp::from_secs(secs), group: b"" });
    let now: Zoned = "1970-01-10T00:00:00Z[UTC]".parse().unwrap();
    let keeps: Vec<bool> = retention.decide(&items, &now).iter().map(Decision::keeps).collect();
    assert_eq!(keeps, [false, false, true, true]);
}

#[test]
fn reasons_say_which_rule_and_which_period() {
    let items = [Item { timestamp: at("2025-11-21T09:00:00[UTC]"), group: b"" }];
    let now: Zoned = "2025-11-21T10:00:00[UTC]".parse().unwrap();
    let retention = Retention::new([rule(Period::Week, 4, 1), rule(Period::Day, 7, None)]);
    let reasons: Vec<String> =
        retention.decide(&items, &now)[0].reasons.iter().map(ToString::to_string).collect();
    assert_eq!(reasons, ["-weeks 4 -per-week 1: number 1 of 2025-W47", "-days 7"]);
    assert!(Retention::new([rule(Period::Day, None, None)]).is_empty());
}

/// Groups by headers alone.
struct By(GroupBy);

impl By {
    fn key(&self, header: &Header) -> Vec<u8> {
        self.0.key_with(header, &|source| source.importer.origin.to_vec())
    }
}

#[test]
fn streams_are_told_apart_by_their_names() {
    let header = |kind: &str, origin: &str| {
        let mut header = Header::new(Id::ZERO, Timestamp::EPOCH);
        header.sources = Some(vec![Source {
            importer: Importer { kind: kind.into(), origin: origin.into(), directory: "/".into() },
            context: None,
            root: Roots::default(),
            indexes: None,
            summary: Summary::default(),
        }]);
        header
    };
    let known_as = |name: &'static str, header: &Header| {
        GroupBy::default().key_with(header, &|_| name.as_bytes().to_vec())
    };
    let named = known_as("never asked", &header("stdin", "host:a.sql"));
    assert_ne!(named, known_as("never asked", &header("stdin", "host:b.sql")));
    assert_ne!(named, known_as("never asked", &header("stdin", "other:a.sql")));
    // A snapshot whose header does not tell the name is of the same source, and so is one of upstream.
    assert_eq!(named, known_as("a.sql", &header("stdin", "host")));
    assert_ne!(named, known_as("b.sql", &header("stdin", "host")));
    let tar = header("tar", "host:-");
    assert_ne!(known_as("photos", &tar), known_as("accounts", &tar));
    assert_eq!(known_as("photos", &tar), known_as("photos", &tar));
    let file = header("tar", "host:/a.tar");
    assert_eq!(known_as("asked", &file), known_as("in vain", &file));
    let host = By("host".parse().unwrap());
    assert_eq!(host.key(&header("stdin", "host:a.sql")), host.key(&header("stdin", "host")));
}

#[test]
fn groups_are_named_by_fields() {
    let header = |name: &str, tags: &[&str]| {
        let mut header = Header::new(Id::ZERO, Timestamp::EPOCH);
        header.name = name.into();
        header.tags = Some(tags.iter().map(|tag| (*tag).into()).collect());
        header
    };
    let (a, b) = (header("n", &["x", "y"]), header("n", &["y", "x"]));
    let by = |text: &str| By(text.parse().unwrap());
    assert_eq!(by("name,tags").key(&a), by("name,tags").key(&b));
    assert_ne!(by("tags").key(&a), by("tags").key(&header("n", &["x"])));
    assert_ne!(by("name").key(&a), by("name").key(&header("m", &[])));
    assert_eq!(by("none").0, GroupBy::NONE);
    assert_eq!(by("none").key(&a), by("none").key(&header("m", &[])));
    assert!("".parse::<GroupBy>().is_err() && "nmae".parse::<GroupBy>().is_err());
}

/// The same in UTC by plain arithmetic: an item is kept if fewer than the cap of its period and group are newer.
fn naive(rules: &[(Period, Option<u32>, Option<u32>)], items: &[(i64, u8)], now: i64) -> Vec<bool> {
    let length = |period| match period {
        Period::Minute => 60,
        Period::Hour => 3600,
        Period::Day => 86_400,
        _ => 7 * 86_400,
    };
    // 1970-01-01 was a Thursday: weeks begin four days later.
    let bucket = |period, secs: i64| {
        let shift = if period == Period::Week { 4 * 86_400 } else { 0 };
        (secs - shift).div_euclid(length(period))
    };
    let newer = |i: usize, j: usize| (items[j].0, j) > (items[i].0, i) && items[j].1 == items[i].1;
    (0..items.len())
        .map(|i| {
            let by_rule = rules.iter().any(|&(period, window, cap)| {
                let start = window.map_or(i64::MIN, |count| now - i64::from(count) * length(period));
                let before = (0..items.len())
                    .filter(|&j| newer(i, j) && bucket(period, items[j].0) == bucket(period, items[i].0));
                (window.is_some() || cap.is_some())
                    && items[i].0 >= start
                    && cap.is_none_or(|cap| before.count() < cap as usize)
            });
            by_rule || !(0..items.len()).any(|j| newer(i, j))
        })
        .collect()
}

proptest! {
    #[test]
    fn agrees_with_a_naive_model(
        rules in prop::collection::vec(
            (0_usize..4, prop::option::of(1_u32..40), prop::option::of(1_u32..4)), 1..4),
        items in prop::collection::vec((-3_000_000_i64..100_000, 0_u8..3), 0..60),
        late in 0_i64..100_000,
    ) {
        let periods = [Period::Minute, Period::Hour, Period::Day, Period::Week];
        let rules: Vec<_> = rules.into_iter().map(|(period, window, cap)| (periods[period], window, cap)).collect();
        let origin = 1_763_000_000;
        let now = origin + late;
        let items: Vec<(i64, u8)> = items.into_iter().map(|(secs, group)| (origin + secs, group)).collect();
        let zoned = jiff::Timestamp::from_second(now).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        let groups: Vec<[u8; 1]> = items.iter().map(|(_, group)| [*group]).collect();
        let given: Vec<Item<'_>> = items
            .iter()
            .zip(&groups)
            .map(|((secs, _), group)| Item { timestamp: Timestamp::from_secs(*secs), group })
            .collect();
        let retention = Retention::new(rules.iter().map(|&(p, window, cap)| rule(p, window, cap)));
        let decided: Vec<bool> = retention.decide(&given, &zoned).iter().map(Decision::keeps).collect();
        prop_assert_eq!(decided, naive(&rules, &items, now));
    }
}
