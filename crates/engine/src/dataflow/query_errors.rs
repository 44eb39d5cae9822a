//! What happens when an expression of a query fails: the query fails, or the row is a dead letter.
//!
//! ```text
//!   batch ──fails──► halves, halves of halves ──► rows that work: go on, in their order
//!                                            └──► rows that fail: OnError::Fail        the query ends
//!                                                                 OnError::DeadLetter  an element of its own
//! ```
//!
//! Only a row that fails alone has failed: `x <> 0 AND 1 / x > 2` computes both sides of a whole batch, and
//! of a single row only what it needs. So a result does not depend on which rows share a batch. A batch that
//! works costs nothing.
//!
//! A row that disappears (`_diff` -1) and fails is left out: it failed in the same way when it appeared, so
//! nobody has it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::iter::Chain;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::{option, vec};

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Int8Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result};
use headwater_connect::{DeadLetter, originals};

use super::stream_element::{StreamElement, batch_of};

/// What a query does with a row whose expressions fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    /// The query ends at the first such row.
    #[default]
    Fail,
    /// The row is a dead letter, and the query goes on without it.
    DeadLetter,
}

/// The SQLSTATE of an error of an expression.
pub type SqlstateOf = fn(&DataFusionError) -> &'static str;

/// SQLSTATE: an error inside the engine.
const INTERNAL: &str = "XX000";

/// The first error of a query. All its workers share it. One of them may be an epoch ahead of another: so the
/// first error is that of the earliest epoch, and the epochs before it are whole.
#[derive(Debug, Clone, Default)]
pub struct QueryFailure(Arc<FailureState>);

#[derive(Debug)]
struct FailureState {
    /// The epoch of the elements that failed; `u64::MAX` if none have.
    epoch: AtomicU64,
    /// The error of that epoch. Who writes either holds its lock.
    reason: Mutex<String>,
    /// One more than the last epoch in which a stage has changed its state.
    staged: AtomicU64,
}

impl Default for FailureState {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::new(u64::MAX),
            reason: Mutex::default(),
            staged: AtomicU64::new(0),
        }
    }
}

impl QueryFailure {
    /// The error, if there was one in `epoch` or before: the query has no further results.
    pub fn until(&self, epoch: u64) -> Option<String> {
        self.is_in(epoch).then(|| self.reason().clone())
    }

    fn reason(&self) -> MutexGuard<'_, String> {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was an error in `epoch` or before.
    fn is_in(&self, epoch: u64) -> bool {
        // Acquire: pairs with the Release of `set`; the reason is read under the lock.
        self.0.epoch.load(Ordering::Acquire) <= epoch
    }

    /// Records an error of `epoch`, if it is the first.
    pub fn set(&self, epoch: u64, reason: String) {
        let mut first = self.reason();
        if epoch < self.0.epoch.load(Ordering::Acquire) {
            *first = reason;
            self.0.epoch.store(epoch, Ordering::Release);
        }
    }

    /// Whether a stage of some worker has changed its state in `epoch`, or later.
    pub fn has_staged(&self, epoch: u64) -> bool {
        self.0.staged.load(Ordering::Acquire) > epoch
    }
}

/// Why a row failed.
#[derive(Debug, Clone)]
pub(super) struct RowError {
    message: String,
    sqlstate: &'static str,
}

impl RowError {
    /// What users read of a query that has ended.
    fn reason(&self) -> String {
        format!("{} (SQLSTATE {})", self.message, self.sqlstate)
    }
}

/// The message and the SQLSTATE of what [`RowError::reason`] has written.
pub(crate) fn sqlstate_of_reason(reason: &str) -> Option<(&str, &str)> {
    reason.strip_suffix(')')?.rsplit_once(" (SQLSTATE ")
}

/// Computes rows one by one from some rows of a batch and the number of the first of them; `None` if none
/// are left.
pub(super) type RowWork<'a, T> = &'a dyn Fn(&RecordBatch, usize) -> Result<Option<T>>;

/// Rows that fail together, apart.
pub(super) struct SplitRows<T, E = RowError> {
    /// What the others have become, in their order.
    pub done: Vec<T>,
    /// The numbers of the rows that fail alone, in their order.
    pub failed: Vec<(usize, E)>,
}

impl<T, E> SplitRows<T, E> {
    /// What `work` makes of `rows`; where it fails, the rows that do are found by halving.
    ///
    /// # Errors
    /// If it fails of no row.
    pub fn of(
        rows: &RecordBatch,
        work: impl Fn(&RecordBatch, usize) -> std::result::Result<Option<T>, E>,
    ) -> std::result::Result<Self, E> {
        let mut split = Self {
            done: Vec::new(),
            failed: Vec::new(),
        };
        match work(rows, 0) {
            Ok(done) => split.done.extend(done),
            Err(error) => split.halve(rows, 0, error, &work)?,
        }
        Ok(split)
    }

