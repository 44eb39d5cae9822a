//! A source or a sink that a `WITH` list describes and that can be made.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::option_sets::FrameOptions;
use crate::connector::{SinkArgs, SinkKind, SourceArgs, SourceKind};
use crate::formats::{Decoder, Format};
use crate::options::Checked;
use crate::restart::RestartOptions;
use crate::{
    Backoff, BadRows, Blueprint, Cursor, ErrorOptions, ErrorStrategy, Guarantee, Result, Sink,
    Source, Tally, metadata_columns,
};

/// A source that can be made: its options are valid and its columns known.
#[derive(Clone)]
pub struct SourceSpec {
    pub(super) connector: &'static str,
    pub(super) kind: SourceKind,
    pub(super) format: Option<&'static Format>,
    pub(super) errors: ErrorOptions,
    /// Drop counter, shared by all clones and by every source made of them.
    pub(super) dropped: Arc<Tally>,
    pub(super) options: Checked,
    pub(super) columns: SchemaRef,
}

impl SourceSpec {
    /// The name of the connector, as in `connector = '...'`.
    pub fn connector(&self) -> &'static str {
        self.connector
    }

    /// The format of its frames; `None` if it emits rows.
    pub fn format(&self) -> Option<&'static str> {
        self.format.map(|format| format.name)
    }

    /// Its options, among them those that the caller added.
    pub fn options(&self) -> &Checked {
        &self.options
    }

    /// What happens when it fails, or a row is bad.
    pub fn errors(&self) -> &ErrorOptions {
        &self.errors
    }

    /// The drop counter: bad rows with `error.strategy = 'drop'`, and what the connector's own options
    /// drop.
    pub fn dropped(&self) -> &Tally {
        &self.dropped
    }
}

impl Blueprint for SourceSpec {
    fn source(&self, cursor: Option<Cursor>) -> Result<Box<dyn Source>> {
        let schema = metadata_columns::without(&self.columns);
        (self.kind.create)(SourceArgs {
            options: &self.options,
            schema,
            cursor,
            format: self.format(),
            dropped: Arc::clone(&self.dropped),
        })
    }

    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>> {
        let make = self.format.and_then(|format| format.decoder);
        make.map(|make| make(metadata_columns::without(&self.columns), &self.options))
            .transpose()
    }

    fn schema(&self) -> SchemaRef {
        self.columns.clone()
    }

    fn bad_rows(&self) -> BadRows {
        self.errors.bad_rows(&self.dropped)
    }

    fn max_frame(&self) -> usize {
        let asked = self
            .options
            .get::<FrameOptions>()
            .ok()
            .and_then(|frames| frames.max_frame);
        asked.unwrap_or(self.kind.max_frame).as_usize()
    }

    fn backoff(&self, given: Backoff) -> Backoff {
        let given = self.errors.restarts(given);
        match self.options.get::<RestartOptions>() {
            Ok(options) => options.change(given),
            // Cannot fail: they are among the sets that were checked.
            Err(_) => given,
        }
    }
}

/// A sink that can be made: its options are valid and it can write the columns.
#[derive(Clone)]
pub struct SinkSpec {
    pub(super) connector: &'static str,
    pub(super) kind: SinkKind,
    pub(super) format: Option<&'static Format>,
    pub(super) errors: ErrorOptions,
    pub(super) options: Checked,
    pub(super) columns: SchemaRef,
}

impl SinkSpec {
    /// The name of the connector, as in `connector = '...'`.
    pub fn connector(&self) -> &'static str {
        self.connector
    }

    /// Its options, among them those that the caller added.
    pub fn options(&self) -> &Checked {
        &self.options
    }

    /// What happens when a row cannot be written.
    pub fn errors(&self) -> &ErrorOptions {
        &self.errors
    }

    /// How often a row arrives if the process crashes and restarts from what was saved. A row that goes to
    /// the dead letters counts as arrived; one that is dropped does not.
    pub fn guarantee(&self) -> Guarantee {
        match self.errors.strategy() {
            Some(ErrorStrategy::Drop) => Guarantee::AtMostOnce,
            _ => (self.kind.guarantee)(&self.options),
        }
    }

    /// Who has the rows when the guarantee is fulfilled, if that is not obvious.
    pub fn reaches(&self) -> Option<&'static str> {
        (self.kind.reaches)(&self.options)
    }

    /// Makes the sink; opens nothing.
    pub fn sink(&self) -> Result<Box<dyn Sink>> {
        (self.kind.create)(self.args()?)
    }

    /// The arguments of the sink's constructor.
    pub(crate) fn args(&self) -> Result<SinkArgs<'_>> {
        let make = self.format.and_then(|format| format.encoder);
        let encoder = make
            .map(|make| make(self.columns.clone(), &self.options))
            .transpose()?;
        Ok(SinkArgs {
            options: &self.options,
            schema: self.columns.clone(),
            encoder,
            format: self.format.map(|format| format.name),
            strategy: self.errors.strategy(),
        })
    }
}
