//! REPLAY SOURCE: the past of a source through a private copy of a query, beside the live one.
//!
//! The copy has a topic of its own, which no name leads to; only the subscription that the statement
//! gives reads it. It is fed a step at a time by a thread, no faster than it is read, and ends with the
//! watermark of an input that has ended, so that its windows close. The live query, its views and its
//! sinks are not touched.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use headwater_ring::Bell;

use super::catalog::Entry;
use super::catch_up::{Clip, Past, instant_us};
use super::life::Recipe;
use super::statements::{Outcome, undefined};
use super::streams::stream_named;
use super::{Db, Inner};
use crate::dataflow::{Plan, QueryFailure, Watermark};
use crate::durable::{Replayed, SourceStep, WalMerge};
use crate::error::{Error, Result};
use crate::sql::plan::Relation;
use crate::sql::{ReplaySource, SqlError, TimeLiteral, sqlstate};
use crate::subscription::{Gate, SubscriberQueue, Subscription};
use crate::topic::{Begin, Topic, TopicId};
use crate::worker::{CatchUpPosition, NewQuery, WorkerCommand};

/// Rows that wait for the reader before the replay rests.
const QUEUE_ROWS: usize = 1 << 16;

/// How often a replay that rests looks whether anybody still wants it.
const LOOK: Duration = Duration::from_millis(20);

/// What a thread needs to feed the past of one source.
struct Run {
    inner: Weak<Inner>,
    output: TopicId,
    past: Past,
    speed: Option<f64>,
    queue: Arc<SubscriberQueue>,
    gate: Arc<Gate>,
}

impl Db {
    /// The rows of `source` that its log has kept, of event times from `from_us` (microseconds since
    /// 1970-01-01 UTC) up to and without `to_us`, once more through the query of `stream`. The results
    /// come as fast as they are read, or at `speed` times the pace at which it happened, and end. The
    /// live stream is not touched.
    ///
    /// # Errors
    /// If there is no such source or stream, the source has no log or no event time, or the stream
    /// reads something else.
    pub fn replay(
        &self,
        source: &str,
        from_us: Option<i64>,
        to_us: Option<i64>,
        speed: Option<f64>,
        stream: &str,
    ) -> Result<Subscription> {
        self.inner.check_open()?;
        if speed.is_some_and(|speed| !(speed > 0.0 && speed.is_finite())) {
            let what = format!(
                "speed must be a number above 0, not {}",
                speed.unwrap_or_default()
            );
            return Err(Error::Config { what });
        }
        self.inner
            .begin_replay(source, (from_us, to_us), speed, stream)
    }
}

impl Inner {
    pub(super) fn replay_statement(&self, replay: &ReplaySource) -> Result<Outcome> {
        {
            let catalog = self.catalog();
            stream_named(&catalog, &replay.stream)?;
            if catalog.source(&replay.source.value).is_err() {
                return Err(undefined(&replay.source).into());
            }
        }
        let bounds = (instant(replay.from.as_ref())?, instant(replay.to.as_ref())?);
        let (source, stream) = (&replay.source, &replay.stream);
        let rows = self
            .begin_replay(&source.value, bounds, replay.speed, &stream.value)
            .map_err(|error| match error {
                Error::Sql(error) if error.position.is_none() => {
                    error.at(source.span.clone()).into()
                }
                other => other,
            })?;
        Ok(Outcome::Subscribed(rows))
    }

    fn begin_replay(
        &self,
        source: &str,
        (from_us, to_us): (Option<i64>, Option<i64>),
        speed: Option<f64>,
        stream: &str,
    ) -> Result<Subscription> {
        let past = self.past_of(source, from_us, to_us, speed)?;
        let (relation, plan, late) = self.copy_of(stream, &past)?;
        let changes = plan.changes;
        let output = Topic::new(self.next_topic(), past.topic.home, relation, changes)?;
        let output = Arc::new(output);
        let late = late.into_iter().map(|relation| {
            let topic = Topic::new(self.next_topic(), past.topic.home, relation, false)?;
            Ok(Arc::new(topic))
        });
        let late = late.collect::<Result<Vec<_>>>()?;
        let gate = Arc::new(Gate::new(vec![Arc::new(Bell::new())]));
        let queue = SubscriberQueue::new(QUEUE_ROWS, Some(Arc::clone(&gate)));
        let rows = self.subscribe(&output, Arc::clone(&queue), Begin::Kept);
        self.sequencer.command(WorkerCommand::AddQuery(NewQuery {
            plan,
            inputs: vec![Arc::clone(&past.topic)],
            output: Arc::clone(&output),
            late,
            failure: QueryFailure::default(),
            state: None,
            held: vec![past.hold()],
        }));
        let run = Run {
            inner: self.this.clone(),
            output: output.id,
            past,
            speed,
            queue,
            gate,
        };
        let thread = std::thread::Builder::new().name(format!("replay-{source}"));
        let spawned = thread.spawn(move || run.until_done());
        spawned.map_err(|error| Error::Start(error.to_string()))?;
        Ok(rows)
    }