    /// Computes halves of rows that have failed together with this error, and halves of those.
    fn halve(
        &mut self,
        rows: &RecordBatch,
        first: usize,
        error: E,
        work: &impl Fn(&RecordBatch, usize) -> std::result::Result<Option<T>, E>,
    ) -> std::result::Result<(), E> {
        let count = rows.num_rows();
        match count {
            0 => return Err(error),
            1 => {
                self.failed.push((first, error));
                return Ok(());
            }
            _ => {}
        }
        let half = count / 2;
        for (from, length) in [(0, half), (half, count - half)] {
            let part = rows.slice(from, length);
            match work(&part, first + from) {
                Ok(done) => self.done.extend(done),
                Err(error) => self.halve(&part, first + from, error, work)?,
            }
        }
        Ok(())
    }
}

/// The columns of [`StreamElement::Failed`]: the first of a dead letter.
static FAILED_ROWS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let fields = DeadLetter::schema().fields()[..3].to_vec();
    Arc::new(Schema::new(fields))
});

/// The failure of a query and its [`OnError`], on one worker. Clones share both.
#[derive(Clone)]
pub struct QueryErrors(Rc<ErrorState>);

struct ErrorState {
    failure: RefCell<QueryFailure>,
    on_error: Cell<OnError>,
    /// The epoch of the elements at hand.
    epoch: Cell<u64>,
    sqlstate_of: SqlstateOf,
}

impl QueryErrors {
    /// `failure` is shared with the other workers.
    pub fn new(failure: QueryFailure, on_error: OnError, sqlstate_of: SqlstateOf) -> Self {
        Self(Rc::new(ErrorState {
            failure: RefCell::new(failure),
            on_error: Cell::new(on_error),
            epoch: Cell::new(0),
            sqlstate_of,
        }))
    }

    /// The failure that counts now.
    pub fn failure(&self) -> QueryFailure {
        self.0.failure.borrow().clone()
    }

    /// The query goes on after a failure. Between the same two steps on all workers, with the same new
    /// `failure`.
    pub fn resume(&self, failure: QueryFailure) {
        self.0.failure.replace(failure);
    }

    /// Applies to rows from now on. Between the same two steps on all workers.
    pub fn set_on_error(&self, on_error: OnError) {
        self.0.on_error.set(on_error);
    }

    /// The elements to come are of `epoch`, and so is what fails. Returns whether the query works until
    /// then.
    pub(super) fn begin(&self, epoch: u64) -> bool {
        self.0.epoch.set(epoch);
        !self.0.failure.borrow().is_in(epoch)
    }

    pub(super) fn is_dead_letter(&self) -> bool {
        self.0.on_error.get() == OnError::DeadLetter
    }

    pub(super) fn fail(&self, reason: String) {
        self.0.failure.borrow().set(self.0.epoch.get(), reason);
    }

    /// Runs `work` and returns its value. An error or a panic is recorded, if it is the first, and ends
    /// the query, never the worker.
    pub(super) fn guard<T>(&self, work: impl FnOnce() -> Result<T>) -> Option<T> {
        let done = self.computed(work);
        done.map_err(|error| self.fail(error.reason())).ok()
    }

