//! What the units of Arrow timestamps are worth, and how a value of one becomes a value of another.
//!
//! A value is rounded down where the other unit is coarser, also before 1970, so that the order of
//! times never changes. What is beyond 64 bits is for the caller: exact in 128 bits
//! ([`convert_wide`]), refused ([`convert`]) or the nearest there is ([`convert_saturating`]).

use arrow::datatypes::TimeUnit;

/// Digits of a second that the unit counts: 0, 3, 6 or 9. SQL calls them the precision.
pub const fn precision(unit: TimeUnit) -> u32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// The unit of `TIMESTAMP(precision)`.
pub const fn of_precision(precision: u64) -> Option<TimeUnit> {
    match precision {
        0 => Some(TimeUnit::Second),
        3 => Some(TimeUnit::Millisecond),
        6 => Some(TimeUnit::Microsecond),
        9 => Some(TimeUnit::Nanosecond),
        _ => None,
    }
}

/// The number of units in a second.
pub const fn per_second(unit: TimeUnit) -> i64 {
    [1, 1_000, 1_000_000, 1_000_000_000][precision(unit) as usize / 3]
}

/// `value` in another unit, rounded down.
#[inline]
pub const fn convert_wide(value: i64, from: TimeUnit, to: TimeUnit) -> i128 {
    let (from, to) = (per_second(from), per_second(to));
    match to >= from {
        true => value as i128 * (to / from) as i128,
        false => value.div_euclid(from / to) as i128,
    }
}

/// `value` in another unit, rounded down; `None` if it does not fit.
#[inline]
pub fn convert(value: i64, from: TimeUnit, to: TimeUnit) -> Option<i64> {
    i64::try_from(convert_wide(value, from, to)).ok()
}

/// `value` in another unit, rounded down; `i64::MIN` or `i64::MAX` if it does not fit.
#[inline]
pub fn convert_saturating(value: i64, from: TimeUnit, to: TimeUnit) -> i64 {
    convert(value, from, to).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimeUnit::{Microsecond as Us, Millisecond as Ms, Nanosecond as Ns, Second as S};

    #[test]
    fn values_are_rounded_down_and_never_wrap() {
        for (value, from, to, expected) in [
            (1_999, Ms, S, 1),
            (-1, Ms, S, -1),
            (-1_000, Ns, Us, -1),
            (-1_001, Ns, Us, -2),
            (7, S, Ns, 7_000_000_000),
            (i64::MIN, Us, Us, i64::MIN),
        ] {
            assert_eq!(convert(value, from, to), Some(expected));
            assert_eq!(convert_saturating(value, from, to), expected);
        }
        assert_eq!(convert(i64::MAX, S, Ms), None);
        assert_eq!(convert_saturating(i64::MAX, S, Ms), i64::MAX);
        assert_eq!(convert_saturating(i64::MIN, S, Ms), i64::MIN);
        assert_eq!(convert_wide(i64::MAX, S, Ms), i128::from(i64::MAX) * 1_000);
    }

    #[test]
    fn each_unit_is_of_its_precision() {
        for unit in [S, Ms, Us, Ns] {
            assert_eq!(of_precision(precision(unit).into()), Some(unit));
        }
        assert_eq!(of_precision(4), None);
    }
}
