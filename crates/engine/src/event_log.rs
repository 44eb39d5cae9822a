//! What happened lately: gaps, errors and the events of streams' lives, kept for those who ask.
//!
//! ```text
//!   sources, queries, sinks ──► EventLog ──► system.gaps, system.errors      the newest 1,000 of each
//!                                      └──► Events: whoever watches         the newest 1,024
//! ```
//!
//! Writing never waits for readers. What is too old is forgotten; the counters of sources and the
//! log keep what must not be.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_connect::Gap;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::durable::now_us;
use crate::telemetry::{self, LifecycleEvent};

/// Gaps, and errors, that are kept: the newest.
const KEPT: usize = 1_000;
/// Events that a watcher may be behind.
const EVENTS: usize = 1_024;

/// An interval in which rows may have been missed.
#[derive(Debug, Clone)]
pub(crate) struct GapEntry {
    pub source: String,
    pub gap: Gap,
    /// When it was noted, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// An error of a source, a stream, a view or a sink.
#[derive(Debug, Clone)]
pub(crate) struct ErrorEntry {
    pub kind: &'static str,
    pub name: String,
    pub error: String,
    /// When it was noted, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// What happened lately. Shared; any thread may write and read.
#[derive(Debug)]
pub(crate) struct EventLog {
    kept: Mutex<Kept>,
    /// None once the database is closed: then watchers find the end.
    events: Mutex<Option<broadcast::Sender<LifecycleEvent>>>,
}

#[derive(Debug, Default)]
struct Kept {
    gaps: VecDeque<GapEntry>,
    errors: VecDeque<ErrorEntry>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            events: Mutex::new(Some(broadcast::Sender::new(EVENTS))),
        }
    }
}

impl EventLog {
    pub fn gap(&self, source: &str, gap: Gap) {
        let entry = GapEntry {
            source: source.to_owned(),
            gap,
            at_us: now_us(),
        };
        keep(&mut self.lock().gaps, entry);
    }

    /// A gap between two times, in microseconds since 1970-01-01 UTC.
    pub fn gap_between(&self, source: &str, reason: String, from_us: i64, to_us: i64) {
        tracing::warn!(source, reason, "rows were missed");
        let gap = Gap {
            reason,
            from: Some(in_words(from_us)),
            to: Some(in_words(to_us)),
        };
        self.gap(source, gap);
    }

    pub fn error(&self, kind: &'static str, name: &str, error: &str) {
        let entry = ErrorEntry {
            kind,
            name: name.to_owned(),
            error: error.to_owned(),
            at_us: now_us(),
        };
        keep(&mut self.lock().errors, entry);
    }

    /// Emits an event and tells those who watch.
    pub fn tell(&self, event: LifecycleEvent) {
        telemetry::emit(&event);
        if let LifecycleEvent::WorkerDied { source, reason, .. } = &event {
            self.error("source", source, reason);
        }
        if let Some(events) = self.events().as_ref() {
            // Nobody may be watching.
            let _ = events.send(event);
        }
    }

    /// Nothing more will be told.
    pub fn close(&self) {
        self.events().take();
    }

    pub fn gaps(&self) -> Vec<GapEntry> {
        self.lock().gaps.iter().cloned().collect()
    }

    pub fn errors(&self) -> Vec<ErrorEntry> {
        self.lock().errors.iter().cloned().collect()
    }

    /// The newest error of this kind and name that is kept.
    pub fn last_error(&self, kind: &str, name: &str) -> Option<String> {
        let kept = self.lock();
        let mut newest = kept.errors.iter().rev();
        let of = newest.find(|entry| entry.kind == kind && entry.name == name);
        of.map(|entry| entry.error.clone())
    }

    pub fn watch(self: &Arc<Self>, stream: Option<String>) -> Events {
        let events = match self.events().as_ref() {
            Some(events) => events.subscribe(),
            None => broadcast::Sender::new(1).subscribe(),
        };
        Events { events, stream }
    }

    fn events(&self) -> MutexGuard<'_, Option<broadcast::Sender<LifecycleEvent>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep<T>(kept: &mut VecDeque<T>, entry: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(entry);
}

fn in_words(us: i64) -> String {
    use arrow::temporal_conversions::timestamp_us_to_datetime;
    timestamp_us_to_datetime(us).map_or_else(|| us.to_string(), |time| time.to_string())
}

/// What happens to streams and their sources, from now on.
///
/// Iterate to block for the next, ask with [`try_next`](Self::try_next), or await
/// [`recv`](Self::recv). It ends when the database is closed.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<LifecycleEvent>,
    /// Only what is about this stream.
    stream: Option<String>,
}

/// What a watcher of events gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// This happened.
    Event(LifecycleEvent),
    /// The watcher was too slow: this many events were dropped here.
    Missed {
        /// How many, of all streams.
        events: u64,
    },
}

impl Events {
    /// The next event if there is one now. Does not block.
    pub fn try_next(&mut self) -> Option<Watched> {
        loop {
            match self.events.try_recv() {
                Ok(event) if self.is_meant(&event) => return Some(Watched::Event(event)),
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
                Ok(event) if self.is_meant(&event) => return Some(Watched::Event(event)),
                Ok(_) => {}
                Err(RecvError::Lagged(events)) => return Some(Watched::Missed { events }),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn is_meant(&self, event: &LifecycleEvent) -> bool {
        let wanted = self.stream.as_deref();
        wanted.is_none() || wanted == event.stream()
    }
}

impl Iterator for Events {
    type Item = Watched;

    /// Blocks the thread until there is one.
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
