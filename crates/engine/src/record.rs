//! A Rust struct as a row of a stream: the trait [`Record`] and its derive.
//!
//! A typed source sends `T` itself through the ring. The consumer converts many rows to columns at
//! once, one pass for each field, so that a row needs no allocation of its own:
//!
//! ```text
//!   push(T) -> ring -> &[T] --to_columns--> RecordBatch -> log, dataflow -> RecordBatch --from_columns--> Vec<T>
//! ```
//!
//! `#[derive(Record)]` implements both directions. [`Scalar`] and [`Codec`] decide what a field can
//! be, not the macro, so type aliases and types of your own work too. [`matches()`] checks columns
//! against the expected ones and names every difference.

mod codec;
mod derived;
mod number;
mod schema;
mod symbol;
mod text;
mod time;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

pub use codec::{Codec, InUnit, Moment, Plain, Refusal, Scalar, Values};
pub use headwater_derive::Record;
pub use schema::{Difference, Mismatch, matches};
pub use symbol::{Symbol, SymbolTooLong};
pub use time::Timestamp;

/// For the code that the derive generates only; not part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use super::codec::{InUnit, Plain};
    pub use super::derived::{
        array, batch, event_time, field, get, heap_bytes, open, refusal, schema, single,
    };
    pub use arrow::array::{RecordBatch, types};
    pub use arrow::datatypes::SchemaRef;
    pub use std::sync::OnceLock;
}