    fn computed<T>(&self, work: impl FnOnce() -> Result<T>) -> std::result::Result<T, RowError> {
        match contain(work) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(RowError {
                sqlstate: (self.0.sqlstate_of)(&error),
                message: reason_of(&error),
            }),
            Err(message) => Err(RowError {
                message,
                sqlstate: INTERNAL,
            }),
        }
    }

    /// As [`guard`](Self::guard), for a stage, which changes its state in this epoch.
    pub(super) fn guard_stage<T>(&self, work: impl FnOnce() -> Result<T>) -> Option<T> {
        let failure = self.0.failure.borrow();
        let staged = &failure.0.staged;
        staged.fetch_max(self.0.epoch.get() + 1, Ordering::AcqRel);
        drop(failure);
        self.guard(work)
    }

    /// What `work` makes of `rows`, which it computes row by row, in their order; then the dead letters.
    /// `changes`: whether the rows have a diff.
    pub(super) fn rows(
        &self,
        rows: &RecordBatch,
        changes: bool,
        work: RowWork<'_, StreamElement>,
    ) -> Chain<option::IntoIter<StreamElement>, vec::IntoIter<StreamElement>> {
        let (done, rest) = match self.attempt(rows, 0, work) {
            Ok(done) => (done, Vec::new()),
            Err(_) => (None, self.rows_apart(rows, changes, work)),
        };
        done.into_iter().chain(rest)
    }

    fn rows_apart(
        &self,
        rows: &RecordBatch,
        changes: bool,
        work: RowWork<'_, StreamElement>,
    ) -> Vec<StreamElement> {
        let split = self.split(rows, work);
        let mut out = split.done;
        out.extend(self.give_up(rows, changes, &split.failed));
        out
    }

    /// What `work` makes of `rows`, and which of them fail.
    pub(super) fn split<T>(&self, rows: &RecordBatch, work: RowWork<'_, T>) -> SplitRows<T> {
        let split = SplitRows::of(rows, |part, first| self.attempt(part, first, work));
        split.unwrap_or_else(|error| {
            self.fail(error.reason());
            SplitRows {
                done: Vec::new(),
                failed: Vec::new(),
            }
        })
    }

    /// Runs `work` on all of `rows` together, of which the first has this number.
    fn attempt<T>(
        &self,
        rows: &RecordBatch,
        first: usize,
        work: RowWork<'_, T>,
    ) -> std::result::Result<Option<T>, RowError> {
        self.computed(|| work(rows, first))
    }

    /// Makes dead letters of the failed ones of `rows`, or ends the query; `changes`: whether the rows have a diff.
    pub(super) fn give_up(
        &self,
        rows: &RecordBatch,
        changes: bool,
        failed: &[(usize, RowError)],
    ) -> Option<StreamElement> {
        let diffs = changes.then(|| diffs_of(rows)).flatten();
        let appears = |row: usize| diffs.is_none_or(|diffs| diffs[row] > 0);
        let failed: Vec<_> = failed.iter().filter(|(row, _)| appears(*row)).collect();
        let (_, first) = failed.first()?;
        if !self.is_dead_letter() {
            self.fail(first.reason());
            return None;
        }
        let numbers = failed.iter().map(|(row, _)| *row as u32);
        self.guard(|| {
            let numbers = UInt32Array::from_iter_values(numbers);
            let mut rows = match rows.num_columns() {
                0 => rows.slice(0, failed.len()),
                _ => take_record_batch(rows, &numbers)?,
            };
            if diffs.is_some() {
                rows.remove_column(rows.num_columns() - 1);
            }
            let text = |of: fn(&RowError) -> &str| -> ArrayRef {
                let texts = failed.iter().map(|(_, error)| of(error));
                Arc::new(StringArray::from_iter_values(texts))
            };
            let schema = readable(rows.schema_ref());
            let rows = batch_of(&schema, rows.columns().to_vec(), failed.len())?;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(BinaryArray::from_iter_values(originals(&rows))),
                text(|error| &error.message),
                text(|error| error.sqlstate),
            ];
            let rows = RecordBatch::try_new(Arc::clone(&FAILED_ROWS), columns)?;
            Ok(StreamElement::Failed(rows))
        })
    }
}

/// The columns with the bounds of a window under the names that queries give them.
fn readable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let bound = field
            .name()
            .strip_prefix("__")
            .and_then(|it| it.split_once('('));
        let name = bound.map_or(field.name().as_str(), |(name, _)| name);
        field.as_ref().clone().with_name(name)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The changes of rows of a changing stream, whose last column they are.
fn diffs_of(rows: &RecordBatch) -> Option<&[i8]> {
    let diffs = rows.columns().last()?.as_primitive_opt::<Int8Type>()?;
    Some(diffs.values())
}

/// The error in plain words: of one that an expression of our own made, its message alone, and of one of a
/// library what it says behind the kinds of its error.
pub(crate) fn reason_of(error: &DataFusionError) -> String {
    use ArrowError::{
        ArithmeticOverflow, CastError, ComputeError, InvalidArgumentError, ParseError, SchemaError,
    };
    match error.find_root() {
        DataFusionError::External(ours) => ours.to_string(),
        DataFusionError::ArrowError(error, _) => match &**error {
            CastError(what)
            | ParseError(what)
            | ComputeError(what)
            | SchemaError(what)
            | ArithmeticOverflow(what)
            | InvalidArgumentError(what) => lower_first(what),
            ArrowError::DivideByZero => "division by zero".to_owned(),
            other => lower_first(&other.to_string()),
        },
        DataFusionError::Execution(what) | DataFusionError::Plan(what) => lower_first(what),
        other => lower_first(&other.strip_backtrace()),
    }
}

/// The first line of a library's message, with a lower-case first letter unless it begins with a word in
/// capitals, and without a full stop.
pub(crate) fn lower_first(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    let line = line.trim_end_matches('.');
    let mut chars = line.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_uppercase() => line.into(),
        (Some(first), _) => first.to_lowercase().chain(chars).collect(),
        (None, _) => String::new(),
    }
}

/// Runs `work`; a panic becomes its message.
pub(super) fn contain<T>(work: impl FnOnce() -> T) -> std::result::Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| format!("an expression panicked: {}", panic_message(&*panic)))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
