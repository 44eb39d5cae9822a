//! Decimal numbers in text: read eight digits at a time, turned into any numeric column exactly.
//!
//! [`scan`] follows the grammar of JSON and keeps the first 19 digits as an integer and the decimal
//! point as an exponent, which is all that almost every number needs: an integer is done, and a
//! float whose digits fit 53 bits and whose exponent is at most 22 is one exact division or
//! multiplication (Clinger, "How to Read Floating Point Numbers Accurately", 1990). Anything else
//! goes back to the text: floats through `fast_float2`, integers and decimals through 128 bits.
//!
//! Eight digits are found and converted in one 64-bit word; the method is Lemire's, "Number Parsing
//! at a Gigabyte per Second", 2021. Whether a *string* is a number is decided here as well, by
//! [`quoted`] for JSON and [`field`] for CSV.

use super::fault::Fault;

/// A number as written, not yet of any type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number<'a> {
    pub negative: bool,
    /// The digits, if there are at most 19; otherwise meaningless.
    mantissa: u64,
    /// The value is `mantissa * 10^exponent`, if `short`.
    exponent: i32,
    /// Whether `mantissa` holds all digits.
    short: bool,
    /// The number as written, within the grammar of JSON.
    text: &'a [u8],
}

/// How a value between two representable ones is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// To the nearer; a half goes away from zero, as SQL casts do.
    HalfAway,
    /// To the lower.
    Floor,
}

const DIGITS_SHORT: usize = 19;
/// Enough to make every digit of a 64-bit float zero or infinite, and far from overflowing.
const EXPONENT_LIMIT: i32 = 100_000;

/// The powers of ten that a 64-bit float holds exactly.
const F64_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// The powers of ten that a 32-bit float holds exactly.
const F32_POWERS: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];
const U64_POWERS: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// The eight bytes at `at`, the first one lowest; `None` near the end of `buf`.
#[inline(always)]
pub(super) fn word(buf: &[u8], at: usize) -> Option<u64> {
    let bytes = buf.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// How many of the eight bytes, each already xored with `'0'`, are digits before the first other.
#[inline(always)]
fn leading_digits(digits: u64) -> u32 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let above_nine = digits.wrapping_add(0x7676_7676_7676_7676) | digits;
    (above_nine & HIGH).trailing_zeros() / 8
}

/// The value of eight digits, the most significant in the lowest byte.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    const MASK: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & MASK).wrapping_mul(0x000f_4240_0000_0064);
    let high = ((pairs >> 16) & MASK).wrapping_mul(0x0000_2710_0000_0001);
    low.wrapping_add(high) >> 32
}

