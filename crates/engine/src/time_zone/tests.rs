//! Zones against answers of PostgreSQL, and against themselves.

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::named(name).unwrap_or_else(|| panic!("{name}"))
}

/// Seconds from 1970 on to `YYYY-MM-DD HH:MM`.
fn at(text: &str) -> i64 {
    let number = |range: Range<usize>| text[range].parse::<i64>().unwrap();
    let days = days_from_civil(number(0..4), number(5..7), number(8..10));
    days * DAY_SECONDS + number(11..13) * HOUR + number(14..16) * 60
}

#[test]
fn names_mean_what_they_mean_in_postgresql() {
    for (name, offset) in [
        ("UTC", 0),
        ("z", 0),
        ("Europe/Berlin", 2 * HOUR),
        ("europe/BERLIN", 2 * HOUR),
        ("CET", HOUR),
        ("EST", -5 * HOUR),
        ("EST5EDT", -4 * HOUR),
        ("+02", -2 * HOUR),
        ("-5:30", 5 * HOUR + 1800),
        ("UTC+3", -3 * HOUR),
        ("foo3", -3 * HOUR),
        ("<+05>-5", 5 * HOUR),
        ("2", -2 * HOUR),
        ("+05:30:15", -5 * HOUR - 1815),
    ] {
        assert_eq!(
            zone(name).offset_at(at("2024-07-01 12:00")),
            offset,
            "{name}"
        );
    }
    for name in [
        "", " UTC", "+200", "0530", "Foo/Bar", "+", "1:60", "1:2:3:4", "<+05", "é", "+é", "+-1",
        "١",
    ] {
        assert_eq!(TimeZone::named(name), None, "{name}");
    }
}

#[test]
fn local_times_that_a_clock_shows_twice_or_never_are_those_of_postgresql() {
    for (name, local, instant) in [
        ("Europe/Berlin", "2024-03-31 01:59", "2024-03-31 00:59"),
        ("Europe/Berlin", "2024-03-31 02:00", "2024-03-31 01:00"),
        ("Europe/Berlin", "2024-03-31 02:30", "2024-03-31 01:30"),
        ("Europe/Berlin", "2024-03-31 03:00", "2024-03-31 01:00"),
        ("Europe/Berlin", "2024-10-27 01:59", "2024-10-26 23:59"),
        ("Europe/Berlin", "2024-10-27 02:00", "2024-10-27 01:00"),
        ("Europe/Berlin", "2024-10-27 02:30", "2024-10-27 01:30"),
        ("Europe/Berlin", "2024-10-27 03:00", "2024-10-27 02:00"),
        ("America/New_York", "2024-03-10 02:30", "2024-03-10 07:30"),
        ("America/New_York", "2024-11-03 01:30", "2024-11-03 06:30"),
        ("Asia/Kathmandu", "2024-07-01 12:00", "2024-07-01 06:15"),
        // A day that Samoa skipped.
        ("Pacific/Apia", "2011-12-29 23:00", "2011-12-30 09:00"),
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30 22:00"),
        ("Pacific/Apia", "2011-12-31 00:30", "2011-12-30 10:30"),
        ("Europe/Berlin", "9999-07-01 12:00", "9999-07-01 10:00"),
        ("Europe/Berlin", "9999-12-31 12:00", "9999-12-31 11:00"),
        ("America/New_York", "2100-03-14 02:30", "2100-03-14 07:30"),
        ("America/New_York", "2100-11-07 01:30", "2100-11-07 06:30"),
        ("Africa/Casablanca", "2150-03-01 12:00", "2150-03-01 11:00"),
    ] {
        let mut clock = ZoneClock::new(zone(name));
        assert_eq!(
            clock.instant_of(at(local)),
            at(instant),
            "{local} in {name}"
        );
        assert_eq!(
            clock.instant_of(at(local)),
            at(instant),
            "{local} in {name}"
        );
    }
    // Local mean time.
    let mut berlin = ZoneClock::new(zone("Europe/Berlin"));
    assert_eq!(
        berlin.instant_of(at("0001-07-01 12:00")),
        at("0001-07-01 11:07") - 28
    );
}

#[test]
fn a_clock_that_remembers_shows_what_the_zone_does() {
    for name in [
        "Europe/Berlin",
        "America/Noronha",
        "Asia/Gaza",
        "Pacific/Apia",
        "+02",
    ] {
        let mut clock = ZoneClock::new(zone(name));
        for quarter in 0..4 * 24 * 365 {
            let instant = at("2000-01-01 00:00") + quarter * HOUR / 4;
            let offset = zone(name).offset_at(instant);
            assert_eq!(clock.offset_at(instant), offset, "{instant} in {name}");
            let again = clock.instant_of(instant + offset);
            assert_eq!(
                again + clock.offset_at(again),
                instant + offset,
                "{instant} in {name}"
            );
        }
    }
}

#[test]
fn no_clock_changes_back_while_it_is_taken_to_be_steady() {
    const APART: i64 = 3;
    let days = (days_from_civil(1960, 1, 1)..days_from_civil(2040, 1, 1)).step_by(APART as usize);
    let span = (STEADY / DAY_SECONDS / APART + 2) as usize;
    for place in TZ_VARIANTS {
        let offsets = days.clone().map(|day| listed(place, day * DAY_SECONDS));
        let offsets: Vec<i64> = offsets.collect();
        for near in offsets.windows(span) {
            let changes_back = near[0] == near[span - 1] && near.iter().any(|it| *it != near[0]);
            assert!(!changes_back, "{}", place.name());
        }
    }
}

#[test]
fn extreme_instants_have_an_offset() {
    for name in ["Europe/Berlin", "Asia/Kathmandu", "+02"] {
        let mut clock = ZoneClock::new(zone(name));
        for instant in [i64::MIN, i64::MIN + 1, -1, i64::MAX - 1, i64::MAX] {
            clock.offset_at(instant);
            clock.instant_of(instant);
        }
    }
}
