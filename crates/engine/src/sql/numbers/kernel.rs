//! Checked arithmetic on whole arrays.
//!
//! The loop over the rows computes a value and whether it is **odd**: certainly or possibly wrong. It has
//! no branch, so it is vectorised where the processor can. Only if a value was odd, a second loop settles the rows
//! that are not NULL one by one: a NULL may have any value below it.

use std::fmt::Display;

use arrow::array::{Array, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;

use super::arithmetic::Operation;
use super::fault::ValueFault;
use crate::canonical::Canonical;

/// A number with which SQL computes.
pub(super) trait SqlNumber: Copy + Default + Display {
    /// Each operation returns the value, and whether it is odd.
    fn add(x: Self, y: Self) -> (Self, bool);
    fn subtract(x: Self, y: Self) -> (Self, bool);
    fn multiply(x: Self, y: Self) -> (Self, bool);
    fn divide(x: Self, y: Self) -> (Self, bool);
    fn modulo(x: Self, y: Self) -> (Self, bool);
    /// The distance of `y` from 0.
    fn absolute(x: Self, y: Self) -> (Self, bool);

    /// The result of an operation whose value is odd.
    fn settle(operation: Operation, x: Self, y: Self, value: Self) -> Result<Self, ValueFault>;

    fn compute(operation: Operation, x: Self, y: Self) -> (Self, bool) {
        match operation {
            Operation::Add => Self::add(x, y),
            Operation::Subtract | Operation::Negate => Self::subtract(x, y),
            Operation::Multiply => Self::multiply(x, y),
            Operation::Divide => Self::divide(x, y),
            Operation::Modulo => Self::modulo(x, y),
            Operation::Absolute => Self::absolute(x, y),
        }
    }
}

/// The closures get both sides and the wrapped value, and return whether that is wrong. They are vectorised,
/// which the flag of `overflowing_add` is not.
macro_rules! integers {
    ($($integer:ty),+; add: $add:expr, subtract: $subtract:expr) => {$(
        impl SqlNumber for $integer {
            #[inline(always)]
            fn add(x: Self, y: Self) -> (Self, bool) {
                let (value, is_odd): (Self, fn(Self, Self, Self) -> bool) = (x.wrapping_add(y), $add);
                (value, is_odd(x, y, value))
            }

            #[inline(always)]
            fn subtract(x: Self, y: Self) -> (Self, bool) {
                let (value, is_odd): (Self, fn(Self, Self, Self) -> bool) = (x.wrapping_sub(y), $subtract);
                (value, is_odd(x, y, value))
            }

            #[inline(always)]
            fn multiply(x: Self, y: Self) -> (Self, bool) {
                x.overflowing_mul(y)
            }

            #[inline(always)]
            fn divide(x: Self, y: Self) -> (Self, bool) {
                if y == 0 { (0, true) } else { x.overflowing_div(y) }
            }

            #[inline(always)]
            fn modulo(x: Self, y: Self) -> (Self, bool) {
                // The least integer modulo -1 is 0.
                if y == 0 { (0, true) } else { (x.wrapping_rem(y), false) }
            }

            #[inline(always)]
            fn absolute(_: Self, y: Self) -> (Self, bool) {
                let zero = Self::default();
                if y < zero { zero.overflowing_sub(y) } else { (y, false) }
            }

            fn settle(operation: Operation, _: Self, y: Self, _: Self) -> Result<Self, ValueFault> {
                match operation {
                    Operation::Divide | Operation::Modulo if y == 0 => Err(ValueFault::DivisionByZero),
                    _ => Err(ValueFault::OutOfRange),
                }
            }
        }
    )+};
}

// The sign of a sum is wrong if it is that of neither side.
integers!(
    i8, i16, i32, i64;
    add: |x, y, value| (x ^ value) & (y ^ value) < 0,
    subtract: |x, y, value| (x ^ y) & (x ^ value) < 0
);
integers!(u8, u16, u32, u64; add: |x, _, value| value < x, subtract: |x, y, _| x < y);

macro_rules! float {
    ($($float:ty),+) => {$(
        impl SqlNumber for $float {
            #[inline(always)]
            fn add(x: Self, y: Self) -> (Self, bool) {
                // Adding 0.0 makes a -0.0 canonical.
                let value = x + y + 0.0;
                (value, !value.is_finite())
            }

            #[inline(always)]
            fn subtract(x: Self, y: Self) -> (Self, bool) {
                let value = x - y + 0.0;
                (value, !value.is_finite())
            }

            #[inline(always)]
            fn multiply(x: Self, y: Self) -> (Self, bool) {
                let value = x * y + 0.0;
                (value, !value.is_finite() | (value == 0.0))
            }

            #[inline(always)]
            fn divide(x: Self, y: Self) -> (Self, bool) {
                let value = x / y + 0.0;
                (value, !value.is_finite() | (value == 0.0))
            }

            #[inline(always)]
            fn modulo(x: Self, y: Self) -> (Self, bool) {
                let value = x % y + 0.0;
                (value, value.is_nan())
            }

            #[inline(always)]
            fn absolute(_: Self, y: Self) -> (Self, bool) {
                (y.abs(), false)
            }

            fn settle(operation: Operation, x: Self, y: Self, value: Self) -> Result<Self, ValueFault> {
                let divides = operation == Operation::Divide;
                if divides && y == 0.0 && !x.is_nan() {
                    return Err(ValueFault::DivisionByZero);
                }
                let overflows = value.is_infinite() && x.is_finite() && y.is_finite();
                let underflows = value == 0.0
                    && x != 0.0
                    && match operation {
                        Operation::Multiply => y != 0.0,
                        Operation::Divide => y.is_finite(),
                        _ => false,
                    };
                match overflows || underflows {
                    true => Err(ValueFault::OutOfRange),
                    false => Ok(value.canonical()),
                }
            }
        }
    )+};
}

float!(f32, f64);

/// One side of an operation: a value for each row, or one for all rows.
pub(super) enum Side<'a, T: ArrowPrimitiveType> {
    Rows(&'a PrimitiveArray<T>),
    Same(T::Native),
}

impl<'a, T: ArrowPrimitiveType> Side<'a, T> {
    /// `array` as a side; with `same` its only value, which is not NULL, is that of all rows.
    pub fn new(array: &'a dyn Array, same: bool) -> Self {
        let array = array.as_primitive::<T>();
        match same {
            true => Self::Same(array.value(0)),
            false => Self::Rows(array),
        }
    }

    fn value(&self, row: usize) -> T::Native {
        match self {
            Self::Rows(rows) => rows.value(row),
            Self::Same(value) => *value,
        }
    }

    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Self::Rows(rows) => rows.nulls(),
            Self::Same(_) => None,
        }
    }
}

