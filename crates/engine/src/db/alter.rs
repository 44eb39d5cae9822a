//! ALTER SOURCE: other options for a source that stays what it is.
//!
//! ```text
//!   options of CREATE  ◄─ those of earlier ALTERs ◄─ those of this one     later ones win
//!     -> checked together, as CREATE would -> the connector stops at its cursor
//!     -> the next start makes it with them and goes on from there
//! ```
//!
//! Columns, connector, buffer and log cannot be changed: the rows that are there would not fit. What
//! was changed is kept as one ALTER statement beside the CREATE that it changes, and runs again after
//! it at a restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_connect::options::OptionSet;
use headwater_connect::{Blueprint, SourceSpec, State};

use super::Inner;
use super::catalog::Entry;
use super::options::{Place, SourceOptions};
use super::statements::{Outcome, schema_of, undefined};
use super::streams::WRONG_KIND;
use crate::durable::Definition;
use crate::error::{Error, Result};
use crate::sql::{
    AlterSource, CreateSource, Name, OptionEntry, SqlError, Statement, parse, sqlstate,
};

impl Inner {
    pub(super) fn alter_source(&self, alter: &AlterSource, place: &Place) -> Result<Outcome> {
        let (name, definition) = self.altered_source(&alter.source)?;
        let create = created(&definition)?;
        let connector = connector_of(&create.options);
        alter.options.iter().try_for_each(refuse_fixed)?;
        let changes = merged(earlier(&definition)?, &alter.options, &connector);
        // What was said before stands in another text: its faults are those of this statement.
        let mut before = create.options.clone();
        before.iter_mut().for_each(|option| option.stand_at(place));
        let mut changed = changes.clone();
        changed
            .iter_mut()
            .filter(|it| !alter.options.contains(it))
            .for_each(|option| option.stand_at(place));
        let options = merged(before, &changed, &connector);
        let declared = (!create.columns.is_empty()).then(|| schema_of(&create.columns));
        let (_, spec) = self.source_options(&options, declared, place)?;
        let Some(spec) = spec else {
            return Err(no_connector(&alter.source).into());
        };
        self.ensure_dead_letters(spec.errors(), &options, &name, &[])?;
        self.remake(&name, spec, place)?;
        let text = AlterSource::text(&name, &changes);
        self.catalog().define_altered(&name, text);
        Ok(Outcome::Altered { name })
    }

    /// Makes again the changes of a source that was made again.
    pub(super) fn alter_again(&self, definition: &Definition) -> Result<()> {
        if definition.altered.is_empty() {
            return Ok(());
        }
        self.execute_again(&definition.altered).map_err(|error| {
            let name = &definition.name;
            Error::Data(format!("{name:?} cannot be altered again: {error}"))
        })
    }

    fn altered_source(&self, name: &Name) -> Result<(String, Definition)> {
        let catalog = self.catalog();
        let declared = catalog.spelling(&name.value).unwrap_or(&name.value);
        match catalog.entries.get(declared) {
            Some(Entry::Source(source)) if source.connector.is_none() => {
                Err(no_connector(name).into())
            }
            Some(Entry::Source(_)) => match catalog.definition(declared) {
                Some(definition) => Ok((declared.to_owned(), definition.clone())),
                None => Err(undefined(name).into()),
            },
            Some(other) => {
                let message = format!("{declared:?} is a {}, not a source", other.kind());
                let error = SqlError::new(WRONG_KIND, message)
                    .hint("DROP it and create it again with the options that it should have.");
                Err(error.at(name.span.clone()).into())
            }
            None => Err(undefined(name).into()),
        }
    }

    /// Stops the connector; its next start makes it of `spec`. Blocks until it has stopped.
    fn remake(&self, name: &str, spec: SourceSpec, place: &Place) -> Result<()> {
        let (handle, again) = {
            let catalog = self.catalog();
            let source = catalog.source(name)?;
            if Blueprint::schema(&spec) != source.topic.relation.schema {
                let message = format!("with these options {name:?} would have other columns");
                let error = SqlError::new(sqlstate::INVALID_PARAMETER, message)
                    .hint("DROP it and create it again.");
                return Err(error.at(place.clone()).into());
            }
            let Some(connector) = &source.connector else {
                return Ok(());
            };
            (Arc::clone(&connector.handle), Arc::clone(&connector.again))
        };
        let state = handle.status().state;
        if state.is_active() || state == State::Failed {
            again.store(true, Ordering::Release);
        }
        if state.is_active() {
            let handle = Arc::clone(&handle);
            self.block_on(async move { handle.pause().await });
        }
        handle.remake(Arc::new(spec.clone()));
        if let Some(connector) = &mut self.catalog().source_mut(name)?.connector {
            connector.dropped_before += connector.spec.dropped().total();
            connector.spec = spec;
        }
        Ok(())
    }
}

impl OptionEntry {
    /// As if it had been written there.
    fn stand_at(&mut self, place: &Place) {
        self.key_span = place.clone();
        self.value_span = place.clone();
    }
}

/// The statement that created a source.
fn created(definition: &Definition) -> Result<CreateSource> {
    let statement = parse(&definition.text)?.into_iter().next();
    match statement.map(|it| it.node) {
        Some(Statement::CreateSource(create)) => Ok(create),
        _ => Err(Error::Config {
            what: format!("{:?} was not created by CREATE SOURCE", definition.name),
        }),
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

/// `before`, and what `after` says in its place.
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

/// Refuses options that a source has from its creation on.
fn refuse_fixed(option: &OptionEntry) -> Result<()> {
    let own = OptionSet::of::<SourceOptions>().rows();
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
    SqlError::new(WRONG_KIND, message)
        .hint("A program pushes its rows; DROP it and create it again.")
        .at(name.span.clone())
}
