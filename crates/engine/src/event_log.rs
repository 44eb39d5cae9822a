//! The event log: recent gaps, errors and lifecycle events of streams, kept in memory.
//!
//! ```text
//!   sources, queries, sinks ──► EventLog ──► system.gaps      the newest 1,000 of each source
//!                                      ├──► system.errors    the newest 1,000
//!                                      └──► Events: each watcher           the newest 1,024
//! ```
//!
//! Writing never waits for readers. Old entries are dropped; the counters of sources and the log of the
//! process keep what must not be lost. The gaps of a source are in its log and in checkpoints, from where
//! they come back at a start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use headwater_connect::Gap;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::clock::now_us;
use crate::locked::locked;
use crate::telemetry::{self, LifecycleEvent};

/// Capacity for the gaps of one source, and for errors, entries.
const KEPT: usize = 1_000;
/// Length of a text of a gap, bytes: what is longer is cut off.
const GAP_TEXT_MAX: usize = 1_024;
/// Events that a watcher may lag behind.
const EVENTS: usize = 1_024;

/// An interval in which rows may have been missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GapEntry {
    pub gap: Gap,
    /// When it was recorded, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

impl GapEntry {
    pub fn new(mut gap: Gap, at_us: i64) -> Self {
        let texts = [Some(&mut gap.reason), gap.from.as_mut(), gap.to.as_mut()];
        for text in texts.into_iter().flatten() {
            text.truncate(text.floor_char_boundary(GAP_TEXT_MAX));
        }
        Self { gap, at_us }
    }

    /// Whether it is `earlier`, which has gone on: for the same reason since the same place.
    fn continues(&self, earlier: &Self) -> bool {
        let (gap, earlier) = (&self.gap, &earlier.gap);
        gap.from.is_some() && gap.from == earlier.from && gap.reason == earlier.reason
    }
}

/// An error of a source, a stream, a view or a sink.
#[derive(Debug, Clone)]
pub(crate) struct ErrorEntry {
    pub kind: &'static str,
    pub name: String,
    pub error: String,
    /// When it was recorded, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// The recent events of one database. Thread-safe.
#[derive(Debug)]
pub(crate) struct EventLog {
    recent: Mutex<RecentEntries>,
    /// `None` once the database is closed, which ends all watchers.
    events: Mutex<Option<broadcast::Sender<LifecycleEvent>>>,
}

#[derive(Debug, Default)]
struct RecentEntries {
    /// By the name of the source.
    gaps: BTreeMap<String, VecDeque<GapEntry>>,
    errors: VecDeque<ErrorEntry>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            recent: Mutex::default(),
            events: Mutex::new(Some(broadcast::Sender::new(EVENTS))),
        }
    }
}

impl EventLog {
    /// Records a gap; returns whether it is new rather than one that goes on.
    pub fn gap(&self, source: &str, entry: GapEntry) -> bool {
        let mut recent = locked(&self.recent);
        let kept = match recent.gaps.get_mut(source) {
            Some(kept) => kept,
            None => recent.gaps.entry(source.to_owned()).or_default(),
        };
        match kept.back_mut() {
            Some(last) if entry.continues(last) => {
                *last = entry;
                false
            }
            _ => {
                keep(kept, entry);
                true
            }
        }
    }

    /// A gap between two times, in microseconds since 1970-01-01 UTC.
    pub fn gap_between(&self, source: &str, reason: String, from_us: i64, to_us: i64) {
        tracing::warn!(source, reason, "rows were missed");
        let gap = Gap {
            reason,
            from: Some(readable(from_us)),
            to: Some(readable(to_us)),
        };
        self.gap(source, GapEntry::new(gap, now_us()));
    }

    pub fn error(&self, kind: &'static str, name: &str, error: &str) {
        let entry = ErrorEntry {
            kind,
            name: name.to_owned(),
            error: error.to_owned(),
            at_us: now_us(),
        };
        keep(&mut locked(&self.recent).errors, entry);
    }

    /// Emits an event through `tracing`, and sends it to all watchers.
    pub fn publish(&self, event: LifecycleEvent) {
        telemetry::emit(&event);
        if let LifecycleEvent::WorkerDied { source, reason, .. } = &event {
            self.error("source", source, reason);
        }
        if let Some(events) = locked(&self.events).as_ref() {
            // There may be no watchers.
            let _ = events.send(event);
        }
    }

