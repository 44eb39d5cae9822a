//! A source that a factory has made: the stream of its batches, and the position of its reader.
//!
//! Two hold it: the reader has the [`ActiveSource`], the factory the `Tracked` behind it. The cursor is
//! that of the last batch *yielded*, not of the last one read: batches between source and reader come again.
//! A reader that stops polling stops the source from reading ahead.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::not_incremental;
use crate::locked::locked;
use crate::{
    Blueprint, Care, Cursor, Delivery, Error, Gap, Item, Lane, LaneClosed, Result, SourceHandle,
    SourceSpec, State, Status,
};

/// The number of gaps kept for the reader; later ones are only counted.
const GAPS_MAX: usize = 1_000;

/// The state that factory and reader share.
pub(super) struct Tracked {
    pub(super) id: String,
    spec: Arc<SourceSpec>,
    incremental: bool,
    care: Care,
    created_us: i64,
    /// Held while its cursor is being saved.
    pub(super) saving: tokio::sync::Mutex<()>,
    progress: Mutex<StreamProgress>,
}

struct StreamProgress {
    handle: Arc<SourceHandle>,
    /// The cursor that covers every batch yielded.
    cursor: Option<Cursor>,
    batches: u64,
    rows: u64,
    bad: u64,
    gaps: Vec<Gap>,
    /// Cancelled when its items are not wanted any more; `None` before the first start.
    unwanted: Option<CancellationToken>,
    closed: bool,
}

/// The counters and the status of a source made by a factory.
#[derive(Debug, Clone)]
pub struct SourceStats {
    /// The name of its connector.
    pub kind: &'static str,
    /// When it was made, in microseconds since 1970-01-01 UTC.
    pub created_us: i64,
    /// Batches yielded to its reader. Only grows.
    pub batches: u64,
    /// Rows in them. Only grows.
    pub rows: u64,
    /// Bad frames in them. Only grows.
    pub bad: u64,
    /// The cursor that covers every batch yielded.
    pub cursor: Option<Cursor>,
    /// State, restarts, last failure and more; counts rows read, yielded or not.
    pub status: Status,
}

impl Tracked {
    pub(super) fn new(
        id: &str,
        spec: Arc<SourceSpec>,
        incremental: bool,
        cursor: Option<Cursor>,
        care: Care,
    ) -> Self {
        let handle = SourceHandle::new(spec.clone(), cursor.clone(), care.clone());
        let progress = StreamProgress {
            handle: Arc::new(handle),
            cursor,
            batches: 0,
            rows: 0,
            bad: 0,
            gaps: Vec::new(),
            unwanted: None,
            closed: false,
        };
        Self {
            id: id.to_owned(),
            spec,
            incremental,
            created_us: care.clock.now_us(),
            care,
            saving: tokio::sync::Mutex::new(()),
            progress: Mutex::new(progress),
        }
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        locked(&self.progress).cursor.clone()
    }

    pub(super) fn stats(&self) -> SourceStats {
        let progress = locked(&self.progress);
        SourceStats {
            kind: self.spec.connector(),
            created_us: self.created_us,
            batches: progress.batches,
            rows: progress.rows,
            bad: progress.bad,
            cursor: progress.cursor.clone(),
            status: progress.handle.status(),
        }
    }

    /// Stops the source; it cannot be started again.
    pub(super) async fn close(&self) {
        locked(&self.progress).closed = true;
        self.end().await;
    }

    /// Stops the source, even if nobody reads its items.
    async fn end(&self) {
        let (handle, unwanted) = {
            let mut progress = locked(&self.progress);
            (progress.handle.clone(), progress.unwanted.take())
        };
        if let Some(unwanted) = unwanted {
            unwanted.cancel();
        }
        handle.stop().await;
    }

    /// Starts the source; `None` if it was closed.
    fn start(&self) -> Result<Option<RunningStream>> {
        let mut progress = locked(&self.progress);
        if progress.closed {
            return Ok(None);
        }
        let unwanted = CancellationToken::new();
        let (sender, items) = mpsc::channel(1);
        let lane = WantedLane {
            sender,
            unwanted: unwanted.clone(),
        };
        progress.handle.start(&unwanted, Some(Box::new(lane)))?;
        progress.unwanted = Some(unwanted.clone());
        Ok(Some(RunningStream {
            items,
            _unwanted: unwanted.drop_guard(),
        }))
    }

    /// Counts a delivery that is about to be yielded; `false` if the source was closed, and it must not be.
    fn yields(&self, delivery: &Delivery) -> bool {
        let mut progress = locked(&self.progress);
        if progress.closed {
            return false;
        }
        if let Some(cursor) = &delivery.cursor {
            progress.cursor = Some(cursor.clone());
        }
        if !is_empty(delivery) {
            progress.batches += 1;
            progress.rows += delivery.rows.num_rows() as u64;
            progress.bad += delivery.bad.len() as u64;
        }
        true
    }

    fn gap(&self, gap: Gap) {
        let mut progress = locked(&self.progress);
        if progress.gaps.len() < GAPS_MAX {
            progress.gaps.push(gap);
        }
    }

    /// How the run ended that has no items any more; waits for the final status.
    async fn ended(self: Arc<Self>) -> Result<()> {
        let handle = locked(&self.progress).handle.clone();
        let mut status = handle.watch();
        let ended = status.wait_for(|status| !status.state.is_active()).await;
        match ended {
            Ok(status) if status.state == State::Failed => Err(Error::SourceFailed {
                id: self.id.clone(),
                reason: status.reason.clone().unwrap_or_default(),
            }),
            _ => Ok(()),
        }
    }
}

