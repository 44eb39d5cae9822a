//! ALTER SOURCE: other options for a source that stays what it is.
//!
//! ```text
//!   options of CREATE  ◄─ those of earlier ALTERs ◄─ those of this one     later ones win
//!     -> checked together, as CREATE would -> the connector stops at its cursor
//!     -> the next start makes it with them and resumes from there
//! ```
//!
//! Columns, connector, buffer and log cannot be changed: rows that exist would not fit. The changes are
//! kept as one ALTER statement beside the CREATE that it changes, and a restart executes it after that.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_connect::options::OptionSet;
use headwater_connect::{Blueprint, SourceSpec, State};

use super::dead_letter_stream::ensure_dead_letter_stream;
use super::declaration::payload_of;
use crate::db::catalog::{Catalog, undefined};
use crate::db::engine::Engine;
use crate::db::options::{IngestOptions, OptionSpan, source_spec};
use crate::db::outcome::Outcome;
use crate::durable::Definition;
use crate::error::{Error, Result};
use crate::sql::{
    AlterSource, CreateSource, Kind, Name, OptionEntry, SqlError, Statement, alter_text, parse,
    sqlstate,
};

pub(crate) fn alter_source(
    engine: &Engine,
    alter: &AlterSource,
    place: &OptionSpan,
) -> Result<Outcome> {
    let (name, definition) = altered_source(&engine.catalog(), &alter.source)?;
    let create = created(&definition)?;
    let connector = connector_of(&create.options);
    alter.options.iter().try_for_each(refuse_fixed)?;
    let changes = merged(earlier(&definition)?, &alter.options, &connector);
    // Earlier options are in another text: their problems are reported at this statement.
    let mut before = create.options.clone();
    before.iter_mut().for_each(|option| option.move_to(place));
    let mut changed = changes.clone();
    changed
        .iter_mut()
        .filter(|it| !alter.options.contains(it))
        .for_each(|option| option.move_to(place));
    let options = merged(before, &changed, &connector);
    let declared = (!create.columns.is_empty()).then(|| payload_of(&create.columns));
    let (_, spec) = source_spec(&engine.connectors, &options, declared, place)?;
    let Some(spec) = spec else {
        return Err(no_connector(&alter.source).into());
    };
    ensure_dead_letter_stream(engine, spec.errors(), &options, &name, &[])?;
    replace_connector(engine, &name, spec, place)?;
    let text = alter_text(Kind::Source, &name, &changes);
    engine.catalog().define_altered(&name, text);
    let kind = Kind::Source;
    Ok(Outcome::Altered { kind, name })
}

fn altered_source(catalog: &Catalog, name: &Name) -> Result<(String, Definition)> {
    let hint = "DROP it and create it again with the options that it should have.";
    let (declared, source) = catalog.source_named(name, hint)?;
    if source.connector.is_none() {
        return Err(no_connector(name).into());
    }
    let definition = catalog.definition(&declared);
    let definition = definition.ok_or_else(|| undefined(name))?.clone();
    Ok((declared, definition))
}

/// Stops the connector; its next start makes it of `spec`. Blocks until it has stopped.
fn replace_connector(
    engine: &Engine,
    name: &str,
    spec: SourceSpec,
    place: &OptionSpan,
) -> Result<()> {
    let (handle, restart) = {
        let catalog = engine.catalog();
        let source = catalog.source(name)?;
        if Blueprint::schema(&spec) != *source.shared.schema() {
            let message = format!("with these options {name:?} would have other columns");
            let error = SqlError::new(sqlstate::INVALID_PARAMETER, message)
                .hint("DROP it and create it again.");
            return Err(error.at(place.clone()).into());
        }
        let Some(connector) = &source.connector else {
            return Ok(());
        };
        (
            Arc::clone(&connector.handle),
            Arc::clone(&connector.restart),
        )
    };
    let state = handle.status().state;
    if state.is_active() || state == State::Failed {
        restart.store(true, Ordering::Release);
    }
    if state.is_active() {
        let handle = Arc::clone(&handle);
        engine.io.block_on(async move { handle.pause().await });
    }
    handle.remake(Arc::new(spec.clone()));
    if let Some(connector) = &mut engine.catalog().source_mut(name)?.connector {
        connector.dropped_before += connector.spec.dropped().total();
        connector.spec = spec;
    }
    Ok(())
}

impl OptionEntry {
    /// Reports problems of the option at `place`.
    fn move_to(&mut self, place: &OptionSpan) {
        self.key_span = place.clone();
        self.value_span = place.clone();
    }
}

fn created(definition: &Definition) -> Result<CreateSource> {
    let statement = parse(&definition.text)?.into_iter().next();
    match statement.map(|it| it.node) {
        Some(Statement::CreateSource(create)) => Ok(create),
        _ => Err(Error::config(format!(
            "{:?} was not created by CREATE SOURCE",
            definition.name
        ))),
    }
}

/// The options of earlier ALTER statements.
fn earlier(definition: &Definition) -> Result<Vec<OptionEntry>> {
    let statement = parse(&definition.altered)?.into_iter().next();
    Ok(match statement.map(|it| it.node) {
        Some(Statement::AlterSource(alter)) => alter.options,
        _ => Vec::new(),
    })
}

fn connector_of(options: &[OptionEntry]) -> String {
    let connector = options
        .iter()
        .find(|option| option.key.eq_ignore_ascii_case("connector"));
    connector.map_or_else(String::new, |option| option.value.to_string())
}

/// The options of `before`, replaced by those of the same name in `after`.
fn merged(
    mut before: Vec<OptionEntry>,
    after: &[OptionEntry],
    connector: &str,
) -> Vec<OptionEntry> {
    let replaced = |option: &OptionEntry| {
        let name = bare(&option.key, connector);
        after.iter().any(|it| bare(&it.key, connector) == name)
    };
    before.retain(|option| !replaced(option));
    before.extend_from_slice(after);
    before
}

/// The name of an option, which may be written with the connector's name in front.
fn bare(key: &str, connector: &str) -> String {
    let key = key.to_lowercase();
    let prefix = format!("{}.", connector.to_lowercase());
    key.strip_prefix(&prefix).unwrap_or(&key).to_owned()
}

/// Refuses options that a source cannot change after its creation.
fn refuse_fixed(option: &OptionEntry) -> Result<()> {
    let own = OptionSet::of::<IngestOptions>().rows();
    let is_own = own
        .iter()
        .any(|row| row.name.eq_ignore_ascii_case(&option.key));
    if !is_own && !option.key.eq_ignore_ascii_case("connector") {
        return Ok(());
    }
    let error = SqlError::not_built(format!("changing the option {:?} of a source", option.key))
        .hint("DROP the source and create it again; options of its connector, its format and error.* can be changed.");
    Err(error
        .at(option.key_span.start..option.value_span.end)
        .into())
}

fn no_connector(name: &Name) -> SqlError {
    let message = format!(
        "source {:?} has no connector whose options could change",
        name.value
    );
    SqlError::new(sqlstate::WRONG_KIND, message)
        .hint("A program pushes its rows; DROP it and create it again.")
        .at(name.span.clone())
}
