//! What the statement tests cannot show: text that must not panic, and reading what was written.

use proptest::prelude::*;

use super::number_pattern::NumberPattern;
use super::number_writer::{NumberValue, NumberWriter};
use super::similar_to::regular_expression;
use super::time_pattern::TimePattern;
use super::time_reader::TimeReader;
use super::time_writer::TimeParts;

/// Templates and marks, as many as there are, in any order.
fn pattern() -> impl Strategy<Value = String> {
    let parts = [
        "HH24", "HH12", "MI", "SS", "MS", "US", "FF3", "SSSSS", "AM", "YYYY", "Y,YYY", "YY",
        "IYYY", "IW", "ID", "IDDD", "BC", "Month", "MON", "RM", "MM", "DD", "DDD", "D", "Day",
        "DY", "WW", "W", "CC", "J", "Q", "TZH", "TZM", "FM", "FX", "TH", "th", "TM", "\"é\"", "-",
        " ", "\\\"", "9", "0", ".", "D", "G", ",", "S", "MI", "PL", "SG", "PR", "RN", "V", "EEEE",
        "L", "B", "é",
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 0..8).prop_map(|it| it.concat())
}

proptest! {
    #[test]
    fn no_pattern_and_no_value_panic(
        pattern in pattern(),
        us in any::<i64>(),
        text in "[ 0-9a-zé:.,+-]{0,24}",
        float in any::<f64>(),
        int in any::<i32>(),
    ) {
        let mut out = String::new();
        if let Ok(pattern) = TimePattern::new(&pattern) {
            pattern.write(&TimeParts::of_timestamp(us, true), &mut out);
        }
        if let Ok(pattern) = TimePattern::of_interval(&pattern) {
            pattern.write_interval(&TimeParts::of_interval(int.into(), int.into(), us), &mut out);
        }
        if let Ok(reader) = TimeReader::new(&pattern) {
            let _ = reader.timestamp_us(&text);
            let _ = reader.date(&text);
        }
        if let Ok(pattern) = NumberPattern::new(&pattern) {
            let mut writer = NumberWriter::new(&pattern);
            writer.write(NumberValue::Float64(float), &mut out);
            writer.write(NumberValue::Float32(float as f32), &mut out);
            writer.write(NumberValue::Int32(int), &mut out);
            let digits = us.to_string();
            for scale in [-3, 0, 2, 30] {
                writer.write(NumberValue::Decimal { digits: &digits, scale }, &mut out);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back(us in -62_135_596_800_000_000..253_402_300_800_000_000_i64) {
        for pattern in [
            "YYYY-MM-DD HH24:MI:SS.US",
            "Day, DDth Month YYYY HH12:MI:SS.US AM",
            "IYYY-IW-ID SSSSS US",
            "YYYYDDDHH24MISSUS",
            "J SSSSS.US",
        ] {
            let mut text = String::new();
            let parts = TimeParts::of_timestamp(us, false);
            TimePattern::new(pattern).unwrap().write(&parts, &mut text);
            let read = TimeReader::new(pattern).unwrap().timestamp_us(&text);
            prop_assert_eq!(read, Ok(us), "{} {}", pattern, text);
        }
    }

    #[test]
    fn a_translated_pattern_is_a_regular_expression(pattern in "[a%_|()*+?{},0-9\\[\\]^:\\\\-]{0,16}") {
        if let Ok(regex) = regular_expression(&pattern, '\\') {
            prop_assert!(regex::Regex::new(&regex).is_ok(), "{} {}", pattern, regex);
        }
    }
}

#[test]
fn sizes_at_the_ends_of_the_types_are_written() {
    let written = |pattern: &str, digits: &str, scale| {
        let pattern = NumberPattern::new(pattern).unwrap();
        let mut out = String::new();
        NumberWriter::new(&pattern).write(NumberValue::Decimal { digits, scale }, &mut out);
        out
    };
    assert_eq!(written("FM9.99", "5", 3), ".01");
    assert_eq!(written("FM0.99", "-4", 3), "0.");
    assert_eq!(written("FM99V9", "12", 1), "12");
    assert_eq!(written("9.9EEEE", &i128::MIN.to_string(), 0), "-1.7e+38");
}
