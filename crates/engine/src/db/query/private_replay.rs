//! REPLAY SOURCE: feeds the past of a source to a private copy of a query, beside the live one.
//!
//! The copy has a topic without a name; only the subscription that the statement returns reads it. A
//! thread feeds it a step at a time, no faster than it is read, and at the end sends the watermark of an
//! input that has ended, so that its windows close. The live query, its views and its sinks are not
//! touched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_ring::Bell;

use crate::batch_bytes::QUEUE_BYTES;
use crate::dataflow::{Plan, QueryFailure, Watermark};
use crate::db::backfill::{BackfillInput, Clip, instant_us};
use crate::db::catalog::{Catalog, CatalogEntry, StreamDefinition, undefined};
use crate::db::engine::{Engine, Persistence, Workers};
use crate::db::outcome::Outcome;
use crate::durable::{Replayed, SourceStep, WalMerge};
use crate::error::{Error, Result};
use crate::sql::plan::Relation;
use crate::sql::{ReplaySource, SqlError, TimeLiteral, sqlstate};
use crate::subscription::{Gate, QueueSize, SubscriberQueue, Subscription};
use crate::topic::{Begin, Topic, TopicId};
use crate::worker::{NewQuery, WorkerCommand};

/// What waits for the reader before the replay pauses.
const QUEUE: QueueSize = QueueSize {
    rows: 1 << 16,
    bytes: QUEUE_BYTES,
};

/// Time between two checks of a paused replay for room in the queue.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Feeds the past of one source, on a thread of its own.
struct PrivateReplay {
    workers: Arc<Workers>,
    output: TopicId,
    input: BackfillInput,
    speed: Option<f64>,
    queue: Arc<SubscriberQueue>,
    gate: Arc<Gate>,
}

pub(crate) fn replay_statement(engine: &Engine, statement: &ReplaySource) -> Result<Outcome> {
    {
        let catalog = engine.catalog();
        catalog.stream_named(&statement.stream)?;
        if catalog.source(&statement.source.value).is_err() {
            return Err(undefined(&statement.source).into());
        }
    }
    let from_us = instant(statement.from.as_ref())?;
    let to_us = instant(statement.to.as_ref())?;
    let (source, stream) = (&statement.source, &statement.stream.value);
    let rows = replay(
        engine,
        &source.value,
        (from_us, to_us),
        statement.speed,
        stream,
    );
    let rows = rows.map_err(|error| match error {
        Error::Sql(error) if error.position.is_none() => error.at(source.span.clone()).into(),
        other => other,
    })?;
    Ok(Outcome::Replayed(rows))
}

/// Starts a replay of rows from and up to these event times; returns the results.
pub(crate) fn replay(
    engine: &Engine,
    source: &str,
    bounds: (Option<i64>, Option<i64>),
    speed: Option<f64>,
    stream: &str,
) -> Result<Subscription> {
    if let Some(speed) = speed.filter(|speed| !(*speed > 0.0 && speed.is_finite())) {
        let what = format!("speed must be a number above 0, not {speed}");
        return Err(Error::config(what));
    }
    let catalog = engine.catalog();
    let input = input_of(&catalog, &engine.persistence, source, bounds, speed)?;
    let PrivateCopy {
        relation,
        plan,
        late,
        dead_letters,
    } = copy_of(&catalog, stream, &input)?;
    drop(catalog);
    let (workers, home) = (&engine.workers, input.topic.home);
    let new_topic = |relation, is_kept| {
        let topic = Topic::new(workers.next_topic(), home, relation, is_kept)?;
        Ok::<_, Error>(Arc::new(topic))
    };
    let output = new_topic(relation, plan.changes)?;
    let late = late.into_iter().map(|relation| new_topic(relation, false));
    let late = late.collect::<Result<_>>()?;
    let dead_letters = dead_letters.map(|relation| new_topic(relation, false));
    let gate = Arc::new(Gate::new(vec![Arc::new(Bell::new())]));
    let queue = SubscriberQueue::new(QUEUE, Some(Arc::clone(&gate)));
    let rows = workers.subscribe(&output, Arc::clone(&queue), Begin::Kept);
    workers.command(WorkerCommand::AddQuery(NewQuery {
        plan,
        inputs: vec![Arc::clone(&input.topic)],
        output: Arc::clone(&output),
        late,
        dead_letters: dead_letters.transpose()?,
        failure: QueryFailure::default(),
        failed: None,
        state: None,
        held: vec![input.hold()],
        if_failed: Vec::new(),
    }));
    let replay = PrivateReplay {
        workers: Arc::clone(workers),
        output: output.id,
        input,
        speed,
        queue,
        gate,
    };
    let thread = std::thread::Builder::new().name(format!("replay-{source}"));
    let spawned = thread.spawn(move || replay.run());
    spawned.map_err(|error| Error::no_thread("the replay", &error))?;
    Ok(rows)
}

fn input_of(
    catalog: &Catalog,
    persistence: &Persistence,
    name: &str,
    (from_us, to_us): (Option<i64>, Option<i64>),
    speed: Option<f64>,
) -> Result<BackfillInput> {
    let refused = |message: String, hint: &str| {
        let error = SqlError::new(sqlstate::NOT_IN_STATE, message);
        Err(error.hint(hint).into())
    };
    let source = catalog.source(name)?;
    let Some(wal_writer) = persistence.wal_writer(source.shared.name()) else {
        let message = format!("source {name:?} has no log to be read again");
        let hint = "Only a database with a data folder has logs, and wal_mode = 'off' has none.";
        return refused(message, hint);
    };
    let clip = match &source.time {
        Some(time) => Some(Clip {
            column: time.column,
            from_us: from_us.unwrap_or(i64::MIN),
            to_us: to_us.unwrap_or(i64::MAX),
        }),
        None if from_us.or(to_us).is_some() || speed.is_some() => {
            let message = format!("source {name:?} has no event time");
            let hint = "Leave out FROM, TO and SPEED, or give the source a WATERMARK.";
            return refused(message, hint);
        }
        None => None,
    };
    Ok(BackfillInput::whole(source, wal_writer, clip))
}