/// A struct that is a row of a typed source or a typed subscription.
///
/// Derive it. Each field becomes a column of its name; `Option` fields are nullable columns, all
/// others are NOT NULL.
///
/// ```
/// use headwater::{Record, Symbol, Timestamp};
///
/// #[derive(Record, Debug, PartialEq)]
/// struct Trade {
///     symbol: Symbol<8>,           // VARCHAR NOT NULL, and a push that allocates nothing
///     price: f64,                  // DOUBLE NOT NULL
///     qty: i64,                    // BIGINT NOT NULL
///     venue: Option<String>,       // VARCHAR
///     #[record(event_time)]
///     ts: Timestamp,               // TIMESTAMP NOT NULL
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let trade = Trade {
///     symbol: "AAPL".parse()?,
///     price: 187.5,
///     qty: 100,
///     venue: None,
///     ts: Timestamp::from_micros(1_700_000_000_000_000),
/// };
/// assert_eq!(trade.event_time(), Some(1_700_000_000_000_000));
///
/// let batch = Trade::to_columns(std::slice::from_ref(&trade))?;
/// assert_eq!(batch.schema(), Trade::schema());
/// assert_eq!(Trade::from_columns(&batch)?, [trade]);
/// # Ok(())
/// # }
/// ```
///
/// # Fields
///
/// | Rust | column |
/// |---|---|
/// | `i8` ... `i64`, `u8` ... `u64`, `f32`, `f64`, `bool` | the same |
/// | `String`, `Box<str>`, `Arc<str>`, `Cow<'static, str>`, [`Symbol<N>`] | Utf8 |
/// | `Vec<u8>`, `Box<[u8]>`, `Arc<[u8]>` | Binary |
/// | [`Timestamp`], [`SystemTime`](std::time::SystemTime) | Timestamp in microseconds |
/// | `i64` with `#[record(timestamp)]` or `#[record(timestamp = "ms")]` | Timestamp in `s`, `ms`, `us` (default) or `ns` |
/// | `Option` of any of these | the same, nullable |
/// | a type of your own that implements [`Scalar`] | its `data_type` |
///
/// # Attributes
///
/// - on a field: `rename = "name"`, `event_time` (at most one field, and it must be a time),
///   `timestamp` (see above), `skip` (no column; `Default` when read);
/// - on the struct: `crate = "path"`, where this crate is reached under another name.
///
/// # By hand
///
/// [`schema`](Record::schema) and [`to_record_batch`](Record::to_record_batch) are enough for a
/// source; such a record converts row by row, and cannot be subscribed to until
/// [`from_columns`](Record::from_columns) is written as well.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record",
    note = "put `#[derive(headwater::Record)]` on the struct"
)]
pub trait Record: Send + Sized + 'static {
    /// The columns, in the order of the fields. Cheap: each call returns the same shared schema.
    fn schema() -> SchemaRef;

    /// This row alone as columns. For many rows [`to_columns`](Record::to_columns) is far cheaper.
    ///
    /// # Panics
    ///
    /// The derived form panics when a value fits no column: a text or byte string beyond
    /// 2,147,483,647 bytes, or a `SystemTime` more than 292,000 years from 1970.
    fn to_record_batch(&self) -> RecordBatch;

    /// The event time, in microseconds since 1970-01-01 UTC; `None` if the row has none or it is out
    /// of range.
    fn event_time(&self) -> Option<i64> {
        None
    }

    /// Bytes that this row holds outside of itself, as texts and byte strings do: what is pushed is bounded
    /// in bytes, too. 0 if that is not known, as in a record written by hand.
    fn heap_bytes(&self) -> usize {
        0
    }

    /// All rows as columns of [`schema`](Record::schema), in order; no rows make an empty batch.
    ///
    /// # Errors
    ///
    /// [`RecordError::TooLarge`] when a column's text would exceed 2,147,483,647 bytes (convert
    /// fewer rows at a time), [`RecordError::Value`] when one value fits no column.
    fn to_columns(rows: &[Self]) -> Result<RecordBatch, RecordError> {
        let single: Vec<_> = rows.iter().map(Self::to_record_batch).collect();
        let batch = concat_batches(&Self::schema(), &single)
            .map_err(|e| RecordError::Inconsistent(e.to_string()))?;
        match batch.num_rows() == rows.len() {
            true => Ok(batch),
            false => Err(RecordError::Inconsistent(format!(
                "{} records became {} rows",
                rows.len(),
                batch.num_rows()
            ))),
        }
    }

    /// The rows of a batch as structs.
    ///
    /// Columns are found by name, in any order; columns without a field are ignored. Numbers can be
    /// narrower than the field (`INT` into `i64`), text in any encoding, times in any unit (a finer
    /// one is rounded down). A nullable column can be read into a field that is not an `Option` if
    /// it holds no NULL.
    ///
    /// # Errors
    ///
    /// [`RecordError::Columns`] names every column that is missing or has another type;
    /// [`RecordError::Null`] and [`RecordError::Value`] name the first row that does not fit.
    fn from_columns(batch: &RecordBatch) -> Result<Vec<Self>, RecordError> {
        let _ = batch;
        Err(RecordError::WriteOnly(std::any::type_name::<Self>()))
    }
}

/// Why rows cannot be converted to columns, or columns to rows.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Columns are missing or of another type.
    #[error(transparent)]
    Columns(#[from] Mismatch),
    /// A NULL for a field that is not an `Option`.
    #[error("row {row} of column {column:?} is NULL, and its field is not an Option")]
    Null {
        /// The name of the column.
        column: String,
        /// The row in the batch, counted from 0.
        row: usize,
    },
    /// A value that its column or its field cannot hold.
    #[error("row {row} of column {column:?}: {reason}")]
    Value {
        /// The name of the column.
        column: String,
        /// The row in the batch, counted from 0.
        row: usize,
        /// The value and the limit.
        reason: String,
    },
    /// More text or bytes than one column can hold.
    #[error("column {column:?} would hold {bytes} bytes, one batch takes {limit}")]
    TooLarge {
        /// The name of the column.
        column: String,
        /// The total size of the rows' values, bytes.
        bytes: usize,
        /// The maximum size of a column's values, bytes.
        limit: usize,
    },
    /// The record was implemented by hand without `from_columns`.
    #[error("{0} can be written only: it does not implement from_columns")]
    WriteOnly(
        /// The name of the record's type.
        &'static str,
    ),
    /// A record implemented by hand contradicts its own schema.
    #[error("the record contradicts its schema: {0}")]
    Inconsistent(
        /// What contradicts the schema.
        String,
    ),
}
