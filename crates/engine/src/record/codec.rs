//! Writing one field of a record as a column, and reading it back.
//!
//! A [`Scalar`] is a value that is never NULL; [`Codec`] adds `Option` for nullable columns and
//! the attribute `timestamp`, with which an `i64` is stored as a time:
//!
//! ```text
//!   field: T          Plain: Codec<T>            T: Scalar     no null bits
//!   field: Option<T>  Plain: Codec<Option<T>>    T: Scalar     null bits from is_some()
//!   #[record(timestamp = "ms")] i64   InUnit<Milliseconds>: Codec<i64>
//! ```
//!
//! The derive names only the codec and lets the compiler find the field's type. `number`, `text` and
//! `time` implement the traits of this file.

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

/// The values of one field, in the order of the rows; `None` where the column is NULL.
pub trait Values<'a, T: 'a>: ExactSizeIterator<Item = Option<&'a T>> + Clone {}

impl<'a, T: 'a, I: ExactSizeIterator<Item = Option<&'a T>> + Clone> Values<'a, T> for I {}

/// Why a column cannot be written or read; the caller adds the column's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This field cannot be read from the array's type.
    Type,
    /// The values have this number of bytes in total, more than a column can address.
    TooLarge(usize),
    /// The value in this row does not fit, for this reason.
    Row(usize, String),
}

/// A type whose values are cells of a NOT NULL column.
///
/// A newtype joins by delegating to what it wraps:
///
/// ```
/// use headwater::record::{Refusal, Scalar, Values};
/// use arrow::{array::ArrayRef, buffer::NullBuffer, datatypes::DataType};
///
/// struct Price(f64);
///
/// impl Scalar for Price {
///     type Array = <f64 as Scalar>::Array;
///     fn data_type() -> DataType {
///         f64::data_type()
///     }
///     fn write<'a>(values: impl Values<'a, Self>, nulls: Option<NullBuffer>) -> Result<ArrayRef, Refusal> {
///         f64::write(values.map(|value| value.map(|price| &price.0)), nulls)
///     }
///     fn open(array: &ArrayRef) -> Result<Self::Array, Refusal> {
///         f64::open(array)
///     }
///     fn get(array: &Self::Array, row: usize) -> Result<Self, Refusal> {
///         f64::get(array, row).map(Price)
///     }
/// }
/// ```
pub trait Scalar: Sized + 'static {
    /// The one array type that [`get`](Scalar::get) reads.
    type Array: Array + 'static;

    /// The Arrow type of the column.
    fn data_type() -> DataType;

    /// The values as an array of [`data_type`](Scalar::data_type), NULL where `nulls` has no bit.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooLarge`] or [`Refusal::Row`].
    fn write<'a>(
        values: impl Values<'a, Self>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, Refusal>;

    /// Converts an array of any type that can be read without loss to the one that `get` reads.
    ///
    /// # Errors
    ///
    /// [`Refusal::Type`] for all other types; [`Refusal::Row`] for a value out of range.
    fn open(array: &ArrayRef) -> Result<Self::Array, Refusal>;

    /// The value in a row that exists and is not NULL.
    ///
    /// # Errors
    ///
    /// [`Refusal::Row`] when this type cannot hold the value.
    fn get(array: &Self::Array, row: usize) -> Result<Self, Refusal>;

    /// Bytes that the value holds outside of itself.
    #[inline]
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Stores fields of type `F` in a column; implemented by [`Plain`] and [`InUnit`].
#[diagnostic::on_unimplemented(
    message = "`{F}` cannot be a column of a record",
    label = "no column type",
    note = "columns are integers up to 64 bits, f32, f64, bool, String, Arc<str>, Box<str>, Symbol<N>, Vec<u8>, \
            Timestamp, SystemTime, one Option around any of these, and types that implement \
            `headwater::record::Scalar`",
    note = "`#[record(timestamp)]` goes with i64 and Option<i64>, `#[record(skip)]` leaves a field out"
)]
pub trait Codec<F> {
    /// The array type that [`get`](Codec::get) reads.
    type Array: Array + 'static;

    /// Whether the column can hold NULL.
    const NULLABLE: bool;

    /// The Arrow type of the column.
    fn data_type() -> DataType;

    /// The column of one field, in one pass over the rows.
    ///
    /// # Errors
    ///
    /// Those of [`Scalar::write`].
    fn write<'a, R>(
        rows: &'a [R],
        field: impl Fn(&'a R) -> &'a F + Copy,
    ) -> Result<ArrayRef, Refusal>
    where
        F: 'a;

