//! The connectors there are, by name, and how one of them and a `WITH` list become a source or a sink.
//!
//! [`Connectors::source`] finds the connector, puts together the sets of options that apply (its own, the
//! frames', the format's, those the caller adds), checks the list against all of them at once, and
//! settles columns and format. What comes out, a [`SourceSpec`], makes the source as often as it is
//! started. Nothing outside is touched here.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connector::{Connector, SinkArgs, SinkKind, SourceArgs, SourceKind};
use crate::connectors;
use crate::formats::{self, Decoder, Format};
use crate::options::{
    ByteSize, Checked, Fault, Given, Objection, OptionSet, Options, Problem, Value, check, nearest,
};
use crate::restart::RestartOptions;
use crate::{
    Backoff, BadRows, Blueprint, Cursor, Error, ErrorOptions, ErrorStrategy, Guarantee, Result,
    Sink, Source, Tally, stamp,
};

/// Every connector that Headwater brings.
const BUILTIN: &[Connector] = &[
    connectors::file::CONNECTOR,
    connectors::generate::CONNECTOR,
    connectors::process::CONNECTOR,
    connectors::stdout::CONNECTOR,
    connectors::websocket::CONNECTOR,
];

/// What every source of frames can be told about them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FrameOptions {
    /// How the bytes of a message become columns.
    #[serde(default)]
    #[allow(dead_code)] // Read before the options of the format are known, see `Chosen`.
    format: Option<String>,
    /// The largest message taken; a larger one becomes a bad row.
    #[serde(default)]
    max_frame: Option<ByteSize>,
}

impl Options for FrameOptions {
    fn objections(&self) -> Vec<Objection> {
        let nothing = self.max_frame.filter(|size| size.as_usize() == 0);
        let objection = nothing.map(|_| Objection {
            options: vec!["max_frame"],
            reason: "it must be at least 1 B".to_owned(),
        });
        objection.into_iter().collect()
    }
}

/// What every sink that writes bytes can be told about them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FormatOptions {
    /// How rows become bytes.
    #[serde(default)]
    #[allow(dead_code)] // Read before the options of the format are known, see `Chosen`.
    format: Option<String>,
}

impl Options for FormatOptions {}

/// Why a source or a sink cannot be made as asked.
#[derive(Debug)]
pub enum Rejection<S> {
    /// There is no such connector, or it or its format cannot do this.
    Error(Error),
    /// All that is wrong with its options.
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

/// The connectors that can be named.
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
    /// Those that Headwater brings.
    pub fn builtin() -> Self {
        Self {
            by_name: BUILTIN
                .iter()
                .map(|connector| (connector.name, *connector))
                .collect(),
        }
    }

    /// Adds one. Fails if there is one of this name, or if it is not declared as it should be.
    pub fn register(&mut self, connector: Connector) -> Result<()> {
        if self.by_name.contains_key(connector.name) {
            return Err(Error::DuplicateConnector {
                name: connector.name.to_owned(),
            });
        }
        if let Some(reason) = lint(&connector) {
            let connector = connector.name.to_owned();
            return Err(Error::BadConnector { connector, reason });
        }
        self.by_name.insert(connector.name, connector);
        Ok(())
    }

    /// The connector of this name, in any case.
    pub fn get(&self, name: &str) -> Result<&Connector> {
        self.by_name
            .get(name.to_lowercase().as_str())
            .ok_or_else(|| Error::UnknownConnector {
                name: name.to_owned(),
                nearest: nearest(name, self.names()),
            })
    }

    /// All names, sorted.
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
        let chosen = Chosen::among(kind.formats, connector.name, given);
        let mut sets = source_sets(&kind, chosen.format);
        sets.push(OptionSet::of::<ErrorOptions>());
        sets.extend_from_slice(extra);
        let options = chosen.check(connector.name, &sets, given)?;
        let columns = settle(connector, &kind, chosen.format, &options, columns)?;
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
        let chosen = Chosen::among(kind.formats, connector.name, given);
        let mut sets = sink_sets(&kind, chosen.format);
        sets.push(OptionSet::of::<ErrorOptions>());
        sets.extend_from_slice(extra);
        let options = chosen.check(connector.name, &sets, given)?;
        let spec = SinkSpec {
            connector: connector.name,
            kind,
            format: chosen.format,
            errors: options.get()?,
            options,
            columns,
        };
        spec.args()?;
        Ok(spec)
    }
}

/// The sets of options that a source of this kind and format has.
pub(crate) fn source_sets(kind: &SourceKind, format: Option<&Format>) -> Vec<OptionSet> {
    let frames = (!kind.formats.is_empty()).then(OptionSet::of::<FrameOptions>);
    let format = format.and_then(|format| format.decoder_options);
    let restart = OptionSet::of::<RestartOptions>();
    [Some(kind.options), frames, format, Some(restart)]
        .into_iter()
        .flatten()
        .collect()
}

/// The sets of options that a sink of this kind and format has.
pub(crate) fn sink_sets(kind: &SinkKind, format: Option<&Format>) -> Vec<OptionSet> {
    let formats = (!kind.formats.is_empty()).then(OptionSet::of::<FormatOptions>);
    let format = format.and_then(|format| format.encoder_options);
    [Some(kind.options), formats, format]
        .into_iter()
        .flatten()
        .collect()
}

fn wrong_role(connector: &Connector, role: &'static str) -> Error {
    Error::WrongRole {
        connector: connector.name.to_owned(),
        role,
    }
}

