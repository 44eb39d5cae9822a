//! The connectors by name, and how one of them and a `WITH` list become a source or a sink.
//!
//! [`Connectors::source`] finds the connector, collects the sets of options that apply (its own, the
//! frames', the format's, those the caller adds), checks the list against all of them at once, and
//! settles columns and format. The result, a [`SourceSpec`], makes the source each time it is started. No
//! external system is touched here.

mod chosen_format;
mod lint;
mod option_sets;
mod secret_options;
mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::chosen_format::ChosenFormat;
pub(crate) use self::option_sets::{sink_sets, sorted_rows, source_sets};
pub use self::secret_options::DeclaredOptions;
pub use self::spec::{SinkSpec, SourceSpec};
use crate::connector::{Connector, SourceKind};
use crate::connectors;
use crate::formats::Format;
use crate::options::{Checked, Given, OptionSet, Problem, nearest};
use crate::{Blueprint, Error, Result, metadata_columns};

/// Every connector of this crate that its Cargo features include.
const BUILTIN: &[Connector] = &[
    #[cfg(feature = "file")]
    connectors::file::CONNECTOR,
    connectors::generate::CONNECTOR,
    #[cfg(feature = "process")]
    connectors::process::CONNECTOR,
    connectors::stdout::CONNECTOR,
    #[cfg(feature = "websocket")]
    connectors::websocket::CONNECTOR,
];

/// Why a source or a sink cannot be made of a `WITH` list.
#[derive(Debug)]
pub enum Rejection<S> {
    /// There is no such connector, or it or its format cannot do this.
    Error(Error),
    /// All problems with its options.
    Options(Vec<Problem<S>>),
}

impl<S> From<Error> for Rejection<S> {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl<S> From<Vec<Problem<S>>> for Rejection<S> {
    fn from(problems: Vec<Problem<S>>) -> Self {
        Self::Options(problems)
    }
}

impl<S> std::fmt::Display for Rejection<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Options(problems) => f.write_str(&crate::options::joined(problems)),
        }
    }
}

impl<S: std::fmt::Debug> std::error::Error for Rejection<S> {}

/// The connectors that a `WITH` list can name.
#[derive(Clone)]
pub struct Connectors {
    by_name: BTreeMap<&'static str, Connector>,
}

impl Default for Connectors {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Connectors {
    /// The connectors of this crate that its Cargo features include.
    pub fn builtin() -> Self {
        Self {
            by_name: BUILTIN
                .iter()
                .map(|connector| (connector.name, *connector))
                .collect(),
        }
    }

    /// Adds a connector. Fails if its name is taken, or if its declaration breaks a rule.
    pub fn register(&mut self, connector: Connector) -> Result<()> {
        if self.by_name.contains_key(connector.name) {
            return Err(Error::DuplicateConnector {
                name: connector.name.to_owned(),
            });
        }
        if let Some(reason) = lint::broken_rule(&connector) {
            let connector = connector.name.to_owned();
            return Err(Error::BadConnector { connector, reason });
        }
        self.by_name.insert(connector.name, connector);
        Ok(())
    }

    /// The connector of this name, ignoring case.
    pub fn get(&self, name: &str) -> Result<&Connector> {
        self.by_name
            .get(name.to_lowercase().as_str())
            .ok_or_else(|| Error::UnknownConnector {
                name: name.to_owned(),
                nearest: nearest(name, self.names()),
            })
    }

    /// The names of all connectors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.by_name.keys().copied()
    }

    /// A source of this connector with the options `given` (without the key `connector`) and the
    /// columns the user declared, if any. `extra` are options that the caller reads: they come back
    /// in [`SourceSpec::options`].
    pub fn source<S: Clone>(
        &self,
        name: &str,
        given: &[Given<S>],
        columns: Option<SchemaRef>,
        extra: &[OptionSet],
    ) -> Result<SourceSpec, Rejection<S>> {
        let connector = self.get(name)?;
        let kind = connector
            .source
            .ok_or_else(|| wrong_role(connector, "source"))?;
        let chosen = ChosenFormat::among(kind.formats, connector.name, given);
        let sets = source_sets(&kind, chosen.format);
        let options = chosen.check(connector.name, sets, extra, given)?;
        let columns = settle_columns(connector, &kind, chosen.format, &options, columns)?;
        let spec = SourceSpec {
            connector: connector.name,
            kind,
            format: chosen.format,
            errors: options.get()?,
            dropped: Arc::default(),
            options,
            columns,
        };
        spec.decoder()?;
        Ok(spec)
    }

    /// A sink of this connector with the options `given` (without the key `connector`) for rows of
    /// these columns. `extra` are options that the caller reads: they come back in
    /// [`SinkSpec::options`].
    pub fn sink<S: Clone>(
        &self,
        name: &str,
        given: &[Given<S>],
        columns: SchemaRef,
        extra: &[OptionSet],
    ) -> Result<SinkSpec, Rejection<S>> {
        let connector = self.get(name)?;
        let kind = connector
            .sink
            .ok_or_else(|| wrong_role(connector, "sink"))?;
        let chosen = ChosenFormat::among(kind.formats, connector.name, given);
        let sets = sink_sets(&kind, chosen.format);
        let options = chosen.check(connector.name, sets, extra, given)?;
        let spec = SinkSpec {
            connector: connector.name,
            kind,
            format: chosen.format,
            errors: options.get()?,
            options,
            columns,
        };
        spec.sink()?;
        Ok(spec)
    }
}

pub(crate) fn wrong_role(connector: &Connector, role: &'static str) -> Error {
    Error::WrongRole {
        connector: connector.name.to_owned(),
        role,
    }
}

/// The columns of a source: those the connector returns, else those of its format.
fn settle_columns(
    connector: &Connector,
    kind: &SourceKind,
    format: Option<&Format>,
    options: &Checked,
    declared: Option<SchemaRef>,
) -> Result<SchemaRef> {
    let of_format = || {
        format
            .and_then(|format| format.columns)
            .map(|columns| columns())
    };
    let others = declared.as_ref().map(metadata_columns::without);
    let others = others.filter(|others| !others.fields().is_empty());
    let columns = (kind.columns)(options, others)?.or_else(of_format);
    let columns = columns.ok_or_else(|| Error::ColumnsMissing {
        connector: connector.name.to_owned(),
    })?;
    match declared {
        Some(declared) => metadata_columns::with(&columns, &declared),
        None => Ok(columns),
    }
}

#[cfg(test)]
mod tests;
