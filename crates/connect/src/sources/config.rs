//! The configuration of a source: its options, its columns, its cursor and its secrets.
//!
//! Credentials are options as well, but kept apart: they may only be given to options that are declared
//! as secrets, and so are never shown, neither here nor in the output of a connector.

use std::collections::BTreeMap;
use std::fmt;

use arrow::datatypes::SchemaRef;
use serde_json::Value as Json;

use crate::options::{Given, OptionSet, Row, Secret, Value};
use crate::registry::source_sets;
use crate::{Connector, Cursor, Error, Result};

/// The options, columns and cursor to make a source with.
#[derive(Debug, Clone, Default)]
pub struct SourceConfig {
    pub(super) given: Vec<Given<()>>,
    pub(super) columns: Option<SchemaRef>,
    pub(super) cursor: Option<Cursor>,
}

impl SourceConfig {
    /// A configuration without options, columns or cursor.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a JSON object: each entry is an option, `cursor` is the cursor, and a nested object is a group
    /// of options, so `{"headers": {"Accept": "x"}}` is `headers.Accept`.
    pub fn from_json(config: Json) -> Result<Self> {
        let Json::Object(entries) = config else {
            return Err(Error::Options(
                "a configuration must be an object".to_owned(),
            ));
        };
        let mut read = Self::new();
        for (key, value) in entries {
            match value {
                cursor if key == "cursor" => read.cursor = Some(Cursor(cursor)),
                value => read.add(&key, value)?,
            }
        }
        Ok(read)
    }

    fn add(&mut self, key: &str, value: Json) -> Result<()> {
        if let Json::Object(entries) = value {
            let mut entries = entries.into_iter();
            return entries
                .try_for_each(|(entry, value)| self.add(&format!("{key}.{entry}"), value));
        }
        let unusable = || {
            Error::Options(format!(
                "option {key:?} has a value that no option can have"
            ))
        };
        let value = value_of(value).ok_or_else(unusable)?;
        self.given.push(Given::new(key, value));
        Ok(())
    }

    /// Adds an option with its value.
    #[must_use]
    pub fn option(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.given.push(Given::new(key, value));
        self
    }

    /// Sets the columns, for a kind that does not know them by itself.
    #[must_use]
    pub fn columns(mut self, columns: SchemaRef) -> Self {
        self.columns = Some(columns);
        self
    }

    /// Sets the cursor to continue from, which overrides the saved one.
    #[must_use]
    pub fn cursor(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }
}

fn value_of(json: Json) -> Option<Value> {
    match json {
        Json::String(text) => Some(Value::Text(text)),
        Json::Bool(truth) => Some(Value::Bool(truth)),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Some(Value::Integer(number)),
            None => number.as_f64().map(Value::Number),
        },
        Json::Array(items) => {
            let items: Option<_> = items.into_iter().map(value_of).collect();
            items.map(Value::List)
        }
        Json::Null | Json::Object(_) => None,
    }
}

/// The secrets of a source, by the names of its options. Debug output shows them as `***`.
#[derive(Clone, Default)]
pub struct Credentials {
    secrets: BTreeMap<String, Secret>,
}

impl Credentials {
    /// An empty set of credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the secret for an option; replaces an earlier one.
    #[must_use]
    pub fn with(mut self, option: &str, secret: impl Into<Secret>) -> Self {
        self.secrets.insert(option.to_owned(), secret.into());
        self
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.secrets).finish()
    }
}

/// Options and credentials together. Fails with a sentence if a credential is given to an option that is
/// shown.
pub(super) fn merged(
    connector: &Connector,
    credentials: &Credentials,
    config: &SourceConfig,
) -> Result<Vec<Given<()>>, String> {
    let sets = connector.source.map(|kind| source_sets(&kind, None));
    let sets = sets.unwrap_or_default();
    for option in credentials.secrets.keys() {
        if is_shown(connector.name, &sets, option) {
            return Err(format!(
                "option {option:?} is not a secret: give it in the config, not in the credentials"
            ));
        }
    }
    let secrets = credentials.secrets.iter();
    let secrets = secrets.map(|(option, secret)| Given::new(option, secret.expose()));
    Ok(config.given.iter().cloned().chain(secrets).collect())
}

/// Whether the option exists and is not declared as a secret.
fn is_shown(connector: &str, sets: &[OptionSet], option: &str) -> bool {
    let key = option.to_lowercase();
    let bare = key
        .strip_prefix(connector)
        .and_then(|rest| rest.strip_prefix('.'));
    let is_it = |row: &Row| row.is_for(&key) || bare.is_some_and(|bare| row.is_for(bare));
    let mut rows = sets.iter().flat_map(OptionSet::rows);
    rows.any(|row| is_it(&row) && !row.is_secret())
}