    /// Ends all watchers: no more events will come.
    pub fn close(&self) {
        locked(&self.events).take();
    }

    /// All gaps, each with the name of its source, oldest first.
    pub fn gaps(&self) -> Vec<(String, GapEntry)> {
        let recent = locked(&self.recent);
        let of_each = recent.gaps.iter().flat_map(|(source, gaps)| {
            let gaps = gaps.iter().cloned();
            gaps.map(|gap| (source.clone(), gap))
        });
        let mut all: Vec<_> = of_each.collect();
        all.sort_by_key(|(_, gap)| gap.at_us);
        all
    }

    /// The gaps of a source, oldest first.
    pub fn gaps_of(&self, source: &str) -> Vec<GapEntry> {
        let recent = locked(&self.recent);
        let gaps = recent.gaps.get(source).into_iter().flatten();
        gaps.cloned().collect()
    }

    /// Forgets the gaps of a source that is dropped.
    pub fn forget_gaps(&self, source: &str) {
        locked(&self.recent).gaps.remove(source);
    }

    pub fn errors(&self) -> Vec<ErrorEntry> {
        locked(&self.recent).errors.iter().cloned().collect()
    }

    /// The newest error of this kind and name.
    pub fn last_error(&self, kind: &str, name: &str) -> Option<String> {
        let recent = locked(&self.recent);
        let mut newest = recent.errors.iter().rev();
        let of = newest.find(|entry| entry.kind == kind && entry.name == name);
        of.map(|entry| entry.error.clone())
    }

    pub fn watch(self: &Arc<Self>, stream: Option<String>) -> Events {
        let events = match locked(&self.events).as_ref() {
            Some(events) => events.subscribe(),
            None => broadcast::Sender::new(1).subscribe(),
        };
        Events { events, stream }
    }
}

fn keep<T>(kept: &mut VecDeque<T>, entry: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(entry);
}

/// A time as text.
pub(crate) fn readable(us: i64) -> String {
    use arrow::temporal_conversions::timestamp_us_to_datetime;
    timestamp_us_to_datetime(us).map_or_else(|| us.to_string(), |time| time.to_string())
}

/// The lifecycle events of streams and their sources, from now on.
///
/// Iterate to block for the next, poll with [`try_next`](Self::try_next), or await
/// [`recv`](Self::recv). It ends when the database is closed.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<LifecycleEvent>,
    /// If set, only the events of this stream.
    stream: Option<String>,
}

/// One item of [`Events`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// The next lifecycle event, in order.
    Event(LifecycleEvent),
    /// The watcher was too slow: this many events were dropped here.
    Missed {
        /// The number of dropped events, of all streams.
        events: u64,
    },
}

impl Events {
    /// The next event if there is one now. Does not block.
    pub fn try_next(&mut self) -> Option<Watched> {
        loop {
            match self.events.try_recv() {
                Ok(event) if self.is_wanted(&event) => return Some(Watched::Event(event)),
                Ok(_) => {}
                Err(TryRecvError::Lagged(events)) => return Some(Watched::Missed { events }),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }

    /// The next event; `None` when there will be no more.
    pub async fn recv(&mut self) -> Option<Watched> {
        loop {
            match self.events.recv().await {
                Ok(event) if self.is_wanted(&event) => return Some(Watched::Event(event)),
                Ok(_) => {}
                Err(RecvError::Lagged(events)) => return Some(Watched::Missed { events }),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn is_wanted(&self, event: &LifecycleEvent) -> bool {
        let wanted = self.stream.as_deref();
        wanted.is_none() || wanted == event.stream()
    }
}

impl Iterator for Events {
    type Item = Watched;

    /// Blocks the thread until there is an event.
    fn next(&mut self) -> Option<Watched> {
        wait_for(self.recv())
    }
}

/// Runs a future that needs no runtime on this thread.
fn wait_for<T>(work: impl Future<Output = T>) -> T {
    use std::task::{Context, Poll, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut work = std::pin::pin!(work);
    loop {
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
