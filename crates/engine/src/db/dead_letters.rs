//! Dead letters: the streams that take what could not be read or written, and the way there.
//!
//! ```text
//!   source: frames that are no rows ──┐
//!                                     ├─► DeadLetterWriter ─► lane of the stream ─► its log ─► queries
//!   sink: rows that are given up ─────┘      waits until they are on disk
//! ```
//!
//! A dead-letter stream is a source without a connector that has the columns of a [`DeadLetter`].
//! It is made when `error.dlq.stream` first names it, unless there is one, and stays when those who
//! named it go. With a data folder a letter is on disk before the source hands on the rest of what came
//! with it, and before the sink counts the rows as delivered: a crash in between makes it come twice,
//! never not at all.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use headwater_connect::{
    Bad, Clock, DeadLetter, DeadLetters, Error as ConnectError, ErrorOptions, Item, Lane,
    LaneClosed, SystemClock,
};
use tokio::sync::watch;

use super::catalog::{Catalog, Entry, SourceEntry};
use super::options::Place;
use super::statements::Existing;
use super::streams::WRONG_KIND;
use super::{Inner, STOP_DEADLINE};
use crate::error::Result;
use crate::ingest::ConnectorLane;
use crate::source::{ArrowSource, Backpressure, SourceConfig, SourceShared, WalMode};
use crate::sql::{Name, OptionEntry, SqlError, Statement, parse, quoted, sqlstate};

/// The columns of a dead-letter stream, as SQL.
const COLUMNS: &str = "original_event BYTES NOT NULL, error_message VARCHAR NOT NULL, \
    error_type VARCHAR NOT NULL, \"timestamp\" TIMESTAMP NOT NULL, attempt_count INT NOT NULL, \
    stream_name VARCHAR NOT NULL";

/// How often a database that closes looks whether its sinks have written what they have.
const LOOK: Duration = Duration::from_millis(5);

/// How far letters come out of order, from senders that meet at one stream.
const DELAY: &str = "1 second";

/// Puts dead letters into their stream.
struct DeadLetterWriter {
    stream: Arc<Mutex<ArrowSource>>,
    shared: Arc<SourceShared>,
    /// Says true once the logs have been fed again: nothing may come between their steps.
    ready: Option<watch::Receiver<bool>>,
}

#[async_trait]
impl DeadLetters for DeadLetterWriter {
    async fn take(&self, letters: &[DeadLetter]) -> Result<(), String> {
        if let Some(ready) = &self.ready {
            let caught_up = ready.clone().wait_for(|ready| *ready).await.map(|_| ());
            caught_up.map_err(|_| "the database is closed".to_owned())?;
        }
        if self.shared.is_closed() {
            return Err(format!("source {:?} is closed", self.shared.name()));
        }
        let rows = DeadLetter::rows(letters).map_err(|error| error.to_string())?;
        let stream = Arc::clone(&self.stream);
        // A push waits for space, and for the disk.
        let pushed = tokio::task::spawn_blocking(move || {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            push(&stream, &rows)
        });
        pushed.await.map_err(|error| error.to_string())?
    }
}

fn push(stream: &ArrowSource, letters: &RecordBatch) -> Result<(), String> {
    // A stream that a user declared may allow NULL.
    let rows = RecordBatch::try_new(Arc::clone(stream.schema()), letters.columns().to_vec());
    let rows = rows.map_err(|error| error.to_string())?;
    stream.push_arrow(rows).map_err(|error| error.to_string())
}

/// The lane of a source whose bad rows are dead letters: they go there before what came with them is
/// handed on. What the stream does not take becomes rows of `<source>__bad`.
pub(super) struct LetterLane {
    lane: ConnectorLane,
    letters: Arc<dyn DeadLetters>,
    source: Arc<SourceShared>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Lane for LetterLane {
    async fn send(&mut self, item: Item) -> Result<(), LaneClosed> {
        let mut item = item;
        if let Item::Rows(delivery) = &mut item
            && !delivery.bad.is_empty()
        {
            let bad = std::mem::take(&mut delivery.bad);
            delivery.bad = self.bury(bad).await;
        }
        self.lane.send(item).await
    }
}

impl LetterLane {
    /// Sends bad rows to their stream; gives back what it did not take.
    async fn bury(&self, bad: Vec<Bad>) -> Vec<Bad> {
        let letters: Vec<DeadLetter> = bad.iter().map(|bad| self.letter(bad)).collect();
        let count = letters.len() as u64;
        match self.letters.take(&letters).await {
            Ok(()) => {
                self.source.bad.fetch_add(count, Ordering::Relaxed);
                self.source.dead_letters.fetch_add(count, Ordering::Relaxed);
                Vec::new()
            }
            Err(refusal) => {
                let source = self.source.name();
                tracing::error!(
                    source,
                    count,
                    refusal,
                    "dead letters were not delivered; they are bad rows of the source"
                );
                self.source.note_error(&format!(
                    "{count} dead letters were not delivered, and are in {source}__bad: {refusal}"
                ));
                bad
            }
        }
    }