/// The first row that has no result, with its values.
pub(super) struct FailedRow<N> {
    pub fault: ValueFault,
    pub x: N,
    pub y: N,
}

/// The result for each row; for one row if both sides have the same value for all.
pub(super) fn compute<T>(
    operation: Operation,
    left: Side<'_, T>,
    right: Side<'_, T>,
) -> Result<PrimitiveArray<T>, FailedRow<T::Native>>
where
    T: ArrowPrimitiveType<Native: SqlNumber>,
{
    // A loop for each operation, without a branch within.
    let (mut values, odd) = match operation {
        Operation::Add => each(&left, &right, T::Native::add),
        Operation::Subtract | Operation::Negate => each(&left, &right, T::Native::subtract),
        Operation::Multiply => each(&left, &right, T::Native::multiply),
        Operation::Divide => each(&left, &right, T::Native::divide),
        Operation::Modulo => each(&left, &right, T::Native::modulo),
        Operation::Absolute => each(&left, &right, T::Native::absolute),
    };
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    if odd {
        for (row, value) in values.iter_mut().enumerate() {
            let (x, y) = (left.value(row), right.value(row));
            let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            if !is_null && T::Native::compute(operation, x, y).1 {
                let settled = T::Native::settle(operation, x, y, *value);
                *value = settled.map_err(|fault| FailedRow { fault, x, y })?;
            }
        }
    }
    Ok(PrimitiveArray::new(values.into(), nulls))
}