/// The plan of a stream, and the relations of its results, late rows and dead letters.
struct PrivateCopy {
    relation: Relation,
    plan: Plan,
    late: Vec<Relation>,
    dead_letters: Option<Relation>,
}

/// Copies a stream that reads nothing but the source.
fn copy_of(catalog: &Catalog, stream: &str, input: &BackfillInput) -> Result<PrivateCopy> {
    let Some(CatalogEntry::Query(query)) = catalog.get(stream) else {
        return Err(Error::NotFound {
            name: stream.to_owned(),
        });
    };
    let source = &input.topic.relation.name;
    let only = query.inputs.len() == 1 && query.inputs[0] == *source;
    let StreamDefinition::Query(plan) = &query.lifecycle.definition else {
        let what = format!("REPLAY into {stream:?}, which is a source group,");
        return Err(SqlError::not_built(what)
            .hint("Name a stream with a query.")
            .into());
    };
    if !only {
        let read = query.inputs.join(", ");
        let what = format!("REPLAY into {stream:?}, which reads {read},");
        let hint = format!("Name a stream whose query reads {source} and nothing else.");
        return Err(SqlError::not_built(what).hint(hint).into());
    }
    let private = |relation: &Relation| Relation {
        name: format!("{}__replay", relation.name),
        ..relation.clone()
    };
    Ok(PrivateCopy {
        relation: private(&query.topic.relation),
        plan: plan.clone(),
        late: query.late.iter().map(|it| private(&it.relation)).collect(),
        dead_letters: query.dead_letters.as_ref().map(|it| private(&it.relation)),
    })
}

fn instant(instant: Option<&TimeLiteral>) -> Result<Option<i64>> {
    let Some(instant) = instant else {
        return Ok(None);
    };
    let read = instant_us(&instant.text).ok_or_else(|| {
        let message = format!("{:?} is not a time", instant.text);
        SqlError::new(sqlstate::INVALID_PARAMETER, message)
            .hint("Write it as '2026-01-31 12:00:00'.")
            .at(instant.span.clone())
    });
    Ok(Some(read?))
}

impl PrivateReplay {
    fn run(self) {
        let done = self.feed();
        if self.workers.check_open().is_err() {
            return;
        }
        if let Err(error) = done {
            self.queue.end(Some(error.to_string()));
        }
        let topic = self.output;
        self.workers.command(WorkerCommand::Remove { topic });
    }

    fn feed(&self) -> Result<()> {
        self.input.wal_writer.catch_up().map_err(Error::Data)?;
        let mut steps = WalMerge::default();
        let topic = &self.input.topic;
        let schema = &topic.relation.schema;
        steps.add(topic.id, schema, &self.input.wal_writer, 0)?;
        let mut clock = ReplayClock::new(self.speed);
        while let Some(mut parts) = steps.next_step()? {
            for part in &mut parts {
                self.input.clip(part)?;
                if let Some(at_us) = self.first_time(part) {
                    clock.wait(at_us, || self.queue.is_abandoned());
                }
            }
            if !self.wait_for_room() {
                return Ok(());
            }
            if self.workers.feed(self.output, parts)? {
                return Ok(());
            }
        }
        let end = Replayed {
            source: self.input.topic.id,
            taken: SourceStep {
                watermark: Some(Watermark::END),
                ..SourceStep::default()
            },
            end: 0,
            sequence: 0,
        };
        self.workers.feed(self.output, vec![end]).map(drop)
    }

    fn first_time(&self, part: &Replayed) -> Option<i64> {
        let column = self.input.clip.as_ref()?.column;
        crate::event_time::span_us(&part.taken.rows, column).map(|(first, _)| first)
    }

    /// Waits until the queue has room; false once the subscription is gone.
    fn wait_for_room(&self) -> bool {
        let is_open = || self.workers.check_open().is_ok();
        while self.gate.is_closed() && !self.queue.is_abandoned() && is_open() {
            std::thread::sleep(POLL_INTERVAL);
        }
        !self.queue.is_abandoned()
    }
}

/// Maps event times to the clock, at a speed.
struct ReplayClock {
    speed: Option<f64>,
    began: Option<(Instant, i64)>,
}

impl ReplayClock {
    fn new(speed: Option<f64>) -> Self {
        Self { speed, began: None }
    }

    /// Waits until this event time is due, or `is_abandoned`.
    fn wait(&mut self, at_us: i64, is_abandoned: impl Fn() -> bool) {
        let Some(speed) = self.speed else { return };
        let (began, first_us) = *self.began.get_or_insert((Instant::now(), at_us));
        let after_s = at_us.saturating_sub(first_us).max(0) as f64 / 1e6 / speed;
        let after = Duration::try_from_secs_f64(after_s).unwrap_or(Duration::MAX);
        while let Some(left) = after
            .checked_sub(began.elapsed())
            .filter(|left| !left.is_zero())
            && !is_abandoned()
        {
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }
}