    fn letter(&self, bad: &Bad) -> DeadLetter {
        let reason = bad.reason.clone();
        DeadLetter {
            original_event: bad.bytes.clone(),
            error_type: ConnectError::BadRow { reason }.name().to_owned(),
            error_message: bad.reason.clone(),
            timestamp_us: self.clock.now_us(),
            attempt_count: 1,
            stream_name: self.source.name().to_owned(),
        }
    }
}

impl Inner {
    /// The way to the dead letters, if these options have one.
    pub(super) fn letters(
        &self,
        catalog: &Catalog,
        errors: &ErrorOptions,
    ) -> Result<Option<Arc<dyn DeadLetters>>> {
        let Some(stream) = errors.dlq_stream() else {
            return Ok(None);
        };
        let entry = catalog.source(stream)?;
        let durability = self.durability.as_ref();
        let logged = self.wal_writer_of(entry.shared.name()).is_some();
        let config = SourceConfig {
            backpressure: Backpressure::Block,
            wal_mode: logged.then_some(WalMode::Sync),
            ..entry.config.clone()
        };
        let stream = ArrowSource::new(self.handle(entry, &config)?);
        Ok(Some(Arc::new(DeadLetterWriter {
            stream: Arc::new(Mutex::new(stream)),
            shared: Arc::clone(&entry.shared),
            ready: durability.map(|it| it.caught_up.subscribe()),
        })))
    }

