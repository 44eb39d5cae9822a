//! What exists: sources, streams, views and sinks by name, and what reads what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_connect::{Blueprint, Receipt, SinkSpec, SourceHandle, SourceSpec};
use tokio_util::sync::CancellationToken;

use super::life::Life;
use super::options::WalOption;
use super::system::{SystemTable, TABLES};
use crate::dataflow::MetadataColumn;
use crate::durable::Definition;
use crate::error::{Error, Result};
use crate::event_time::{EventTimeColumn, WatermarkConfig};
use crate::source::{SourceConfig, SourceShared};
use crate::sql::plan::{EventColumn, Relation};
use crate::sql::{NamedMetadataColumns, TableLookup};
use crate::subscription::Subscription;
use crate::tap::SourceTap;
use crate::topic::Topic;
use crate::worker::WorkerCommand;

pub use crate::sql::Kind;

/// Something that was created.
pub(super) enum Entry {
    Source(SourceEntry),
    /// A stream or a view.
    Query(QueryEntry),
    Sink(SinkEntry),
}

pub(super) struct SourceEntry {
    pub topic: Arc<Topic>,
    pub bad: Arc<Topic>,
    pub shared: Arc<SourceShared>,
    /// The settings of CREATE SOURCE, for handles that bring none of their own.
    pub config: SourceConfig,
    pub time: Option<EventTimeColumn>,
    /// What CREATE SOURCE said of its log.
    pub wal: Option<WalOption>,
    pub connector: Option<SourceConnector>,
}

pub(super) struct SourceConnector {
    pub spec: SourceSpec,
    pub handle: Arc<SourceHandle>,
    pub tap: SourceTap,
    /// What it left out before its options were changed.
    pub dropped_before: u64,
    /// It was paused for want of an active stream, or is to be tried once more: to be started again
    /// when it is wanted, so that it rests is not its end.
    pub again: Arc<AtomicBool>,
    /// Whether the task that watches it runs.
    pub watched: AtomicBool,
}

pub(super) struct QueryEntry {
    pub kind: Kind,
    pub topic: Arc<Topic>,
    pub late: Vec<Arc<Topic>>,
    pub inputs: Vec<String>,
    pub text: String,
    pub logical: String,
    pub life: Life,
}

pub(super) struct SinkEntry {
    /// The topic it writes; empty until INSERT INTO feeds a declared sink.
    pub input: String,
    /// The columns it takes.
    pub declared: arrow::datatypes::SchemaRef,
    pub spec: SinkSpec,
    pub stop: CancellationToken,
    pub status: Arc<super::sink_task::SinkStatus>,
    /// Where it was in the outside system before a restart.
    pub receipt: Option<Receipt>,
    /// The rows of a query of its own, subscribed to before it had any, until the task takes them.
    pub rows: Option<Subscription>,
    /// Set once the sink's task runs.
    pub task: Option<tokio::task::JoinHandle<()>>,
}

impl SourceConnector {
    /// Whether it goes on from a cursor. One that cannot be made will not run either.
    pub fn goes_back(&self) -> bool {
        let made = self.spec.source(None);
        made.is_ok_and(|source| source.supports_incremental())
    }
}

impl SourceEntry {
    /// Whether nothing more will come of its connector, if it has one: all it gave has been handed
    /// to the worker, and at the end of its input the source is closed.
    pub fn has_ended(&self) -> bool {
        use headwater_connect::{End, State};
        self.connector.as_ref().is_none_or(|connector| {
            let status = connector.handle.status();
            match (status.state, status.end) {
                (State::Stopped, Some(End::Finished)) => self.shared.is_closed(),
                _ if connector.again.load(Ordering::Acquire) => false,
                (State::Stopped | State::Failed, _) => true,
                _ => false,
            }
        })
    }

    /// Takes the event time that a handle brings, if the source has none yet.
    pub fn set_event_time(&mut self, watermark: &WatermarkConfig) -> Result<WorkerCommand> {
        let refused = |what: String| Err(Error::Config { what });
        let relation = &self.topic.relation;
        if self.time.is_some() {
            let name = &relation.name;
            return refused(format!(
                "source {name:?} has its watermark from CREATE SOURCE already"
            ));
        }
        let Ok(column) = relation.schema.index_of(&watermark.column) else {
            return refused(format!(
                "{:?} is no column of {:?}",
                watermark.column, relation.name
            ));
        };
        let data_type = relation.schema.field(column).data_type();
        if !matches!(data_type, arrow::datatypes::DataType::Timestamp(..)) {
            return refused(format!(
                "{:?} is {data_type}, and event time is a TIMESTAMP",
                watermark.column
            ));
        }
        let time = EventTimeColumn {
            column,
            delay: watermark.delay,
        };
        self.time = Some(time.clone());
        Ok(WorkerCommand::SetEventTime {
            source: self.topic.id,
            time,
        })
    }
}

