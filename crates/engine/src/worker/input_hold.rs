//! Inputs that a query does not read for a while, and what it needs when it reads them again.
//!
//! The elements of a **held** input pass the query by. Of an input without a log, its rows are counted
//! as missed and its last watermark is kept; of one whose result changes, the result as it was is kept
//! instead, so that on release the query is fed the difference and misses nothing.
//!
//! Of a source that has a log nothing is missed either. Its [`CatchUpPosition`] is how far the query was
//! fed; from there on the query is fed out of the log, a step at a time between the steps of all
//! (`CatchUp`). Near the end the elements that pass by are buffered (`Buffer`), so that the release
//! closes the gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;

use crate::dataflow::{self, Run, StreamElement, Watermark, disappearing};
use crate::store::ViewVersion;
use crate::topic::{Topic, TopicId};

/// How far a query has been fed from a source that has a log: the number of a step. Thread-safe.
#[derive(Debug)]
pub(crate) struct CatchUpPosition(AtomicU64);

/// The value of a position that is not known yet.
const UNKNOWN: u64 = u64::MAX;

impl CatchUpPosition {
    /// Not known yet: the home worker of the source settles it.
    pub fn unknown() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }

    /// Behind this step; 0 is before the first.
    pub fn behind(step: u64) -> Self {
        Self(AtomicU64::new(step))
    }

    pub fn set(&self, step: u64) {
        self.0.store(step, Ordering::Release);
    }

    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|step| *step != UNKNOWN)
    }

    /// Sets the position if it is not known yet.
    pub(super) fn settle(&self, step: u64) {
        // If it is known already, it stays.
        let _ = self
            .0
            .compare_exchange(UNKNOWN, step, Ordering::AcqRel, Ordering::Acquire);
    }
}

#[derive(Clone)]
pub(crate) struct InputHold {
    pub input: TopicId,
    /// Counts the rows that pass the query by.
    pub missed: Arc<AtomicU64>,
    /// How far the query has read its log, if the input has one.
    pub place: Option<Arc<CatchUpPosition>>,
}

/// A hold in force, on one worker.
pub(super) struct ActiveHold {
    pub hold: InputHold,
    /// The result when the hold began, of an input whose result changes; on its home worker.
    pub before: Option<Arc<ViewVersion>>,
    changes: bool,
    watermark: Option<Watermark>,
    /// What passes by, once the query has nearly caught up with the log.
    buffer: Option<Vec<StreamElement>>,
}

impl ActiveHold {
    pub fn new(hold: &InputHold, topic: &Topic, here: usize) -> Self {
        let is_kept_here = topic.relation.changes && topic.home == here;
        let before = is_kept_here.then(|| topic.version());
        Self::with(hold.clone(), topic, before)
    }

    /// The hold of an input whose result changes, as it was before a restart.
    pub fn restored(topic: &Topic, before: &[Run], here: usize) -> dataflow::Result<Self> {
        let hold = InputHold {
            input: topic.id,
            missed: Arc::default(),
            place: None,
        };
        let schema = || Arc::clone(&topic.relation.schema);
        let before = (topic.home == here).then(|| ViewVersion::restored(schema(), true, before));
        let before = before.transpose()?.map(Arc::new);
        Ok(Self::with(hold, topic, before))
    }

    fn with(hold: InputHold, topic: &Topic, before: Option<Arc<ViewVersion>>) -> Self {
        Self {
            hold,
            before,
            changes: topic.relation.changes,
            watermark: None,
            buffer: None,
        }
    }

    pub fn is_of(&self, input: TopicId) -> bool {
        self.hold.input == input
    }

    /// Buffers what passes by from now on, of an input that has a log; returns whether it does.
    pub fn begin_buffer(&mut self) -> bool {
        let has_log = self.hold.place.is_some();
        self.buffer = has_log.then(Vec::new);
        has_log
    }

    pub fn skip(&mut self, elements: &[StreamElement]) {
        if self.hold.place.is_some() {
            if let Some(buffer) = &mut self.buffer {
                buffer.extend_from_slice(elements);
            }
            return;
        }
        for element in elements {
            match element {
                StreamElement::Rows(rows, _) if !self.changes => {
                    let rows = rows.num_rows() as u64;
                    self.hold.missed.fetch_add(rows, Ordering::Relaxed);
                }
                StreamElement::Watermark(watermark) => self.watermark = Some(*watermark),
                _ => {}
            }
        }
    }

    /// What the query must be fed so that it is as if it had read the input.
    pub fn release(self, topic: &Topic) -> dataflow::Result<Vec<StreamElement>> {
        if let Some(buffer) = self.buffer {
            return Ok(buffer);
        }
        let gone = self.before.as_ref().map(|before| before.published());
        let gone = gone.transpose()?.unwrap_or_default();
        let mut rows: Vec<RecordBatch> = gone.into_iter().map(disappearing).collect();
        if self.changes {
            rows.extend(topic.version().published()?);
        }
        let mut elements: Vec<_> = rows.into_iter().map(StreamElement::rows).collect();
        elements.extend(self.watermark.map(StreamElement::Watermark));
        Ok(elements)
    }
}