    fn past_of(
        &self,
        name: &str,
        from_us: Option<i64>,
        to_us: Option<i64>,
        speed: Option<f64>,
    ) -> Result<Past> {
        let catalog = self.catalog();
        let source = catalog.source(name)?;
        let Some(wal_writer) = self.wal_writer_of(source.shared.name()) else {
            let error = SqlError::new(
                "55000",
                format!("source {name:?} has no log to be read again"),
            )
            .hint("Only a database with a data folder has logs, and wal_mode = 'off' has none.");
            return Err(error.into());
        };
        let clip = match &source.time {
            Some(time) => Some(Clip {
                column: time.column,
                from_us: from_us.unwrap_or(i64::MIN),
                to_us: to_us.unwrap_or(i64::MAX),
            }),
            None if from_us.or(to_us).is_some() || speed.is_some() => {
                let error = SqlError::new("55000", format!("source {name:?} has no event time"))
                    .hint("Leave out FROM, TO and SPEED, or give the source a WATERMARK.");
                return Err(error.into());
            }
            None => None,
        };
        Ok(Past {
            topic: Arc::clone(&source.topic),
            wal_writer,
            place: Arc::new(CatchUpPosition::behind(0)),
            clip,
        })
    }

    /// The plan of a stream that reads nothing but the source, and the columns of what it gives.
    fn copy_of(&self, stream: &str, past: &Past) -> Result<(Relation, Plan, Vec<Relation>)> {
        let catalog = self.catalog();
        let Some(Entry::Query(query)) = catalog.get(stream) else {
            return Err(Error::NotFound {
                name: stream.to_owned(),
            });
        };
        let source = &past.topic.relation.name;
        let only = query.inputs.len() == 1 && query.inputs[0] == *source;
        let Recipe::Query(plan) = &query.life.recipe else {
            let what = format!("REPLAY into {stream:?}, which is a set of sources,");
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
        let late = query.late.iter().map(|topic| private(&topic.relation));
        Ok((private(&query.topic.relation), plan.clone(), late.collect()))
    }
}

fn instant(instant: Option<&TimeLiteral>) -> Result<Option<i64>> {
    let Some(instant) = instant else {
        return Ok(None);
    };
    let read = instant_us(&instant.text).ok_or_else(|| {
        let message = format!("{:?} is no time", instant.text);
        SqlError::new(sqlstate::INVALID_PARAMETER, message)
            .hint("Write it as '2026-01-31 12:00:00'.")
            .at(instant.span.clone())
    });
    Ok(Some(read?))
}

impl Run {
    fn until_done(self) {
        let done = self.feed();
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        if let Err(error) = done {
            self.queue.end(Some(error.to_string()));
        }
        inner
            .sequencer
            .command(WorkerCommand::Remove { topic: self.output });
    }

    fn feed(&self) -> Result<()> {
        self.past.wal_writer.catch_up().map_err(Error::Data)?;
        let mut steps = WalMerge::default();
        let topic = &self.past.topic;
        steps.add(topic.id, &topic.relation.schema, &self.past.wal_writer, 0)?;
        let mut pace = Pace::new(self.speed);
        while let Some(mut parts) = steps.next_step()? {
            for part in &mut parts {
                self.past.clip.map_or(Ok(()), |clip| clip.apply(part))?;
                if let Some(at_us) = self.first_time(part) {
                    pace.wait(at_us, || self.queue.is_abandoned());
                }
            }
            if !self.rest() {
                return Ok(());
            }
            let inner = self.inner.upgrade().ok_or(Error::Closed)?;
            inner.feed_parts(self.output, parts)?;
        }
        let end = Replayed {
            source: self.past.topic.id,
            taken: SourceStep {
                watermark: Some(Watermark::END),
                ..SourceStep::default()
            },
            end: 0,
            sequence: 0,
        };
        let inner = self.inner.upgrade().ok_or(Error::Closed)?;
        inner.feed_parts(self.output, vec![end])
    }

    /// The least event time of a step.
    fn first_time(&self, part: &Replayed) -> Option<i64> {
        let column = self.past.clip.as_ref()?.column;
        crate::event_time::span_us(&part.taken.rows, column).map(|(first, _)| first)
    }

    /// Waits until the reader has room; false when there is none any more.
    fn rest(&self) -> bool {
        while self.gate.is_closed() && !self.queue.is_abandoned() {
            std::thread::sleep(LOOK);
        }
        !self.queue.is_abandoned()
    }
}

/// Event times against the clock.
struct Pace {
    speed: Option<f64>,
    began: Option<(Instant, i64)>,
}

impl Pace {
    fn new(speed: Option<f64>) -> Self {
        Self { speed, began: None }
    }

    /// Waits until it is the turn of this event time.
    fn wait(&mut self, at_us: i64, given_up: impl Fn() -> bool) {
        let Some(speed) = self.speed else { return };
        let (began, first_us) = *self.began.get_or_insert((Instant::now(), at_us));
        let after_s = at_us.saturating_sub(first_us).max(0) as f64 / 1e6 / speed;
        let after = Duration::try_from_secs_f64(after_s).unwrap_or(Duration::MAX);
        while let Some(left) = after
            .checked_sub(began.elapsed())
            .filter(|left| !left.is_zero())
            && !given_up()
        {
            std::thread::sleep(left.min(LOOK));
        }
    }
}