/// Reads digits from `at` on into `value`, and returns where they end. Wraps beyond 19 digits.
#[inline(always)]
fn digits(buf: &[u8], mut at: usize, value: &mut u64) -> usize {
    while let Some(word) = word(buf, at) {
        let found = word ^ 0x3030_3030_3030_3030;
        let count = leading_digits(found);
        if count == 8 {
            *value = value
                .wrapping_mul(100_000_000)
                .wrapping_add(eight_digits(found));
            at += 8;
            continue;
        }
        if count > 0 {
            let padded = found << (64 - 8 * count);
            *value = value
                .wrapping_mul(U64_POWERS[count as usize])
                .wrapping_add(eight_digits(padded));
        }
        return at + count as usize;
    }
    while let Some(digit) = buf
        .get(at)
        .map(|byte| byte ^ b'0')
        .filter(|digit| *digit < 10)
    {
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    at
}

/// Reads the number that starts at `at`, and returns where it ends; `None` if none starts there.
#[inline(always)]
pub(super) fn scan(buf: &[u8], start: usize) -> Option<(Number<'_>, usize)> {
    let negative = *buf.get(start)? == b'-';
    let first = start + usize::from(negative);
    let mut mantissa = 0;
    let mut at = digits(buf, first, &mut mantissa);
    let mut count = at - first;
    if count == 0 || (count > 1 && buf[first] == b'0') {
        return None;
    }
    let mut exponent = 0;
    if buf.get(at) == Some(&b'.') {
        let end = digits(buf, at + 1, &mut mantissa);
        let fraction = end - at - 1;
        if fraction == 0 {
            return None;
        }
        count += fraction;
        exponent = -i32::try_from(fraction).ok()?;
        at = end;
    }
    if matches!(buf.get(at), Some(b'e' | b'E')) {
        let (power, end) = power(buf, at + 1)?;
        exponent = exponent.saturating_add(power);
        at = end;
    }
    let short = count <= DIGITS_SHORT;
    Some((
        Number {
            negative,
            mantissa,
            exponent,
            short,
            text: &buf[start..at],
        },
        at,
    ))
}

/// The exponent that starts after the `e`, limited, and where it ends.
#[cold]
fn power(buf: &[u8], at: usize) -> Option<(i32, usize)> {
    let sign = buf.get(at).filter(|sign| matches!(sign, b'+' | b'-'));
    let first = at + usize::from(sign.is_some());
    let length = buf[first..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if length == 0 {
        return None;
    }
    let add = |power: i32, digit: &u8| (power * 10 + i32::from(digit - b'0')).min(EXPONENT_LIMIT);
    let power = buf[first..first + length].iter().fold(0, add);
    Some((
        if sign == Some(&b'-') { -power } else { power },
        first + length,
    ))
}

/// The number that is the whole of a JSON string: `"50000.5"`.
pub(super) fn quoted(text: &[u8]) -> Option<Number<'_>> {
    scan(text, 0)
        .filter(|(_, end)| *end == text.len())
        .map(|(number, _)| number)
}

/// The number that is the whole of a CSV field: blanks around it, a plus sign and leading zeros are
/// let pass.
pub(super) fn field(text: &[u8]) -> Option<Number<'_>> {
    let text = text.trim_ascii();
    let text = text
        .strip_prefix(b"+")
        .filter(|rest| !rest.starts_with(b"-"))
        .unwrap_or(text);
    let zeros = text.iter().take_while(|byte| **byte == b'0').count();
    let needed = text.get(zeros).is_none_or(|byte| !byte.is_ascii_digit());
    quoted(&text[zeros - usize::from(needed && zeros > 0)..])
}

impl Number<'_> {
    /// The whole number this is; a fraction of zeros (`5.0`) is let pass.
    #[inline(always)]
    pub(super) fn whole(&self) -> Result<i128, Fault> {
        if self.short && self.exponent == 0 {
            let value = i128::from(self.mantissa);
            return Ok(if self.negative { -value } else { value });
        }
        self.whole_slow()
    }

    /// The whole number this is, if it is one within the limits.
    #[inline(always)]
    pub(super) fn whole_within(&self, min: i64, max: i64) -> Result<i64, Fault> {
        let value = self.whole()?;
        if value < i128::from(min) || value > i128::from(max) {
            return Err(Fault::Range);
        }
        Ok(value as i64)
    }

    #[cold]
    fn whole_slow(&self) -> Result<i128, Fault> {
        let (value, exponent) = self.wide();
        if value == 0 {
            return Ok(0);
        }
        if exponent >= 0 {
            return shift_up(value, exponent);
        }
        let unit = 10_i128
            .checked_pow(exponent.unsigned_abs())
            .ok_or(Fault::Fraction)?;
        if value % unit == 0 {
            Ok(value / unit)
        } else {
            Err(Fault::Fraction)
        }
    }

    /// This times `10^scale`, rounded to a whole number.
    #[inline]
    pub(super) fn scaled(&self, scale: i32, rounding: Rounding) -> Result<i128, Fault> {
        let (value, exponent) = if self.short {
            let value = i128::from(self.mantissa);
            (if self.negative { -value } else { value }, self.exponent)
        } else {
            self.wide()
        };
        let exponent = exponent.saturating_add(scale);
        if value == 0 {
            return Ok(0);
        }
        if exponent >= 0 {
            return shift_up(value, exponent);
        }
        Ok(shift_down(value, exponent.unsigned_abs(), rounding))
    }

    /// The first 38 significant digits, and the power of ten they are to be multiplied with.
    fn wide(&self) -> (i128, i32) {
        const DIGITS_WIDE: usize = 38;
        let (mut value, mut exponent, mut significant) = (0_i128, 0_i32, 0);
        let mut in_fraction = false;
        let mut rest = self.text.iter().enumerate();
        let mut written = 0;
        for (at, &byte) in rest.by_ref() {
            match byte {
                b'0'..=b'9' if significant < DIGITS_WIDE => {
                    value = value * 10 + i128::from(byte - b'0');
                    significant += usize::from(value != 0);
                    exponent -= i32::from(in_fraction);
                }
                b'0'..=b'9' => exponent += i32::from(!in_fraction),
                b'.' => in_fraction = true,
                b'e' | b'E' => {
                    written = power(self.text, at + 1).map_or(0, |(power, _)| power);
                    break;
                }
                _ => {}
            }
        }
        (
            if self.negative { -value } else { value },
            exponent.saturating_add(written),
        )
    }

    /// The nearest 64-bit float; none is near a number beyond its range.
    #[inline(always)]
    pub(super) fn float64(&self) -> Result<f64, Fault> {
        if self.short && self.mantissa <= 1 << 53 && self.exponent.unsigned_abs() <= 22 {
            let power = F64_POWERS[self.exponent.unsigned_abs() as usize];
            let digits = self.mantissa as f64;
            let value = if self.exponent < 0 {
                digits / power
            } else {
                digits * power
            };
            return Ok(if self.negative { -value } else { value });
        }
        self.float64_slow()
    }

    #[cold]
    fn float64_slow(&self) -> Result<f64, Fault> {
        let value: f64 = fast_float2::parse(self.text).map_err(|_| Fault::Type)?;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(Fault::Range)
        }
    }

    /// The nearest 32-bit float; none is near a number beyond its range.
    #[inline]
    pub(super) fn float32(&self) -> Result<f32, Fault> {
        if self.short && self.mantissa <= 1 << 24 && self.exponent.unsigned_abs() <= 10 {
            let power = F32_POWERS[self.exponent.unsigned_abs() as usize];
            let digits = self.mantissa as f32;
            let value = if self.exponent < 0 {
                digits / power
            } else {
                digits * power
            };
            return Ok(if self.negative { -value } else { value });
        }
        let value: f32 = fast_float2::parse(self.text).map_err(|_| Fault::Type)?;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(Fault::Range)
        }
    }
}

