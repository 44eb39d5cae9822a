//! What a connector declares of itself: its name, its options, what it can carry, how it is made.
//!
//! A connector is one file with a struct of options for each direction and a `pub const CONNECTOR`,
//! plus one line in `registry.rs`. A user's own connector is the same constant, given to
//! [`Connectors::register`](crate::Connectors::register).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::formats::Encoder;
use crate::options::{ByteSize, Checked, OptionSet};
use crate::{Cursor, ErrorStrategy, Guarantee, Result, Sink, Source, Tally};

/// A way to the outside world.
#[derive(Clone, Copy)]
pub struct Connector {
    /// Its name in `connector = '...'`: lower case letters, digits and `_`.
    pub name: &'static str,
    /// What it reaches, in one line without a full stop.
    pub summary: &'static str,
    /// How rows come in.
    pub source: Option<SourceKind>,
    /// How rows go out.
    pub sink: Option<SinkKind>,
}

/// A connector as a source.
#[derive(Clone, Copy)]
pub struct SourceKind {
    /// Its options.
    pub options: OptionSet,
    /// The formats of its frames, the default first; none if it emits rows.
    pub formats: &'static [&'static str],
    /// The largest frame taken unless the user says otherwise; of no meaning without formats.
    pub max_frame: ByteSize,
    /// Settles the columns: takes those that the user declared, if any, and returns them, or those
    /// that it knows by itself, or none; or says which one it cannot fill.
    pub columns: fn(&Checked, Option<SchemaRef>) -> Result<Option<SchemaRef>>,
    /// Makes it. Reaches for nothing outside: that is for `validate` and `run`.
    pub create: fn(SourceArgs<'_>) -> Result<Box<dyn Source>>,
}

impl SourceKind {
    /// For [`columns`](Self::columns): it knows none by itself and takes any that its format can fill.
    pub fn declared_columns(_: &Checked, declared: Option<SchemaRef>) -> Result<Option<SchemaRef>> {
        Ok(declared)
    }
}

/// What a source is made of.
pub struct SourceArgs<'a> {
    /// Its options, to be read with [`Checked::get`].
    pub options: &'a Checked,
    /// Its columns.
    pub schema: SchemaRef,
    /// Where to continue.
    pub cursor: Option<Cursor>,
    /// The name of the format of its frames; `None` if it has none.
    pub format: Option<&'static str>,
    /// Counts the rows that it leaves out because its options say so.
    pub dropped: Arc<Tally>,
}

/// A connector as a sink.
#[derive(Clone, Copy)]
pub struct SinkKind {
    /// Its options.
    pub options: OptionSet,
    /// The formats it writes, the default first; none if it takes rows as they are.
    pub formats: &'static [&'static str],
    /// How often a row arrives with these options, if the process crashes and is started again with
    /// what was saved.
    pub guarantee: fn(&Checked) -> Guarantee,
    /// Makes it. Reaches for nothing outside: that is for `validate` and `open`.
    pub create: fn(SinkArgs<'_>) -> Result<Box<dyn Sink>>,
}

/// What a sink is made of.
pub struct SinkArgs<'a> {
    /// Its options, to be read with [`Checked::get`].
    pub options: &'a Checked,
    /// The columns of the rows it will get.
    pub schema: SchemaRef,
    /// Turns rows into frames in the format chosen; `None` if the sink has no formats.
    pub encoder: Option<Box<dyn Encoder>>,
    /// The name of that format.
    pub format: Option<&'static str>,
    /// What is done with rows that it cannot write; if it is said, a sink that tries again by itself
    /// must not do so without end.
    pub strategy: Option<ErrorStrategy>,
}
