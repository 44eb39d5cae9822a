//! What exists: sources, streams, views and sinks by name, the statements that define them, and what
//! reads what.

mod entry;
mod names;
mod readers;
mod stream;
mod system_tables;

use std::collections::BTreeMap;

use crate::durable::Definition;
use crate::event_time::WatermarkConfig;
use crate::stream_status::{LifecycleState, SavedStream};

pub(crate) use crate::sql::sqlstate::{NOT_IN_STATE, WRONG_KIND};
pub(crate) use entry::{
    CatalogEntry, ConnectorEnd, QueryEntry, SinkEntry, SourceConnector, SourceEntry, event_columns,
};
pub(crate) use names::{not_a, undefined};
pub(crate) use stream::{HeldInput, Start, StreamDefinition, StreamLifecycle};
pub(crate) use system_tables::{Cell, SYSTEM_SCHEMA, SystemTable};

#[derive(Default)]
pub(crate) struct Catalog {
    pub entries: BTreeMap<String, CatalogEntry>,
    /// The names in the order of creation.
    pub order: Vec<String>,
    definitions: BTreeMap<String, Definition>,
}

impl Catalog {
    pub fn insert(&mut self, name: &str, entry: CatalogEntry) {
        self.entries.insert(name.to_owned(), entry);
        self.order.push(name.to_owned());
    }

    pub fn remove(&mut self, name: &str) -> Option<CatalogEntry> {
        self.definitions.remove(name);
        self.order.retain(|other| other != name);
        self.entries.remove(name)
    }

    /// `text` is the statement that created it.
    pub fn define(&mut self, name: &str, text: &str) {
        let definition = Definition {
            name: name.to_owned(),
            text: text.to_owned(),
            event_time: None,
            altered: String::new(),
        };
        self.definitions.insert(name.to_owned(), definition);
    }

    /// `time` is the event time that a handle was opened with.
    pub fn define_event_time(&mut self, name: &str, time: &WatermarkConfig) {
        if let Some(definition) = self.definitions.get_mut(name) {
            definition.event_time = Some(time.clone());
        }
    }

    /// `text` is one ALTER statement with every option changed since the creation.
    pub fn define_altered(&mut self, name: &str, text: String) {
        if let Some(definition) = self.definitions.get_mut(name) {
            definition.altered = text;
        }
    }

    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.definitions.get(name)
    }

    /// The definitions of all that exists, in an order in which they can be executed.
    pub fn definitions(&self) -> Vec<Definition> {
        let in_order = self.order.iter();
        let defined = in_order.filter_map(|name| self.definitions.get(name));
        defined.cloned().collect()
    }

    pub fn sources(&self) -> impl Iterator<Item = &SourceEntry> {
        self.entries.values().filter_map(CatalogEntry::source)
    }

    pub fn queries(&self) -> impl Iterator<Item = (&String, &QueryEntry)> {
        let entries = self.entries.iter();
        entries.filter_map(|(name, entry)| Some((name, entry.query()?)))
    }

    pub fn sinks(&self) -> impl Iterator<Item = (&String, &SinkEntry)> {
        let entries = self.entries.iter();
        entries.filter_map(|(name, entry)| Some((name, entry.sink()?)))
    }

    pub fn query(&self, name: &str) -> Option<&QueryEntry> {
        self.entries.get(name)?.query()
    }

    pub fn query_mut(&mut self, name: &str) -> Option<&mut QueryEntry> {
        match self.entries.get_mut(name)? {
            CatalogEntry::Query(query) => Some(query),
            _ => None,
        }
    }

    pub fn sink(&self, name: &str) -> Option<&SinkEntry> {
        self.entries.get(name)?.sink()
    }

    pub fn sink_mut(&mut self, name: &str) -> Option<&mut SinkEntry> {
        match self.entries.get_mut(name)? {
            CatalogEntry::Sink(sink) => Some(sink),
            _ => None,
        }
    }

    /// What a checkpoint saves of streams, besides their definitions.
    pub fn lifecycle_state(&self) -> LifecycleState {
        let streams = self
            .queries()
            .map(|(name, query)| (name.clone(), saved(query)));
        LifecycleState {
            streams: streams.collect(),
        }
    }
}

fn saved(query: &QueryEntry) -> SavedStream {
    let lifecycle = &query.lifecycle;
    let attached = match lifecycle.is_source_group() {
        true => query.inputs.clone(),
        false => Vec::new(),
    };
    SavedStream {
        status: lifecycle.status,
        attached,
        held: BTreeMap::new(),
    }
}
