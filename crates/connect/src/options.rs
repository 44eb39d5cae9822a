//! Options, declared once.
//!
//! A connector's options are a struct: `#[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]`, a doc comment on every field, [`Duration`], [`ByteSize`] and
//! [`Secret`] where they fit. Everything else is made of it: the check of a `WITH` list ([`check`]), the
//! text of its errors, the table in the docs and the help ([`OptionSet::rows`]).
//!
//! [`check`] takes the list as written and the sets of options that apply (the connector's, its
//! format's, those that every source has). It reports every problem at once, each with the position
//! that the caller gave for the key. Keys are case-insensitive and may carry the connector's name:
//! `websocket.url` is `url`. A field that is a map takes any number of keys: `headers.Accept`.
//!
//! The error of an option never names it: [`check`] adds the key as the user wrote it.

mod check;
mod declared;
mod fields;
mod problem;
mod quantity;
mod secret;

use std::any::TypeId;
use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use check::{Checked, check};
pub use declared::Row;
pub(crate) use problem::joined;
pub use problem::{Fault, Problem, nearest};
pub use quantity::{ByteSize, Duration, Unparsable};
pub use secret::Secret;

use crate::{Error, Result};
use declared::Declared;

/// A struct whose fields are options.
pub trait Options: DeserializeOwned + JsonSchema + 'static {
    /// What is wrong with options that are each right. Called after all of them are read.
    fn objections(&self) -> Vec<Objection> {
        Vec::new()
    }
}

/// Options that contradict each other, or one that contradicts the external system.
#[derive(Debug, Clone, PartialEq)]
pub struct Objection {
    /// The names of the options, the one to change first.
    pub options: Vec<&'static str>,
    /// Why they cannot be as they are: a clause for a person, which does not name the first option.
    pub reason: String,
}

impl Objection {
    /// An objection to these options, the one to change first.
    pub fn new(options: &[&'static str], reason: impl Into<String>) -> Self {
        Self {
            options: options.to_vec(),
            reason: reason.into(),
        }
    }
}

/// The value of an option, as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string in quotes, `'text'`.
    Text(String),
    /// A whole number, such as `42`.
    Integer(i64),
    /// Any other number, such as `0.5`.
    Number(f64),
    /// A bare `true` or `false`.
    Bool(bool),
    /// Values in brackets, `['a', 'b']`.
    List(Vec<Value>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// One entry of a `WITH` list; `S` is the caller's type for a position in the user's text. Debug output
/// leaves out the value, which may be a secret.
#[derive(Clone, PartialEq)]
pub struct Given<S> {
    /// The key, as written.
    pub key: String,
    /// The value, as written.
    pub value: Value,
    /// Its position in the user's text.
    pub span: S,
}

impl<S: fmt::Debug> fmt::Debug for Given<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut given = f.debug_struct("Given");
        given.field("key", &self.key).field("span", &self.span);
        given.finish_non_exhaustive()
    }
}

impl Given<()> {
    /// An entry that comes from no text.
    pub fn new(key: &str, value: impl Into<Value>) -> Self {
        Self {
            key: key.to_owned(),
            value: value.into(),
            span: (),
        }
    }
}

/// The options of one struct, without its type.
#[derive(Clone, Copy)]
pub struct OptionSet {
    of: TypeId,
    declared: fn() -> Vec<Declared>,
    verify: fn(&fields::Map) -> Vec<fields::Complaint>,
}

impl OptionSet {
    /// The options that `T` declares.
    pub const fn of<T: Options>() -> Self {
        Self {
            of: TypeId::of::<T>(),
            declared: declared::of::<T>,
            verify: fields::verify::<T>,
        }
    }

    /// The options for docs and help: required ones first, then by name.
    pub fn rows(&self) -> Vec<Row> {
        declared::rows((self.declared)())
    }

    /// What breaks a rule of this module: a field without a doc comment, a name that is not lower
    /// case, a type that no value of a `WITH` list can become. Checked when a connector is registered.
    pub(crate) fn lint(&self) -> Option<String> {
        (self.declared)().iter().find_map(Declared::lint)
    }
}

/// A default of [`serde`]: `#[serde(default = "seconds::<5>")]`.
pub fn seconds<const NUMBER: u64>() -> Duration {
    Duration::from_secs(NUMBER)
}

/// A default as [`seconds`] is, of 1,048,576 bytes each.
pub fn mebibytes<const NUMBER: u64>() -> ByteSize {
    ByteSize::mib(NUMBER)
}

/// A default as [`seconds`] is, without a unit.
pub fn count<const NUMBER: u64>() -> u64 {
    NUMBER
}

/// A default as [`seconds`] is: true.
pub fn yes() -> bool {
    true
}

/// Reads options that a program gives rather than a text. Fails with all problems in one message.
pub fn read<T: Options>(connector: &str, given: &[Given<()>]) -> Result<T> {
    let checked = check(connector, &[OptionSet::of::<T>()], given);
    let problems = match checked {
        Ok(checked) => return checked.get(),
        Err(problems) => problems,
    };
    Err(Error::Options(joined(&problems)))
}

#[cfg(test)]
mod tests;