    /// Before the database is drained or closes: lets the sinks that may still have dead letters write what they
    /// have, for later there is no stream to take them. Blocks, at most [`STOP_DEADLINE`].
    pub(super) fn wait_for_dead_letters(&self) {
        let sends = |entry: &Entry| match entry {
            Entry::Sink(sink) if sink.task.is_some() => {
                let errors = sink.spec.errors();
                errors.dlq_stream().map(|_| Arc::clone(&sink.status))
            }
            _ => None,
        };
        let sinks: Vec<_> = self.catalog().entries.values().filter_map(sends).collect();
        let deadline = Instant::now() + STOP_DEADLINE;
        while !sinks.is_empty() && Instant::now() < deadline {
            match self.step_and_look() {
                Ok(true) => continue,
                Ok(false) if sinks.iter().any(|sink| sink.is_behind()) => {}
                Ok(false) | Err(_) => return,
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The lane of a source's connector.
    pub(super) fn lane(
        &self,
        catalog: &Catalog,
        source: &SourceEntry,
        errors: &ErrorOptions,
        lane: ConnectorLane,
    ) -> Result<Box<dyn Lane>> {
        Ok(match self.letters(catalog, errors)? {
            None => Box::new(lane),
            Some(letters) => Box::new(LetterLane {
                lane,
                letters,
                source: Arc::clone(&source.shared),
                clock: Arc::new(SystemClock),
            }),
        })
    }

    /// Makes the stream that `error.dlq.stream` names, unless it is there. `owner` is what names it,
    /// and reads `inputs`.
    pub(super) fn ensure_dead_letters(
        &self,
        errors: &ErrorOptions,
        options: &[OptionEntry],
        owner: &str,
        inputs: &[String],
    ) -> Result<()> {
        let Some(stream) = errors.dlq_stream() else {
            return Ok(());
        };
        let name = named(stream, options);
        let refused = |state, message: String, hint: &str| {
            let error = SqlError::new(state, message).hint(hint);
            Err(error.at(name.span.clone()).into())
        };
        if stream.eq_ignore_ascii_case(owner) {
            let message = format!("{owner:?} cannot take its own dead letters");
            return refused(sqlstate::INVALID_PARAMETER, message, "Name another stream.");
        }
        let found = self.catalog().get(stream).map(unfit);
        match found {
            None => self.create_dead_letters(&name)?,
            Some(None) => {}
            Some(Some(why)) => {
                let message = format!("{stream:?} takes no dead letters: {why}");
                let hint = format!(
                    "Name what does not exist and it is made, or a source without connector: \
                     CREATE SOURCE x ({COLUMNS})."
                );
                return refused(WRONG_KIND, message, &hint);
            }
        }
        self.refuse_circle(errors, owner, inputs, &name.span)
    }

    /// Refuses dead letters that would come back to `owner`, which reads `inputs`.
    pub(super) fn refuse_circle(
        &self,
        errors: &ErrorOptions,
        owner: &str,
        inputs: &[String],
        place: &Place,
    ) -> Result<()> {
        match errors.dlq_stream() {
            Some(stream) if goes_round(&self.catalog(), stream, inputs) => {
                let message = format!(
                    "what {owner:?} cannot write would come back to it by way of {stream:?}"
                );
                let error = SqlError::new(sqlstate::INVALID_PARAMETER, message)
                    .hint("Name another stream for its dead letters.");
                Err(error.at(place.clone()).into())
            }
            _ => Ok(()),
        }
    }

    fn create_dead_letters(&self, name: &Name) -> Result<()> {
        if let Existing::Unchanged = self.existing(name, false)? {
            return Ok(());
        }
        let written = quoted(&name.value);
        let text = format!(
            "CREATE SOURCE {written} ({COLUMNS}, \
             WATERMARK FOR \"timestamp\" AS \"timestamp\" - INTERVAL '{DELAY}')"
        );
        for statement in parse(&text)? {
            if let Statement::CreateSource(create) = statement.node {
                self.create_source(create, &name.span)?;
            }
        }
        self.catalog().define(&name.value, &text);
        Ok(())
    }
}

/// The name that the options give, and where it stands.
fn named(stream: &str, options: &[OptionEntry]) -> Name {
    let is_stream = |option: &&OptionEntry| option.key.to_lowercase().ends_with("error.dlq.stream");
    let span = options.iter().find(is_stream);
    Name {
        value: stream.to_owned(),
        quoted: true,
        span: span.map_or(0..0, |option| option.key_span.start..option.value_span.end),
    }
}

/// Why something takes no dead letters, if it does not.
fn unfit(entry: &Entry) -> Option<String> {
    let Entry::Source(source) = entry else {
        return Some(format!("it is a {}", entry.kind()));
    };
    if source.connector.is_some() {
        return Some("it has a connector".to_owned());
    }
    let (expected, found) = (DeadLetter::schema(), &source.topic.relation.schema);
    (columns(&expected) != columns(found)).then(|| {
        let columns: Vec<String> = columns(&expected).into_iter().map(|it| it.0).collect();
        format!("its columns are not {} of their types", columns.join(", "))
    })
}

fn columns(schema: &SchemaRef) -> Vec<(String, arrow::datatypes::DataType)> {
    let schema: &Schema = schema;
    let column =
        |field: &Arc<arrow::datatypes::Field>| (field.name().clone(), field.data_type().clone());
    schema.fields().iter().map(column).collect()
}

/// Whether letters about rows of `inputs` could be among the rows of `inputs` one day.
fn goes_round(catalog: &Catalog, stream: &str, inputs: &[String]) -> bool {
    let of = |inputs: &[String]| -> Vec<String> {
        let sources = catalog.sources_of(inputs).into_iter();
        sources.map(|topic| topic.relation.name.clone()).collect()
    };
    let (begin, mut seen, mut waiting) = (of(inputs), Vec::new(), vec![stream.to_owned()]);
    while let Some(stream) = waiting.pop() {
        let stream = catalog.spelling(&stream).unwrap_or(&stream).to_owned();
        if begin.contains(&stream) {
            return true;
        }
        if seen.contains(&stream) {
            continue;
        }
        for entry in catalog.entries.values() {
            if let Entry::Sink(sink) = entry
                && let Some(next) = sink.spec.errors().dlq_stream()
                && of(std::slice::from_ref(&sink.input)).contains(&stream)
            {
                waiting.push(next.to_owned());
            }
        }
        seen.push(stream);
    }
    false
}

impl Catalog {
    /// The sources and sinks whose dead letters go to `stream`.
    pub fn senders(&self, stream: &str) -> Vec<String> {
        let sends = |entry: &Entry| {
            let errors = match entry {
                Entry::Source(source) => source.connector.as_ref()?.spec.errors(),
                Entry::Sink(sink) => sink.spec.errors(),
                Entry::Query(_) => return None,
            };
            let named = errors.dlq_stream()?;
            Some(self.spelling(named) == Some(stream))
        };
        let sends = |name: &&String| self.entries.get(*name).and_then(sends) == Some(true);
        self.order.iter().filter(sends).cloned().collect()
    }
}
