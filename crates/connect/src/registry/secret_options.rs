//! Which options of a `WITH` list are secrets, by their names alone: of a statement that cannot be read,
//! nobody knows the connector.

use super::{Connectors, sink_sets, source_sets};
use crate::formats::format;
use crate::options::{OptionSet, Row};
use crate::strategy::error_options;

/// The options that all connectors and formats declare.
pub struct DeclaredOptions {
    rows: Vec<Row>,
    connectors: Vec<&'static str>,
}

impl DeclaredOptions {
    /// Whether any connector or format declares an option of this name as a secret; `None` if none of them
    /// has such an option.
    pub fn is_secret(&self, key: &str) -> Option<bool> {
        let key = key.to_lowercase();
        let mut names = self.connectors.iter();
        let bare = names.find_map(|name| key.strip_prefix(name)?.strip_prefix('.'));
        let named = |row: &&Row| row.is_for(&key) || bare.is_some_and(|bare| row.is_for(bare));
        let found = self.rows.iter().filter(named).map(Row::is_secret);
        found.reduce(|a, b| a || b)
    }
}

impl Connectors {
    /// The options of all connectors in all their formats, and `others`.
    pub fn declared_options(&self, others: Vec<Row>) -> DeclaredOptions {
        let mut sets: Vec<OptionSet> = Vec::new();
        for connector in self.by_name.values() {
            if let Some(kind) = &connector.source {
                sets.extend(source_sets(kind, None));
                let formats = kind.formats.iter().filter_map(|name| format(name));
                sets.extend(formats.filter_map(|format| format.decoder_options));
            }
            if let Some(kind) = &connector.sink {
                sets.extend(sink_sets(kind, None));
                let formats = kind.formats.iter().filter_map(|name| format(name));
                sets.extend(formats.filter_map(|format| format.encoder_options));
            }
        }
        let rows = sets.iter().flat_map(OptionSet::rows);
        DeclaredOptions {
            rows: rows.chain(error_options()).chain(others).collect(),
            connectors: self.names().collect(),
        }
    }
}