/// The columns of a source: the connector has the first say, its format the last.
fn settle(
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
    let others = declared.as_ref().map(stamp::without);
    let others = others.filter(|others| !others.fields().is_empty());
    let columns = (kind.columns)(options, others)?.or_else(of_format);
    let columns = columns.ok_or_else(|| Error::ColumnsMissing {
        connector: connector.name.to_owned(),
    })?;
    match declared {
        Some(declared) => stamp::with(&columns, &declared),
        None => Ok(columns),
    }
}

/// The format that a list of options asks for.
struct Chosen {
    /// The one asked for, else the connector's default; `None` if it has none.
    format: Option<&'static Format>,
    /// The key that asks for one that the connector does not have, and what is wrong.
    refused: Option<(usize, Fault)>,
}

impl Chosen {
    fn among<S>(formats: &[&str], connector: &str, given: &[Given<S>]) -> Self {
        let default = formats.first().and_then(|name| formats::format(name));
        let is_format = |given: &Given<S>| {
            let key = given.key.to_lowercase();
            key.strip_prefix(connector)
                .and_then(|rest| rest.strip_prefix('.'))
                .unwrap_or(&key)
                == "format"
        };
        let asked = given.iter().position(is_format);
        let Some((at, Value::Text(name))) = asked.map(|at| (at, &given[at].value)) else {
            return Self {
                format: default,
                refused: None,
            };
        };
        let known = formats
            .iter()
            .find(|format| format.eq_ignore_ascii_case(name));
        if default.is_none() || known.is_some() {
            let format = known.and_then(|name| formats::format(name));
            return Self {
                format,
                refused: None,
            };
        }
        let names = formats
            .iter()
            .map(|format| format!("'{format}'"))
            .collect::<Vec<_>>();
        let fault = Fault::WrongType {
            wanted: format!("one of {}", names.join(", ")),
            found: format!("'{name}'"),
            nearest: nearest(name, formats.iter().copied()),
        };
        Self {
            format: default,
            refused: Some((at, fault)),
        }
    }

    fn check<S: Clone>(
        &self,
        connector: &str,
        sets: &[OptionSet],
        given: &[Given<S>],
    ) -> Result<Checked, Vec<Problem<S>>> {
        let checked = check(connector, sets, given);
        let Some((at, fault)) = &self.refused else {
            return checked;
        };
        let mut problems = checked.err().unwrap_or_default();
        problems.push(Problem {
            key: given[*at].key.clone(),
            span: Some(given[*at].span.clone()),
            fault: fault.clone(),
        });
        Err(problems)
    }
}

/// A source that can be made: its options are right and its columns known.
#[derive(Clone)]
pub struct SourceSpec {
    connector: &'static str,
    kind: SourceKind,
    format: Option<&'static Format>,
    errors: ErrorOptions,
    /// Shared by all clones, and by every source made of them.
    dropped: Arc<Tally>,
    options: Checked,
    columns: SchemaRef,
}

impl SourceSpec {
    /// The connector's name.
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

    /// What was left out: bad rows because of `error.strategy = 'drop'`, and what the connector has
    /// options for.
    pub fn dropped(&self) -> &Tally {
        &self.dropped
    }
}

impl Blueprint for SourceSpec {
    fn source(&self, cursor: Option<Cursor>) -> Result<Box<dyn Source>> {
        let schema = stamp::without(&self.columns);
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
        make.map(|make| make(stamp::without(&self.columns), &self.options))
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
            // They are among the sets that were checked.
            Err(_) => given,
        }
    }
}

/// A sink that can be made: its options are right and it can write the columns.
#[derive(Clone)]
pub struct SinkSpec {
    connector: &'static str,
    kind: SinkKind,
    format: Option<&'static Format>,
    errors: ErrorOptions,
    options: Checked,
    columns: SchemaRef,
}

impl SinkSpec {
    /// The connector's name.
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

    /// How often a row arrives, if the process crashes and is started again with what was saved. A
    /// row that goes to the dead letters has arrived; one that is dropped has not.
    pub fn guarantee(&self) -> Guarantee {
        match self.errors.strategy() {
            Some(ErrorStrategy::Drop) => Guarantee::AtMostOnce,
            _ => (self.kind.guarantee)(&self.options),
        }
    }

    /// Makes the sink.
    pub fn sink(&self) -> Result<Box<dyn Sink>> {
        (self.kind.create)(self.args()?)
    }

    /// What the sink is made of.
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

/// Which rule a connector's declaration breaks.
fn lint(connector: &Connector) -> Option<String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if connector.name.is_empty() || !connector.name.chars().all(letters) {
        return Some("its name must be of lower case letters, digits and '_'".to_owned());
    }
    if connector.summary.is_empty() || connector.summary.ends_with('.') {
        return Some("it needs a summary without a full stop".to_owned());
    }
    if connector.source.is_none() && connector.sink.is_none() {
        return Some("it is neither source nor sink".to_owned());
    }
    let source = connector
        .source
        .map(|kind| (kind.formats, source_sets(&kind, None)));
    let sink = connector
        .sink
        .map(|kind| (kind.formats, sink_sets(&kind, None)));
    let reads = |format: &Format| format.decoder.is_some();
    let writes = |format: &Format| format.encoder.is_some();
    lint_role(source, reads).or_else(|| lint_role(sink, writes))
}

fn lint_role(
    role: Option<(&[&str], Vec<OptionSet>)>,
    can: impl Fn(&Format) -> bool,
) -> Option<String> {
    let (formats, sets) = role?;
    let cannot = |name: &&&str| !formats::format(name).is_some_and(&can);
    if let Some(name) = formats.iter().find(cannot) {
        return Some(format!("there is no format {name:?} for what it does"));
    }
    sets.iter().find_map(OptionSet::lint)
}

#[cfg(test)]
mod tests;
