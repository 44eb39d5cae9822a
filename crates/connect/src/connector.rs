//! What a connector declares: its name, its options, its formats, its constructors.
//!
//! A connector is one file with a struct of options for each direction and a `pub const CONNECTOR`,
//! plus one line in `registry.rs`. A user's own connector is the same constant, given to
//! [`Connectors::register`](crate::Connectors::register).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::formats::Encoder;
use crate::options::{ByteSize, Checked, OptionSet};
use crate::{Cursor, ErrorStrategy, Guarantee, Result, Sink, Source, Tally};

/// The declaration of a connector to an external system.
#[derive(Clone, Copy)]
pub struct Connector {
    /// Its name in `connector = '...'`: lower case letters, digits and `_`.
    pub name: &'static str,
    /// The system it reaches, in one line without a full stop.
    pub summary: &'static str,
    /// The connector as a source; `None` if it is only a sink.
    pub source: Option<SourceKind>,
    /// The connector as a sink; `None` if it is only a source.
    pub sink: Option<SinkKind>,
}

/// A connector as a source.
#[derive(Clone, Copy)]
pub struct SourceKind {
    /// The options of the source.
    pub options: OptionSet,
    /// The formats of its frames, the default first; empty if it emits rows.
    pub formats: &'static [&'static str],
    /// The default of `max_frame`; unused without formats.
    pub max_frame: ByteSize,
    /// Settles the columns. The argument are those that the user declared, if any; the result are these, or
    /// those that the connector knows by itself, or none. Fails if it cannot fill a declared column.
    pub columns: fn(&Checked, Option<SchemaRef>) -> Result<Option<SchemaRef>>,
    /// Makes the source. Does not touch the external system: `validate` and `run` do.
    pub create: fn(SourceArgs<'_>) -> Result<Box<dyn Source>>,
}

impl SourceKind {
    /// For [`columns`](Self::columns) of a connector that knows none by itself and takes any that its format
    /// can fill.
    pub fn declared_columns(_: &Checked, declared: Option<SchemaRef>) -> Result<Option<SchemaRef>> {
        Ok(declared)
    }
}

/// The arguments of a source's constructor.
pub struct SourceArgs<'a> {
    /// The checked options, to be read with [`Checked::get`].
    pub options: &'a Checked,
    /// The columns of the rows it emits.
    pub schema: SchemaRef,
    /// The cursor to continue from; `None` for the first start.
    pub cursor: Option<Cursor>,
    /// The name of the format of its frames; `None` if it has none.
    pub format: Option<&'static str>,
    /// Drop counter for rows that its options make it drop.
    pub dropped: Arc<Tally>,
}

/// A connector as a sink.
#[derive(Clone, Copy)]
pub struct SinkKind {
    /// The options of the sink.
    pub options: OptionSet,
    /// The formats it writes, the default first; empty if it takes rows as they are.
    pub formats: &'static [&'static str],
    /// How often a row arrives with these options if the process crashes and restarts from what was saved.
    pub guarantee: fn(&Checked) -> Guarantee,
    /// Who has the rows when the guarantee is fulfilled, as a clause, if that is not obvious.
    pub reaches: fn(&Checked) -> Option<&'static str>,
    /// Makes the sink. Does not touch the external system: `validate` and `open` do.
    pub create: fn(SinkArgs<'_>) -> Result<Box<dyn Sink>>,
}

impl SinkKind {
    /// For [`reaches`](Self::reaches) of a connector whose rows are in the external system itself.
    pub fn the_system(_: &Checked) -> Option<&'static str> {
        None
    }
}

/// The arguments of a sink's constructor.
pub struct SinkArgs<'a> {
    /// The checked options, to be read with [`Checked::get`].
    pub options: &'a Checked,
    /// The columns of the rows it will get.
    pub schema: SchemaRef,
    /// Turns rows into frames in the format chosen; `None` if the sink has no formats.
    pub encoder: Option<Box<dyn Encoder>>,
    /// The name of the format of `encoder`.
    pub format: Option<&'static str>,
    /// What happens to rows that it cannot write. If the user set it, a sink that retries by itself must do
    /// so with a limit.
    pub strategy: Option<ErrorStrategy>,
}
