//! When the first open windows of a query close: what a source that is idle asks, so that its watermark
//! moves by the clock only where that closes a window.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The watermark at which the first open window of each stage of a query closes, in microseconds. All its
/// workers share it. Thread-safe.
#[derive(Debug, Clone, Default)]
pub struct OpenWindows(Arc<Mutex<BTreeMap<StageKey, i64>>>);

/// The number of the worker, and that of the stage there.
type StageKey = (usize, usize);

impl OpenWindows {
    /// The first of the watermarks beyond `at_us` at which a window closes.
    pub fn first_after(&self, at_us: i64) -> Option<i64> {
        let open = self.lock();
        let beyond = open.values().filter(|closes_us| **closes_us > at_us);
        beyond.copied().min()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StageKey, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of one stage on one worker, which has no open window yet: the query may be built again.
    pub(super) fn of_stage(&self, worker: usize, stage: usize) -> StageWindows {
        let key = (worker, stage);
        self.lock().remove(&key);
        StageWindows {
            all: self.clone(),
            key,
            last: None,
        }
    }
}

/// The entry of one stage.
pub(super) struct StageWindows {
    all: OpenWindows,
    key: StageKey,
    last: Option<i64>,
}

impl StageWindows {
    /// Notes that the first open window closes at this watermark; `None` if none is open.
    pub fn note(&mut self, closes_us: Option<i64>) {
        if self.last == closes_us {
            return;
        }
        self.last = closes_us;
        let mut open = self.all.lock();
        match closes_us {
            Some(closes_us) => open.insert(self.key, closes_us),
            None => open.remove(&self.key),
        };
    }
}