impl Entry {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Source(_) => Kind::Source,
            Self::Query(query) => query.kind,
            Self::Sink(_) => Kind::Sink,
        }
    }

    /// The names it reads.
    pub fn inputs(&self) -> Vec<&str> {
        match self {
            Self::Source(_) => Vec::new(),
            Self::Query(query) => query.inputs.iter().map(String::as_str).collect(),
            Self::Sink(sink) => vec![&sink.input],
        }
    }

    /// Its topics, the main one first.
    pub fn topics(&self) -> Vec<&Arc<Topic>> {
        match self {
            Self::Source(source) => vec![&source.topic, &source.bad],
            // Nothing can read it before it has columns.
            Self::Query(query) if query.life.is_formless() => Vec::new(),
            Self::Query(query) => std::iter::once(&query.topic).chain(&query.late).collect(),
            Self::Sink(_) => Vec::new(),
        }
    }
}

/// Everything that was created, by name.
#[derive(Default)]
pub(super) struct Catalog {
    pub entries: BTreeMap<String, Entry>,
    /// In the order of their creation.
    pub order: Vec<String>,
    /// The statements that created them.
    texts: BTreeMap<String, Definition>,
}

impl Catalog {
    pub fn insert(&mut self, name: &str, entry: Entry) {
        self.entries.insert(name.to_owned(), entry);
        self.order.push(name.to_owned());
    }

    /// `text` is the statement that created it.
    pub fn define(&mut self, name: &str, text: &str) {
        let definition = Definition {
            name: name.to_owned(),
            text: text.to_owned(),
            event_time: None,
            altered: String::new(),
        };
        self.texts.insert(name.to_owned(), definition);
    }

    /// A handle brought its event time.
    pub fn define_event_time(&mut self, name: &str, time: &WatermarkConfig) {
        if let Some(definition) = self.texts.get_mut(name) {
            definition.event_time = Some(time.clone());
        }
    }

    /// `text` is the ALTER statement that says all that was changed since.
    pub fn define_altered(&mut self, name: &str, text: String) {
        if let Some(definition) = self.texts.get_mut(name) {
            definition.altered = text;
        }
    }