#[inline(always)]
fn each<T: ArrowPrimitiveType>(
    left: &Side<'_, T>,
    right: &Side<'_, T>,
    one: impl Fn(T::Native, T::Native) -> (T::Native, bool),
) -> (Vec<T::Native>, bool) {
    let mut odd = false;
    let mut one = |x, y| {
        let (value, is_odd) = one(x, y);
        odd |= is_odd;
        value
    };
    let values = match (left, right) {
        (Side::Rows(left), Side::Rows(right)) => {
            let pairs = left.values().iter().zip(right.values());
            pairs.map(|(&x, &y)| one(x, y)).collect()
        }
        (Side::Rows(left), &Side::Same(y)) => left.values().iter().map(|&x| one(x, y)).collect(),
        (&Side::Same(x), Side::Rows(right)) => right.values().iter().map(|&y| one(x, y)).collect(),
        (&Side::Same(x), &Side::Same(y)) => vec![one(x, y)],
    };
    (values, odd)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int8Array;
    use arrow::datatypes::{Int8Type, UInt8Type};

    use super::*;

    const OPERATIONS: [Operation; 7] = [
        Operation::Add,
        Operation::Subtract,
        Operation::Multiply,
        Operation::Divide,
        Operation::Modulo,
        Operation::Negate,
        Operation::Absolute,
    ];

    /// The result in integers that are wide enough.
    fn exact(operation: Operation, x: i32, y: i32) -> Option<i32> {
        match operation {
            Operation::Add => Some(x + y),
            Operation::Subtract | Operation::Negate => Some(x - y),
            Operation::Multiply => Some(x * y),
            Operation::Divide => x.checked_div(y),
            Operation::Modulo => x.checked_rem(y),
            Operation::Absolute => Some(y.abs()),
        }
    }

    /// Compares all pairs of values, as a column with a column and with a constant.
    fn compare<T>(all: impl Iterator<Item = T::Native> + Clone)
    where
        T: ArrowPrimitiveType<
            Native: SqlNumber + Into<i32> + TryFrom<i32> + PartialEq + std::fmt::Debug,
        >,
    {
        for operation in OPERATIONS {
            for x in all.clone() {
                for y in all.clone() {
                    let expected = exact(operation, x.into(), y.into());
                    let expected = expected.and_then(|it| T::Native::try_from(it).ok());
                    let column = |value| PrimitiveArray::<T>::from_iter_values([value]);
                    let (left, right) = (column(x), column(y));
                    let given = compute::<T>(operation, Side::Rows(&left), Side::Rows(&right));
                    assert_eq!(
                        given.ok().map(|it| it.value(0)),
                        expected,
                        "{operation:?} {x} {y}"
                    );
                    let given = compute::<T>(operation, Side::Rows(&left), Side::Same(y));
                    assert_eq!(
                        given.ok().map(|it| it.value(0)),
                        expected,
                        "{operation:?} {x} {y}"
                    );
                }
            }
        }
    }

    #[test]
    fn all_pairs_of_bytes_are_right_or_fail() {
        compare::<Int8Type>(i8::MIN..=i8::MAX);
        compare::<UInt8Type>(u8::MIN..=u8::MAX);
    }

    #[test]
    fn a_value_below_null_does_not_count() {
        let greatest = Int8Array::new(vec![i8::MAX, 1].into(), Some(vec![false, true].into()));
        let sum = compute::<Int8Type>(Operation::Add, Side::Rows(&greatest), Side::Same(1));
        let sum = sum.ok().map(|it| it.iter().collect::<Vec<_>>());
        assert_eq!(sum, Some(vec![None, Some(2)]));
    }
}
