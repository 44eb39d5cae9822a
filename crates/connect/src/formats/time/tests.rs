//! Times in text against `jiff`, which parses the same forms with the same strictness, except for leap
//! seconds, fractions of more than nine digits and texts without an offset.

use std::hint::black_box;
use std::time::Instant;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::fmt::temporal::DateTimeParser;
use proptest::prelude::*;

use super::*;

fn millis(text: &str) -> Result<i64, DecodeFault> {
    parse_timestamp(text.as_bytes(), TimeUnit::Millisecond)
}

fn micros(text: &[u8]) -> Option<i64> {
    parse_timestamp(text, TimeUnit::Microsecond).ok()
}

fn jiff_micros(text: &[u8]) -> Option<i64> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    let parsed = PARSER.parse_timestamp(text).ok()?;
    let nanos = parsed.as_nanosecond();
    i64::try_from(nanos.div_euclid(1_000)).ok()
}

/// Two whole cycles of the calendar day by day, then in steps of 97 days up to the year 9999.
#[test]
fn days_of_ten_thousand_years_survive() {
    let mut day = Date::new(0, 1, 1).unwrap();
    let mut expected = -719_528;
    let mut out = Vec::new();
    loop {
        let text = day.to_string();
        assert_eq!(parse_date(text.as_bytes()), Some(expected));
        out.clear();
        write_date(i64::from(expected), &mut out);
        assert_eq!(out, text.as_bytes());
        let step = if day.year() < 800 { 1 } else { 97 };
        let Ok(next) = day.checked_add(jiff::Span::new().days(step)) else {
            break;
        };
        (day, expected) = (next, expected + step);
    }
    assert_eq!(parse_date(b"1970-01-01"), Some(0));
}

proptest! {
    /// Fields slightly beyond their ranges, so that about half of the texts are refused.
    #[test]
    fn timestamps_are_those_of_jiff(
        (year, month, day) in (0..9999_u16, 0..=13_u8, 0..=32_u8),
        (hour, minute, second) in (0..=24_u8, 0..=60_u8, 0..=59_u8),
        separator in prop::sample::select(vec!["T", "t", " ", "x"]),
        fraction in prop_oneof![Just(String::new()), "[.,][0-9]{0,9}"],
        offset in prop_oneof!["[Zz]", "[+-][0-2][0-9]:?[0-6][0-9]", "[+-][0-2][0-9]"],
        (position, damage) in (any::<prop::sample::Index>(), prop::option::weighted(0.2, "[0-9:.TZ+-]")),
    ) {
        let mut text = format!(
            "{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{offset}"
        );
        let (found, known) = (micros(text.as_bytes()), jiff_micros(text.as_bytes()));
        // `jiff` also takes offsets of 24 and 25 hours.
        prop_assert!(found == known || found.is_none() && offset[1..].starts_with("2"), "{}", text);
        if let Some(damage) = damage {
            let position = position.index(text.len());
            text.replace_range(position..=position, &damage);
            let leap = text.contains(":60");
            if let (Some(found), Some(known), false) = (micros(text.as_bytes()), jiff_micros(text.as_bytes()), leap) {
                prop_assert_eq!(found, known, "{}", text);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_by_both(us in -62_000_000_000_000_000..253_000_000_000_000_000_i64) {
        let mut out = Vec::new();
        write_timestamp(us, TimeUnit::Microsecond, &mut out);
        prop_assert_eq!(micros(&out), Some(us));
        prop_assert_eq!(jiff_micros(&out), Some(us));
    }
}

#[test]
fn timestamps_are_read_in_their_usual_forms() {
    for text in [
        "2023-11-14T22:13:20Z",
        "2023-11-14 22:13:20",
        "2023-11-14T23:13:20+01:00",
        "2023-11-14t22:13:20z",
        "2023-11-14T17:13:20-0500",
        "2023-11-14 22:13:20.000000 UTC",
        "2023-11-14T22:13:20.00099999999999Z",
    ] {
        assert_eq!(millis(text), Ok(1_700_000_000_000), "{text}");
    }
    assert_eq!(millis("2023-11-14T22:12:60Z"), Ok(1_699_999_980_000));
    assert_eq!(millis("2023-11-14"), Ok(1_699_920_000_000));
    assert_eq!(millis("2023-11-14T22:13"), Ok(1_699_999_980_000));
    assert_eq!(millis("1969-12-31T23:59:59.9999"), Ok(-1));
}

#[test]
fn what_is_not_a_timestamp_is_refused() {
    for text in [
        "",
        "now",
        "2023-13-01",
        "2023-02-29",
        "2023-11-14T24:00:00",
        "2023-11-14T22:60:00",
        "2023-11-14T22:13:61Z",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:20X",
        "2023-11-14T22:13:20+1",
        "2023-11-14x22:13:20",
        "23-11-14",
        "2023-11-14T",
    ] {
        assert_eq!(millis(text), Err(DecodeFault::Type), "{text:?}");
    }
    let far = parse_timestamp(b"9999-01-01", TimeUnit::Nanosecond);
    assert_eq!(far, Err(DecodeFault::Range));
}

#[test]
fn timestamps_are_written_as_short_as_they_are_exact() {
    for (value, unit, expected) in [
        (1_700_000_000, TimeUnit::Second, "2023-11-14T22:13:20Z"),
        (
            1_700_000_000_120,
            TimeUnit::Millisecond,
            "2023-11-14T22:13:20.120Z",
        ),
        (-1, TimeUnit::Microsecond, "1969-12-31T23:59:59.999999Z"),
        (1, TimeUnit::Nanosecond, "1970-01-01T00:00:00.000000001Z"),
    ] {
        let mut out = Vec::new();
        write_timestamp(value, unit, &mut out);
        assert_eq!(String::from_utf8(out.clone()).unwrap(), expected);
        assert_eq!(parse_timestamp(&out, unit), Ok(value));
    }
    let mut out = Vec::new();
    write_timestamp(i64::MIN, TimeUnit::Second, &mut out);
    assert!(!out.is_empty());
}

/// Prints nanoseconds per value of both, the best of 15 passes over 100,000 texts.
#[test]
#[ignore = "a measurement; needs --release"]
fn beside_jiff() {
    let nanos = |texts: &[String], parse: fn(&[u8]) -> Option<i64>| {
        let pass = || {
            let start = Instant::now();
            texts.iter().for_each(|text| {
                black_box(parse(black_box(text.as_bytes())));
            });
            start.elapsed().as_secs_f64() * 1e9 / texts.len() as f64
        };
        (0..15).map(|_| pass()).fold(f64::MAX, f64::min)
    };
    let text = |number: i64, step: i64| {
        let us = 1_700_000_000_000_000 + number * 86_399_123_457;
        Timestamp::from_microsecond(us / step * step)
            .unwrap()
            .to_string()
    };
    let texts = |form: &dyn Fn(i64) -> String| (0..100_000).map(form).collect::<Vec<_>>();
    for (name, texts) in [
        ("no fraction", texts(&|n| text(n, 1_000_000))),
        ("milliseconds", texts(&|n| text(n, 1_000))),
        ("microseconds", texts(&|n| text(n, 1))),
        ("blank for T", texts(&|n| text(n, 1).replace('T', " "))),
        ("offset", texts(&|n| text(n, 1).replace('Z', "+01:00"))),
    ] {
        let (ours, jiff) = (nanos(&texts, micros), nanos(&texts, jiff_micros));
        println!(
            "{name:<14} {ours:5.1} ns, jiff {jiff:5.1} ns, {:.1}x",
            jiff / ours
        );
    }
}