fn is_empty(delivery: &Delivery) -> bool {
    delivery.rows.num_rows() == 0 && delivery.bad.is_empty()
}

/// A source made by [`Sources::create`](crate::Sources::create), as the stream of its batches.
///
/// Ends when the source's input ends, when it is closed, or after the error that it failed with. For
/// one reader: it can be sent to another task, not shared. Dropping it stops the source; the factory
/// keeps it, with its cursor, until it is closed there.
pub struct ActiveSource {
    tracked: Arc<Tracked>,
    run: StreamPhase,
}

enum StreamPhase {
    NotStarted,
    Running(RunningStream),
    /// The last item was taken.
    Ending(BoxFuture<'static, Result<()>>),
    Ended,
}

struct RunningStream {
    items: mpsc::Receiver<Item>,
    _unwanted: DropGuard,
}

impl ActiveSource {
    pub(super) fn new(tracked: Arc<Tracked>) -> Self {
        Self {
            tracked,
            run: StreamPhase::NotStarted,
        }
    }

    /// The id it was made with.
    pub fn id(&self) -> &str {
        &self.tracked.id
    }

    /// The name of its connector.
    pub fn kind(&self) -> &'static str {
        self.tracked.spec.connector()
    }

    /// Checks again that the external system can be reached. Reads no data.
    pub async fn validate(&self) -> Result<()> {
        let source = self.tracked.spec.source(self.get_cursor())?;
        source.validate().await
    }

    /// Whether it continues from a cursor.
    pub fn supports_incremental(&self) -> bool {
        self.tracked.incremental
    }

    /// The cursor that covers every batch yielded so far; `None` if there is none yet.
    pub fn get_cursor(&self) -> Option<Cursor> {
        self.tracked.cursor()
    }

    /// Continues from this cursor: the next batch is the first one after it. Stops the source if it is
    /// running, which takes at most [`Care::stop_deadline`]. Fails, and changes nothing, if the cursor is not
    /// from this kind of source, or the kind has none.
    pub async fn set_cursor(&mut self, cursor: Cursor) -> Result<()> {
        if !self.tracked.incremental {
            return Err(not_incremental(self.kind()));
        }
        self.tracked.spec.source(Some(cursor.clone()))?;
        self.run = StreamPhase::NotStarted;
        self.tracked.end().await;
        let (spec, care) = (self.tracked.spec.clone(), self.tracked.care.clone());
        let handle = SourceHandle::new(spec, Some(cursor.clone()), care);
        let mut progress = locked(&self.tracked.progress);
        progress.handle = Arc::new(handle);
        progress.cursor = Some(cursor);
        Ok(())
    }

    /// The gaps since the last call: intervals in which rows may have been missed. At most 1,000; the status
    /// counts all.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut locked(&self.tracked.progress).gaps)
    }

    /// The counters and the status of the source.
    pub fn stats(&self) -> SourceStats {
        self.tracked.stats()
    }
}

#[cfg(all(test, feature = "file"))]
impl ActiveSource {
    pub(super) fn tracked_status(&self) -> tokio::sync::watch::Receiver<Status> {
        locked(&self.tracked.progress).handle.watch()
    }
}

impl fmt::Debug for ActiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.tracked.stats().status.state;
        write!(f, "ActiveSource({:?}, {}, {state})", self.id(), self.kind())
    }
}

impl Stream for ActiveSource {
    type Item = Result<Delivery>;

    /// Starts the source when it is first called; must be called within a tokio runtime.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let tracked = self.tracked.clone();
            let next = match &mut self.run {
                StreamPhase::NotStarted => match tracked.start() {
                    Ok(Some(running)) => StreamPhase::Running(running),
                    Ok(None) => StreamPhase::Ended,
                    Err(error) => {
                        self.run = StreamPhase::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                StreamPhase::Running(running) => match ready!(running.items.poll_recv(cx)) {
                    Some(Item::Rows(delivery)) if tracked.yields(&delivery) => {
                        if is_empty(&delivery) {
                            continue;
                        }
                        return Poll::Ready(Some(Ok(delivery)));
                    }
                    Some(Item::Rows(_)) => StreamPhase::Ended,
                    Some(Item::Gap(gap)) => {
                        tracked.gap(gap);
                        continue;
                    }
                    Some(Item::Lifecycle(_)) => continue,
                    None => StreamPhase::Ending(Box::pin(tracked.ended())),
                },
                StreamPhase::Ending(ended) => {
                    let ended = ready!(ended.as_mut().poll(cx));
                    self.run = StreamPhase::Ended;
                    return Poll::Ready(ended.err().map(Err));
                }
                StreamPhase::Ended => return Poll::Ready(None),
            };
            self.run = next;
        }
    }
}

/// A lane that never keeps a source from stopping: it closes when its items are not wanted any more.
struct WantedLane {
    sender: mpsc::Sender<Item>,
    unwanted: CancellationToken,
}

#[async_trait]
impl Lane for WantedLane {
    async fn send(&mut self, item: Item) -> Result<(), LaneClosed> {
        tokio::select! {
            biased;
            () = self.unwanted.cancelled() => Err(LaneClosed),
            sent = self.sender.send(item) => sent.map_err(|_| LaneClosed),
        }
    }
}
