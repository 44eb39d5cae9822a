//! Numbers against the parser of the standard library.

use super::*;

fn number(text: &str) -> Number<'_> {
    quoted(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a number"))
}

#[test]
fn whole_numbers_of_every_length_are_exact() {
    let mut text = String::new();
    for digit in "1234567890123456789012345678901".chars() {
        text.push(digit);
        assert_eq!(number(&text).whole(), Ok(text.parse::<i128>().unwrap()));
        let negative = format!("-{text}");
        assert_eq!(
            number(&negative).whole(),
            Ok(negative.parse::<i128>().unwrap())
        );
    }
}

#[test]
fn whole_numbers_may_have_an_exponent_or_zeros_behind_the_point() {
    assert_eq!(number("5.0").whole(), Ok(5));
    assert_eq!(number("15e2").whole(), Ok(1500));
    assert_eq!(number("1500e-2").whole(), Ok(15));
    assert_eq!(number("0e99999999999").whole(), Ok(0));
    assert_eq!(number("1.5").whole(), Err(DecodeFault::Fraction));
    assert_eq!(number("1e-99999999999").whole(), Err(DecodeFault::Fraction));
    assert_eq!(number("1e39").whole(), Err(DecodeFault::Range));
    assert_eq!(
        number("9223372036854775808").whole_within(i64::MIN, i64::MAX),
        Err(DecodeFault::Range)
    );
    assert_eq!(
        number("-9223372036854775808").whole_within(i64::MIN, i64::MAX),
        Ok(i64::MIN)
    );
}

#[test]
fn what_is_no_json_number_is_refused() {
    for text in [
        "", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "1.e1", "0x1", "1 ", "NaN", "--1",
    ] {
        assert_eq!(quoted(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn fields_may_be_written_more_freely() {
    for (text, value) in [
        (" 7 ", 7),
        ("+7", 7),
        ("007", 7),
        ("0", 0),
        ("000", 0),
        ("-3", -3),
    ] {
        assert_eq!(
            field(text.as_bytes()).unwrap().whole(),
            Ok(value),
            "{text:?}"
        );
    }
    assert_eq!(field(b"00.5").unwrap().float64(), Ok(0.5));
    for text in ["", " ", "+", "+-1", "1x"] {
        assert_eq!(field(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn floats_are_the_nearest() {
    for text in [
        "0",
        "-0.0",
        "-0",
        "-0.00000000000000000000000000000000000000000000000000",
        "0.1",
        "50000.5",
        "1e22",
        "1e23",
        "9007199254740993",
        "2.2250738585072011e-308",
        "5e-324",
        "1.7976931348623157e308",
        "123456789012345678901234567890",
        "0.000000000000000000001",
        "3.4028234e38",
        "16777217",
        "0.3",
        "8.41e21",
        "9.5367431640625e-7",
    ] {
        let value = number(text).float64().unwrap();
        // There is no -0.0.
        assert_eq!(
            value.to_bits(),
            (text.parse::<f64>().unwrap() + 0.0).to_bits(),
            "{text}"
        );
        let single: f32 = text.parse::<f32>().unwrap() + 0.0;
        if single.is_finite() {
            assert_eq!(
                number(text).float32().unwrap().to_bits(),
                single.to_bits(),
                "{text}"
            );
        }
    }
    assert_eq!(number("1e309").float64(), Err(DecodeFault::Range));
    assert_eq!(number("1e39").float32(), Err(DecodeFault::Range));
}

proptest::proptest! {
    #[test]
    fn random_floats_are_the_nearest(
        digits in proptest::prop_oneof![0..100_000_u64, proptest::num::u64::ANY, (1 << 52)..(1_u64 << 55)],
        point in 0..20_usize,
        exponent in -40..40_i32,
    ) {
        let mut text = digits.to_string();
        if point > 0 && point < text.len() {
            text.insert(point, '.');
        }
        for text in [text.clone(), format!("-{text}e{exponent}")] {
            let found = number(&text).float64().unwrap();
            proptest::prop_assert_eq!(found.to_bits(), (text.parse::<f64>().unwrap() + 0.0).to_bits());
            if let Ok(found) = number(&text).float32() {
                proptest::prop_assert_eq!(found.to_bits(), (text.parse::<f32>().unwrap() + 0.0).to_bits());
            }
        }
    }
}

#[test]
fn scaling_rounds_as_asked() {
    let scaled = |text, scale, rounding| number(text).scaled(scale, rounding).unwrap();
    assert_eq!(scaled("1.005", 2, Rounding::HalfAway), 101);
    assert_eq!(scaled("-1.005", 2, Rounding::HalfAway), -101);
    assert_eq!(scaled("1.0049", 2, Rounding::HalfAway), 100);
    assert_eq!(scaled("1700000000123", -3, Rounding::Floor), 1_700_000_000);
    assert_eq!(scaled("-1", -3, Rounding::Floor), -1);
    assert_eq!(scaled("-1e-200", 3, Rounding::Floor), -1);
    assert_eq!(scaled("1e-200", 3, Rounding::HalfAway), 0);
    assert_eq!(
        scaled(
            "0.12345678901234567890123456789012345678901",
            5,
            Rounding::HalfAway
        ),
        12346
    );
    assert_eq!(
        number("1e38").scaled(5, Rounding::Floor),
        Err(DecodeFault::Range)
    );
}
