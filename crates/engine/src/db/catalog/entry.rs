//! One entry of the catalog: a source, a stream or view, or a sink, and what the engine keeps of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::{DataType, SchemaRef};
use headwater_connect::{
    Blueprint, End, ErrorOptions, Receipt, SinkSpec, SourceHandle, SourceSpec, State,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::stream::StreamLifecycle;
use crate::dataflow::SourceColumns;
use crate::db::options::WalOption;
use crate::db::sink_task::SinkStatus;
use crate::error::{Error, Result};
use crate::event_time::EventTimeColumn;
use crate::event_time::WatermarkConfig;
use crate::source::SourceConfig;
use crate::source::SourceShared;
use crate::sql::Kind;
use crate::sql::plan::EventColumn;
use crate::subscription::Subscription;
use crate::tap::SourceTap;
use crate::topic::Topic;
use crate::worker::WorkerCommand;

pub(crate) enum CatalogEntry {
    Source(SourceEntry),
    Query(QueryEntry),
    Sink(SinkEntry),
}

pub(crate) struct SourceEntry {
    pub topic: Arc<Topic>,
    pub bad: Arc<Topic>,
    pub shared: Arc<SourceShared>,
    /// The settings of CREATE SOURCE, for handles that are opened without settings.
    pub config: SourceConfig,
    pub time: Option<EventTimeColumn>,
    /// What makes its columns of what arrives, if some are computed.
    pub computed: Option<SourceColumns>,
    /// `wal_mode` of CREATE SOURCE.
    pub wal: Option<WalOption>,
    pub connector: Option<SourceConnector>,
}

pub(crate) struct SourceConnector {
    pub spec: SourceSpec,
    pub handle: Arc<SourceHandle>,
    pub tap: SourceTap,
    /// Rows that the connector dropped before ALTER SOURCE replaced its spec.
    pub dropped_before: u64,
    /// Whether the next start of connectors starts it although it has run: it was paused because no
    /// active stream reads it, or a failed one is to be retried. Until then its stop is not its end.
    pub restart: Arc<AtomicBool>,
    /// Whether a task follows its status.
    pub followed: AtomicBool,
    /// Whether it starts only with the first statement that reads it, or at the end of the script.
    pub waits: AtomicBool,
}

/// What tells whether a connector has ended. Its clones are of the same connector.
#[derive(Clone)]
pub(crate) struct ConnectorEnd {
    handle: Arc<SourceHandle>,
    shared: Arc<SourceShared>,
    restart: Arc<AtomicBool>,
}

impl ConnectorEnd {
    /// Whether no more rows come from it: all its rows have been handed to the worker, and at the end of
    /// its input the source is closed.
    pub fn has_ended(&self) -> bool {
        let status = self.handle.status();
        match (status.state, status.end) {
            (State::Stopped, Some(End::Finished)) => self.shared.is_closed(),
            _ if self.restart.load(Ordering::Acquire) => false,
            (State::Stopped | State::Failed, _) => true,
            _ => false,
        }
    }
}

pub(crate) struct QueryEntry {
    pub kind: Kind,
    pub topic: Arc<Topic>,
    pub late: Vec<Arc<Topic>>,
    /// Where rows go whose expressions fail, if they do not end the query.
    pub dead_letters: Option<Arc<Topic>>,
    pub inputs: Vec<String>,
    pub text: String,
    pub logical: String,
    pub lifecycle: StreamLifecycle,
}

pub(crate) struct SinkEntry {
    /// The topic whose rows it writes; empty until INSERT INTO feeds a declared sink.
    pub input: String,
    pub declared: SchemaRef,
    pub spec: SinkSpec,
    pub stop: CancellationToken,
    pub status: Arc<SinkStatus>,
    /// Its position in the external system before a restart.
    pub receipt: Option<Receipt>,
    /// The rows of the sink's own query, subscribed to before it had any, until the task takes them.
    pub rows: Option<Subscription>,
    pub task: Option<JoinHandle<()>>,
}

impl SourceConnector {
    /// Whether it can resume from a cursor. A connector that cannot be made does not run either.
    pub fn goes_back(&self) -> bool {
        let made = self.spec.source(None);
        made.is_ok_and(|source| source.supports_incremental())
    }

    /// Whether its input ends by itself.
    fn is_finite(&self) -> bool {
        let made = self.spec.source(None);
        made.is_ok_and(|source| source.is_finite())
    }
}

impl SourceEntry {
    /// Rows that the source has dropped, by its backpressure, by its error strategy, or by an option of
    /// its connector.
    pub fn dropped(&self) -> u64 {
        let connector = self.connector.as_ref();
        let by_connector = connector.map_or(0, |it| it.dropped_before + it.spec.dropped().total());
        self.shared.dropped.load(Ordering::Relaxed) + by_connector
    }

    pub fn event_columns(&self) -> Vec<EventColumn> {
        event_columns(self.time.as_ref())
    }

    /// Whether no more rows come from its connector, if it has one.
    pub fn has_ended(&self) -> bool {
        self.end().is_none_or(|end| end.has_ended())
    }

    /// The end of its connector, if it has one.
    fn end(&self) -> Option<ConnectorEnd> {
        let connector = self.connector.as_ref()?;
        Some(ConnectorEnd {
            handle: Arc::clone(&connector.handle),
            shared: Arc::clone(&self.shared),
            restart: Arc::clone(&connector.restart),
        })
    }

    /// The end of its connector, if that runs, has not come to it, and will by itself.
    pub fn awaited_end(&self) -> Option<ConnectorEnd> {
        let connector = self.connector.as_ref()?;
        let end = self.end().filter(|end| !end.has_ended())?;
        let is_active = connector.handle.status().state.is_active() || self.is_closing();
        (is_active && connector.is_finite()).then_some(end)
    }

    /// Whether its input has ended and the source is not closed yet.
    fn is_closing(&self) -> bool {
        let connector = self.connector.as_ref();
        let end = connector.and_then(|it| it.handle.status().end);
        end == Some(End::Finished) && !self.shared.is_closed()
    }

    /// Sets the event time that a handle was opened with, if the source has none yet.
    pub fn set_event_time(&mut self, watermark: &WatermarkConfig) -> Result<WorkerCommand> {
        let refused = |what: String| Err(Error::config(what));
        let relation = &self.topic.relation;
        if self.time.is_some() {
            let name = &relation.name;
            return refused(format!(
                "source {name:?} has its watermark from CREATE SOURCE already"
            ));
        }
        let Ok(column) = relation.schema.index_of(&watermark.column) else {
            return refused(format!(
                "{:?} is not a column of {:?}",
                watermark.column, relation.name
            ));
        };
        let data_type = relation.schema.field(column).data_type();
        if !matches!(data_type, DataType::Timestamp(..)) {
            return refused(format!(
                "{:?} is {data_type}, and event time is a TIMESTAMP",
                watermark.column
            ));
        }
        let time = EventTimeColumn {
            column,
            field: None,
            delay: watermark.delay,
        };
        self.time = Some(time.clone());
        Ok(WorkerCommand::SetEventTime {
            source: self.topic.id,
            time,
        })
    }
}

impl QueryEntry {
    /// Rows of all its late topics so far.
    pub fn late_rows(&self) -> u64 {
        self.late.iter().map(|late| late.rows()).sum()
    }

    /// Rows whose expressions failed so far.
    pub fn dead_letter_rows(&self) -> u64 {
        self.dead_letters.as_ref().map_or(0, |topic| topic.rows())
    }

    fn topics(&self) -> Vec<&Arc<Topic>> {
        let aside = self.late.iter().chain(&self.dead_letters);
        std::iter::once(&self.topic).chain(aside).collect()
    }
}

impl CatalogEntry {
    pub fn source(&self) -> Option<&SourceEntry> {
        let Self::Source(source) = self else {
            return None;
        };
        Some(source)
    }

    pub fn query(&self) -> Option<&QueryEntry> {
        let Self::Query(query) = self else {
            return None;
        };
        Some(query)
    }

    pub fn sink(&self) -> Option<&SinkEntry> {
        let Self::Sink(sink) = self else { return None };
        Some(sink)
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Source(_) => Kind::Source,
            Self::Query(query) => query.kind,
            Self::Sink(_) => Kind::Sink,
        }
    }

    pub fn inputs(&self) -> Vec<&str> {
        match self {
            Self::Source(_) => Vec::new(),
            Self::Query(query) => query.inputs.iter().map(String::as_str).collect(),
            Self::Sink(sink) => vec![&sink.input],
        }
    }

    /// What happens to rows that it cannot read or write, if a connector does that.
    pub fn errors(&self) -> Option<&ErrorOptions> {
        match self {
            Self::Source(source) => source.connector.as_ref().map(|it| it.spec.errors()),
            Self::Sink(sink) => Some(sink.spec.errors()),
            Self::Query(_) => None,
        }
    }

    /// Its topics, the main one first.
    pub fn topics(&self) -> Vec<&Arc<Topic>> {
        match self {
            Self::Source(source) => vec![&source.topic, &source.bad],
            // Nothing can read it before it has columns.
            Self::Query(query) if query.lifecycle.has_no_columns() => Vec::new(),
            Self::Query(query) => query.topics(),
            Self::Sink(_) => Vec::new(),
        }
    }
}

pub(crate) fn event_columns(time: Option<&EventTimeColumn>) -> Vec<EventColumn> {
    let Some(time) = time else {
        return Vec::new();
    };
    let field = time.field.clone().map(|(column, field)| EventColumn {
        column,
        field,
        lag_us: 0,
    });
    let column = EventColumn::new(time.column, 0);
    Some(column).into_iter().chain(field).collect()
}