fn shift_up(value: i128, exponent: i32) -> Result<i128, Fault> {
    let unit = 10_i128
        .checked_pow(exponent.unsigned_abs())
        .ok_or(Fault::Range)?;
    value.checked_mul(unit).ok_or(Fault::Range)
}

fn shift_down(value: i128, places: u32, rounding: Rounding) -> i128 {
    let Some(unit) = 10_i128.checked_pow(places) else {
        let below_zero = value < 0 && rounding == Rounding::Floor;
        return -i128::from(below_zero);
    };
    match rounding {
        Rounding::Floor => value.div_euclid(unit),
        Rounding::HalfAway => {
            let (whole, rest) = (value / unit, value % unit);
            whole
                + if rest.abs() >= unit - rest.abs() {
                    value.signum()
                } else {
                    0
                }
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(number("1.5").whole(), Err(Fault::Fraction));
        assert_eq!(number("1e-99999999999").whole(), Err(Fault::Fraction));
        assert_eq!(number("1e39").whole(), Err(Fault::Range));
        assert_eq!(
            number("9223372036854775808").whole_within(i64::MIN, i64::MAX),
            Err(Fault::Range)
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
            assert_eq!(
                value.to_bits(),
                text.parse::<f64>().unwrap().to_bits(),
                "{text}"
            );
            let single: f32 = text.parse().unwrap();
            if single.is_finite() {
                assert_eq!(
                    number(text).float32().unwrap().to_bits(),
                    single.to_bits(),
                    "{text}"
                );
            }
        }
        assert_eq!(number("1e309").float64(), Err(Fault::Range));
        assert_eq!(number("1e39").float32(), Err(Fault::Range));
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
                proptest::prop_assert_eq!(found.to_bits(), text.parse::<f64>().unwrap().to_bits());
                if let Ok(found) = number(&text).float32() {
                    proptest::prop_assert_eq!(found.to_bits(), text.parse::<f32>().unwrap().to_bits());
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
        assert_eq!(number("1e38").scaled(5, Rounding::Floor), Err(Fault::Range));
    }
}
