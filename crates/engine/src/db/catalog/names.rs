//! How a name is looked up: its declared spelling, its topic, and the error that points at a name.

use std::sync::Arc;

use super::{Catalog, CatalogEntry, QueryEntry, SinkEntry, SourceEntry, SystemTable};
use crate::dataflow::MetadataColumn;
use crate::error::{Error, Result};
use crate::sql::plan::Relation;
use crate::sql::{Kind, Name, NamedMetadataColumns, SqlError, TableLookup, sqlstate};
use crate::topic::Topic;

impl Catalog {
    /// The declared spelling of a name: exact, or the only one that differs in case.
    pub fn spelling(&self, name: &str) -> Option<&str> {
        if let Some((exact, _)) = self.entries.get_key_value(name) {
            return Some(exact);
        }
        let names = self.entries.keys();
        let mut similar = names.filter(|other| other.eq_ignore_ascii_case(name));
        let only = similar.next()?;
        similar.next().is_none().then_some(only)
    }

    pub fn get(&self, name: &str) -> Option<&CatalogEntry> {
        self.entries.get(self.spelling(name)?)
    }

    /// The entry of this name and its declared spelling, or an error that points at the name.
    pub fn named(&self, name: &Name) -> Result<(&str, &CatalogEntry), SqlError> {
        let declared = self.spelling(&name.value);
        let found = declared.and_then(|it| Some((it, self.entries.get(it)?)));
        found.ok_or_else(|| undefined(name))
    }

    /// The stream or view of this name, or an error that points at the name.
    pub fn stream_named(&self, name: &Name) -> Result<(String, &QueryEntry), SqlError> {
        match self.named(name)? {
            (declared, CatalogEntry::Query(query)) => Ok((declared.to_owned(), query)),
            (declared, other) => Err(not_a(name, declared, other.kind(), Kind::Stream).hint(
                "A source runs while a stream that reads it is active: START or PAUSE that.",
            )),
        }
    }

    /// The sink of this name, or an error that points at the name.
    pub fn sink_named(&self, name: &Name) -> Result<(String, &SinkEntry), SqlError> {
        match self.named(name)? {
            (declared, CatalogEntry::Sink(sink)) => Ok((declared.to_owned(), sink)),
            (declared, other) => Err(not_a(name, declared, other.kind(), Kind::Sink)),
        }
    }

    /// The source of this name, or an error that points at the name; `hint` helps who named
    /// something else.
    pub fn source_named(
        &self,
        name: &Name,
        hint: &str,
    ) -> Result<(String, &SourceEntry), SqlError> {
        match self.named(name)? {
            (declared, CatalogEntry::Source(source)) => Ok((declared.to_owned(), source)),
            (declared, other) => Err(not_a(name, declared, other.kind(), Kind::Source).hint(hint)),
        }
    }

    pub fn source(&self, name: &str) -> Result<&SourceEntry> {
        let source = self.get(name).and_then(CatalogEntry::source);
        source.ok_or_else(|| Error::SourceNotFound {
            name: name.to_owned(),
        })
    }

    pub fn source_mut(&mut self, name: &str) -> Result<&mut SourceEntry> {
        let name = self.spelling(name).unwrap_or(name).to_owned();
        match self.entries.get_mut(&name) {
            Some(CatalogEntry::Source(source)) => Ok(source),
            _ => Err(Error::SourceNotFound { name }),
        }
    }

    /// All topics: of sources, streams and views, and of their bad and late rows.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.entries.values().flat_map(CatalogEntry::topics)
    }

    /// The topic of this name; the exact spelling is preferred. `stream:x` and `source:x` name the
    /// kind, too.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        let exact = self.topics().find(|topic| topic.relation.name == name);
        let same = |topic: &&Arc<Topic>| topic.relation.name.eq_ignore_ascii_case(name);
        let found = exact.or_else(|| {
            let mut similar = self.topics().filter(same);
            similar.next().filter(|_| similar.next().is_none())
        });
        let found = found.cloned().or_else(|| self.topic_of_kind(name));
        found.ok_or_else(|| self.no_topic(name))
    }

    /// The topic of this name, or an error that points at the name.
    pub fn topic_named(&self, name: &Name) -> Result<Arc<Topic>> {
        self.topic(&name.value).map_err(|error| match error {
            Error::NotFound { .. } => undefined(name).into(),
            other => other,
        })
    }

    fn topic_of_kind(&self, name: &str) -> Option<Arc<Topic>> {
        let (kind, name) = name.split_once(':')?;
        match (kind, self.get(name)?) {
            ("source", CatalogEntry::Source(source)) => Some(Arc::clone(&source.topic)),
            ("stream", CatalogEntry::Query(query)) if !query.lifecycle.has_no_columns() => {
                Some(Arc::clone(&query.topic))
            }
            _ => None,
        }
    }

    fn no_topic(&self, name: &str) -> Error {
        let bare = name.strip_prefix("stream:").unwrap_or(name);
        match self.get(bare) {
            Some(CatalogEntry::Query(_)) => Error::config(format!(
                "stream {bare:?} has no columns yet: attach a source first"
            )),
            _ => Error::NotFound {
                name: name.to_owned(),
            },
        }
    }

    /// All relations that a query can read, with the metadata columns that it names.
    pub fn relations(&self, named: &NamedMetadataColumns) -> Vec<Relation> {
        let mut relations: Vec<_> = self.topics().map(|topic| topic.relation.clone()).collect();
        for source in self.sources() {
            let name = &source.topic.relation.name;
            if let Some(relation) = relations.iter_mut().find(|it| it.name == *name) {
                relation.event_time = source.event_columns();
            }
        }
        let with_metadata = |relation: Relation| match named.get(&relation.name) {
            Some(columns) => relation.with_metadata_columns(columns.iter().copied()),
            None => relation,
        };
        relations.into_iter().map(with_metadata).collect()
    }
}

impl TableLookup for Catalog {
    fn names(&self) -> Vec<String> {
        let topics = self.topics().map(|topic| topic.relation.name.clone());
        let tables = SystemTable::ALL.iter().map(SystemTable::full_name);
        topics.chain(tables).collect()
    }

    fn columns(&self, table: &str) -> Option<Vec<String>> {
        let topic = self.topics().find(|topic| topic.relation.name == table);
        let Some(topic) = topic else {
            return SystemTable::find(table).map(SystemTable::column_names);
        };
        let fields = topic.relation.schema.fields();
        Some(fields.iter().map(|field| field.name().clone()).collect())
    }

    fn metadata_columns(&self, table: &str) -> Vec<MetadataColumn> {
        let Some(source) = self.sources().find(|it| it.topic.relation.name == table) else {
            return Vec::new();
        };
        let declared = &source.topic.relation.schema;
        let columns = MetadataColumn::ALL.into_iter();
        columns
            .filter(|column| declared.field_with_name(column.name()).is_err())
            .collect()
    }
}

pub(crate) fn undefined(name: &Name) -> SqlError {
    SqlError::new(
        sqlstate::UNDEFINED_TABLE,
        format!("there is no {:?}", name.value),
    )
    .hint("SHOW SOURCES, SHOW STREAMS, SHOW VIEWS and SHOW SINKS list what there is.")
    .at(name.span.clone())
}

/// The error that points at `name`, which is a `found`, where a `wanted` is needed.
pub(crate) fn not_a(name: &Name, declared: &str, found: Kind, wanted: Kind) -> SqlError {
    let message = format!("{declared:?} is a {found}, not a {wanted}");
    SqlError::new(sqlstate::WRONG_KIND, message).at(name.span.clone())
}