    /// Converts an array to the type that `get` reads, as [`Scalar::open`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Scalar::open`].
    fn open(array: &ArrayRef) -> Result<Self::Array, Refusal>;

    /// The value in a row that exists, and is not NULL unless the codec is nullable.
    ///
    /// # Errors
    ///
    /// Those of [`Scalar::get`].
    fn get(array: &Self::Array, row: usize) -> Result<F, Refusal>;

    /// Bytes that the field holds outside of its record, as [`Scalar::heap_bytes`].
    #[inline]
    fn heap_bytes(_field: &F) -> usize {
        0
    }
}

/// A field that can have the attribute `#[record(event_time)]`.
#[diagnostic::on_unimplemented(
    message = "`{F}` is not a time, so it cannot be `#[record(event_time)]`",
    label = "not a time",
    note = "event times are Timestamp, SystemTime, i64 with `#[record(timestamp)]`, or Option of these"
)]
pub trait Moment<F>: Codec<F> {
    /// Microseconds since 1970-01-01 UTC, rounded down; `None` if absent or out of range.
    fn micros(field: &F) -> Option<i64>;
}

/// Stores each type as its own column type: the codec of a field without `timestamp`.
#[derive(Debug)]
pub struct Plain;

/// Stores an `i64` as a timestamp that counts the units of `U` since 1970-01-01 UTC.
#[derive(Debug)]
pub struct InUnit<U>(std::marker::PhantomData<U>);

#[diagnostic::do_not_recommend]
impl<T: Scalar> Codec<T> for Plain {
    type Array = T::Array;
    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        T::data_type()
    }

    fn write<'a, R>(
        rows: &'a [R],
        field: impl Fn(&'a R) -> &'a T + Copy,
    ) -> Result<ArrayRef, Refusal>
    where
        T: 'a,
    {
        T::write(dense(rows, field), None)
    }

    fn open(array: &ArrayRef) -> Result<T::Array, Refusal> {
        T::open(&typed(array, T::data_type()))
    }

    fn get(array: &T::Array, row: usize) -> Result<T, Refusal> {
        T::get(array, row)
    }

    #[inline]
    fn heap_bytes(field: &T) -> usize {
        field.heap_bytes()
    }
}

#[diagnostic::do_not_recommend]
impl<T: Scalar> Codec<Option<T>> for Plain {
    type Array = T::Array;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        T::data_type()
    }

    fn write<'a, R>(
        rows: &'a [R],
        field: impl Fn(&'a R) -> &'a Option<T> + Copy,
    ) -> Result<ArrayRef, Refusal>
    where
        T: 'a,
    {
        let values = sparse(rows, field);
        T::write(values.clone(), nulls(values))
    }

    fn open(array: &ArrayRef) -> Result<T::Array, Refusal> {
        T::open(&typed(array, T::data_type()))
    }

    fn get(array: &T::Array, row: usize) -> Result<Option<T>, Refusal> {
        array.is_valid(row).then(|| T::get(array, row)).transpose()
    }

    #[inline]
    fn heap_bytes(field: &Option<T>) -> usize {
        field.as_ref().map_or(0, T::heap_bytes)
    }
}

/// The field of every row, none of them NULL.
pub(super) fn dense<'a, R, T: 'a>(
    rows: &'a [R],
    field: impl Fn(&'a R) -> &'a T + Copy,
) -> impl Values<'a, T> {
    rows.iter().map(move |row| Some(field(row)))
}

/// The field of every row, NULL where it is `None`.
pub(super) fn sparse<'a, R, T: 'a>(
    rows: &'a [R],
    field: impl Fn(&'a R) -> &'a Option<T> + Copy,
) -> impl Values<'a, T> {
    rows.iter().map(move |row| field(row).as_ref())
}

/// The null bits of the values; `None` when there is no NULL.
pub(super) fn nulls<'a, T: 'a>(values: impl Values<'a, T>) -> Option<NullBuffer> {
    let nulls: NullBuffer = values.map(|value| value.is_some()).collect();
    (nulls.null_count() > 0).then_some(nulls)
}

/// The array, or NULLs of the wanted type if it is a column of SQL's bare NULL, which has no type.
pub(super) fn typed(array: &ArrayRef, wanted: DataType) -> ArrayRef {
    match array.data_type() {
        DataType::Null => new_null_array(&wanted, array.len()),
        _ => array.clone(),
    }
}
