//! What a source is to be made of: its options, its columns, where to continue, and its secrets.
//!
//! Credentials are options as well, but kept apart: they may only be given to options that are declared
//! as secrets, and so are never shown, neither here nor in what a connector says about itself.

use std::collections::BTreeMap;
use std::fmt;

use arrow::datatypes::SchemaRef;
use serde_json::Value as Json;

use crate::options::{Given, OptionSet, Secret, Value};
use crate::registry::source_sets;
use crate::{Connector, Cursor, Error, Result};

/// The options of a source that is to be made.
#[derive(Debug, Clone, Default)]
pub struct SourceConfig {
    given: Vec<Given<()>>,
    pub(super) columns: Option<SchemaRef>,
    pub(super) cursor: Option<Cursor>,
}

impl SourceConfig {
    /// Nothing given.
    pub fn new() -> Self {
        Self::default()
    }

    /// From an object: each entry is an option, `cursor` is where to continue; an object within it is a
    /// group of options, so `{"headers": {"Accept": "x"}}` is `headers.Accept`.
    pub fn from_json(config: Json) -> Result<Self> {
        let Json::Object(entries) = config else {
            return Err(Error::Options("a configuration is an object".to_owned()));
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
        let unusable =
            || Error::Options(format!("option {key:?} is nothing that an option can be"));
        let value = value_of(value).ok_or_else(unusable)?;
        self.given.push(Given::new(key, value));
        Ok(())
    }

    /// With this option.
    #[must_use]
    pub fn option(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.given.push(Given::new(key, value));
        self
    }

    /// With these columns, if the kind does not know them by itself.
    #[must_use]
    pub fn columns(mut self, columns: SchemaRef) -> Self {
        self.columns = Some(columns);
        self
    }

    /// Continuing from here, whatever was saved.
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

/// The secrets of a source, by the names of its options. Shown as `***` wherever they might be seen.
#[derive(Clone, Default)]
pub struct Credentials {
    secrets: BTreeMap<String, Secret>,
}

impl Credentials {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this secret; one that was given under the same name before is forgotten.
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

/// All options together. Fails, with a sentence, if a credential is given to an option that is shown.
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
                "option {option:?} is no secret: give it in the config, not among the credentials"
            ));
        }
    }
    let secrets = credentials.secrets.iter();
    let secrets = secrets.map(|(option, secret)| Given::new(option, secret.expose()));
    Ok(config.given.iter().cloned().chain(secrets).collect())
}

/// Whether there is such an option, and it is not declared as a secret.
fn is_shown(connector: &str, sets: &[OptionSet], option: &str) -> bool {
    let key = option.to_lowercase();
    let bare = key
        .strip_prefix(connector)
        .and_then(|rest| rest.strip_prefix('.'));
    let is = |name: &str, key: &str| match name.strip_suffix('*') {
        Some(group) => key.starts_with(group),
        None => name == key,
    };
    let is_it = |name: &str| is(name, &key) || bare.is_some_and(|bare| is(name, bare));
    let mut rows = sets.iter().flat_map(OptionSet::rows);
    rows.any(|row| is_it(&row.name) && !row.kind.ends_with("secret"))
}