    /// The statement that created it.
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.texts.get(name)
    }

    /// The statements that create all that exists, in an order in which they can be run again.
    pub fn definitions(&self) -> Vec<Definition> {
        let defined = self.order.iter().filter_map(|name| self.texts.get(name));
        defined.cloned().collect()
    }

    pub fn remove(&mut self, name: &str) -> Option<Entry> {
        self.texts.remove(name);
        self.order.retain(|other| other != name);
        self.entries.remove(name)
    }

    /// The declared spelling of a name: exact, or the only one that differs in case.
    pub fn spelling(&self, name: &str) -> Option<&str> {
        if let Some((exact, _)) = self.entries.get_key_value(name) {
            return Some(exact);
        }
        let mut similar = self
            .entries
            .keys()
            .filter(|other| other.eq_ignore_ascii_case(name));
        let only = similar.next()?;
        similar.next().is_none().then_some(only)
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(self.spelling(name)?)
    }

    pub fn source(&self, name: &str) -> Result<&SourceEntry> {
        match self.get(name) {
            Some(Entry::Source(source)) => Ok(source),
            _ => Err(Error::SourceNotFound {
                name: name.to_owned(),
            }),
        }
    }

    pub fn source_mut(&mut self, name: &str) -> Result<&mut SourceEntry> {
        let name = self.spelling(name).unwrap_or(name).to_owned();
        match self.entries.get_mut(&name) {
            Some(Entry::Source(source)) => Ok(source),
            _ => Err(Error::SourceNotFound { name }),
        }
    }

    pub fn sources(&self) -> impl Iterator<Item = &SourceEntry> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Source(source) => Some(source),
            Entry::Query(_) | Entry::Sink(_) => None,
        })
    }

    /// All topics: of sources, streams and views, and their bad and late rows.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.entries.values().flat_map(Entry::topics)
    }

    /// The topic of this name; the exact spelling is preferred. `stream:x` and `source:x` say what
    /// kind of thing is meant.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        let exact = self.topics().find(|topic| topic.relation.name == name);
        let same = |topic: &&Arc<Topic>| topic.relation.name.eq_ignore_ascii_case(name);
        let found = exact.or_else(|| {
            let mut similar = self.topics().filter(same);
            similar.next().filter(|_| similar.next().is_none())
        });
        match found.cloned().or_else(|| self.topic_of_kind(name)) {
            Some(topic) => Ok(topic),
            None => Err(self.no_topic(name)),
        }
    }

    fn topic_of_kind(&self, name: &str) -> Option<Arc<Topic>> {
        let (kind, name) = name.split_once(':')?;
        match (kind, self.get(name)?) {
            ("source", Entry::Source(source)) => Some(Arc::clone(&source.topic)),
            ("stream", Entry::Query(query)) if !query.life.is_formless() => {
                Some(Arc::clone(&query.topic))
            }
            _ => None,
        }
    }

    fn no_topic(&self, name: &str) -> Error {
        let bare = name.strip_prefix("stream:").unwrap_or(name);
        match self.get(bare) {
            Some(Entry::Query(_)) => Error::Config {
                what: format!("stream {bare:?} has no columns yet: attach a source first"),
            },
            _ => Error::NotFound {
                name: name.to_owned(),
            },
        }
    }

    /// All relations that a query can read.
    pub fn relations(&self, named: &NamedMetadataColumns) -> Vec<Relation> {
        let mut relations: Vec<_> = self.topics().map(|topic| topic.relation.clone()).collect();
        for source in self.sources() {
            let name = &source.topic.relation.name;
            if let Some(relation) = relations.iter_mut().find(|it| it.name == *name) {
                relation.event_time = event_time(source.time.as_ref());
            }
        }
        let shown = |relation: Relation| match named.get(&relation.name) {
            Some(hidden) => relation.with_metadata_columns(hidden.iter().copied()),
            None => relation,
        };
        relations.into_iter().map(shown).collect()
    }

    /// The names of what reads any topic of `name`.
    pub fn readers(&self, name: &str) -> Vec<String> {
        let Some(entry) = self.entries.get(name) else {
            return Vec::new();
        };
        let topics: Vec<_> = entry
            .topics()
            .iter()
            .map(|it| it.relation.name.clone())
            .collect();
        let reads = |entry: &Entry| {
            entry
                .inputs()
                .iter()
                .any(|it| topics.iter().any(|t| t == it))
        };
        let readers = self
            .order
            .iter()
            .filter(|other| self.entries.get(*other).is_some_and(reads));
        readers.cloned().collect()
    }

    /// The sources that the rows of these topics come from, each once, by number.
    pub fn sources_of(&self, topics: &[String]) -> Vec<Arc<Topic>> {
        let (mut waiting, mut seen) = (topics.to_vec(), Vec::new());
        let mut sources: Vec<Arc<Topic>> = Vec::new();
        while let Some(topic) = waiting.pop() {
            if seen.contains(&topic) {
                continue;
            }
            let owns = |entry: &&Entry| {
                entry
                    .topics()
                    .iter()
                    .any(|owned| owned.relation.name == topic)
            };
            match self.entries.values().find(owns) {
                Some(Entry::Source(source)) => sources.push(Arc::clone(&source.topic)),
                Some(Entry::Query(query)) => waiting.extend(query.inputs.iter().cloned()),
                Some(Entry::Sink(_)) | None => {}
            }
            seen.push(topic);
        }
        sources.sort_by_key(|source| source.id);
        sources.dedup_by_key(|source| source.id);
        sources
    }
}

impl TableLookup for Catalog {
    fn names(&self) -> Vec<String> {
        let topics = self.topics().map(|topic| topic.relation.name.clone());
        topics
            .chain(TABLES.iter().map(SystemTable::full_name))
            .collect()
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
        let hidden = MetadataColumn::ALL.into_iter();
        hidden
            .filter(|column| declared.field_with_name(column.name()).is_err())
            .collect()
    }
}

/// The event time of a source, for those that plan.
pub(super) fn event_time(time: Option<&EventTimeColumn>) -> Vec<EventColumn> {
    time.map(|time| EventColumn {
        column: time.column,
        lag_us: 0,
    })
    .into_iter()
    .collect()
}
