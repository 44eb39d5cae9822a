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

use super::fault::DecodeFault;

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
    /// To the lower, also below zero.
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
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000,
];

/// The eight bytes at `at`, the first one lowest; `None` near the end of `buf`.
#[inline(always)]
pub(super) fn word(buf: &[u8], at: usize) -> Option<u64> {
    let bytes = buf.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// The number of digits before the first other byte; each byte is already xored with `'0'`.
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
/// accepted.
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

/// The value of `nan`, `inf` or `infinity`, in any case, with a sign or without.
pub(super) fn non_finite(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii();
    let (negative, word) = match text {
        [b'-', word @ ..] => (true, word),
        [b'+', word @ ..] => (false, word),
        word => (false, word),
    };
    let value = match () {
        // There is one NaN, without a sign.
        () if word.eq_ignore_ascii_case(b"nan") => return Some(f64::NAN),
        () if word.eq_ignore_ascii_case(b"inf") => f64::INFINITY,
        () if word.eq_ignore_ascii_case(b"infinity") => f64::INFINITY,
        () => return None,
    };
    Some(if negative { -value } else { value })
}

impl Number<'_> {
    /// The whole number this is; a fraction of zeros (`5.0`) is accepted.
    #[inline(always)]
    pub(super) fn whole(&self) -> Result<i128, DecodeFault> {
        if self.short && self.exponent == 0 {
            let value = i128::from(self.mantissa);
            return Ok(if self.negative { -value } else { value });
        }
        self.whole_slow()
    }

    /// The whole number this is, if it is one within the limits.
    #[inline(always)]
    pub(super) fn whole_within(&self, min: i64, max: i64) -> Result<i64, DecodeFault> {
        let value = self.whole()?;
        if value < i128::from(min) || value > i128::from(max) {
            return Err(DecodeFault::Range);
        }
        Ok(value as i64)
    }

    #[cold]
    fn whole_slow(&self) -> Result<i128, DecodeFault> {
        let (value, exponent) = self.wide();
        if value == 0 {
            return Ok(0);
        }
        if exponent >= 0 {
            return shift_up(value, exponent);
        }
        let unit = 10_i128
            .checked_pow(exponent.unsigned_abs())
            .ok_or(DecodeFault::Fraction)?;
        if value % unit == 0 {
            Ok(value / unit)
        } else {
            Err(DecodeFault::Fraction)
        }
    }

    /// This times `10^scale`, rounded to a whole number.
    #[inline]
    pub(super) fn scaled(&self, scale: i32, rounding: Rounding) -> Result<i128, DecodeFault> {
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

    /// The nearest 64-bit float, never -0.0; a number beyond its range has none.
    #[inline(always)]
    pub(super) fn float64(&self) -> Result<f64, DecodeFault> {
        if self.short && self.mantissa <= 1 << 53 && self.exponent.unsigned_abs() <= 22 {
            let power = F64_POWERS[self.exponent.unsigned_abs() as usize];
            let digits = self.mantissa as f64;
            let value = if self.exponent < 0 {
                digits / power
            } else {
                digits * power
            };
            return Ok(if self.negative { 0.0 - value } else { value });
        }
        self.float64_slow()
    }

    #[cold]
    fn float64_slow(&self) -> Result<f64, DecodeFault> {
        let value: f64 = fast_float2::parse(self.text).map_err(|_| DecodeFault::Type)?;
        match value.is_finite() {
            // Adding 0.0 makes 0.0 of a -0.0.
            true => Ok(value + 0.0),
            false => Err(DecodeFault::Range),
        }
    }

    /// The nearest 32-bit float, never -0.0; a number beyond its range has none.
    #[inline]
    pub(super) fn float32(&self) -> Result<f32, DecodeFault> {
        if self.short && self.mantissa <= 1 << 24 && self.exponent.unsigned_abs() <= 10 {
            let power = F32_POWERS[self.exponent.unsigned_abs() as usize];
            let digits = self.mantissa as f32;
            let value = if self.exponent < 0 {
                digits / power
            } else {
                digits * power
            };
            return Ok(if self.negative { 0.0 - value } else { value });
        }
        let value: f32 = fast_float2::parse(self.text).map_err(|_| DecodeFault::Type)?;
        match value.is_finite() {
            true => Ok(value + 0.0),
            false => Err(DecodeFault::Range),
        }
    }
}

fn shift_up(value: i128, exponent: i32) -> Result<i128, DecodeFault> {
    let unit = 10_i128
        .checked_pow(exponent.unsigned_abs())
        .ok_or(DecodeFault::Range)?;
    value.checked_mul(unit).ok_or(DecodeFault::Range)
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
mod tests;
