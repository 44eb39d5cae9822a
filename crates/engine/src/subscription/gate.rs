//! The gate that a full queue closes: backpressure on the sources before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use headwater_ring::Bell;

/// Stops workers from reading sources while a queue behind them is full. Thread-safe.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The number of full queues.
    full: AtomicUsize,
    /// Rung when a queue has room again.
    bells: Vec<Arc<Bell>>,
}

impl Gate {
    pub fn new(bells: Vec<Arc<Bell>>) -> Self {
        Self {
            full: AtomicUsize::new(0),
            bells,
        }
    }

    /// Whether some queue behind this gate is full.
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with the Release of `shut` and `open`; the count alone decides.
        self.full.load(Ordering::Acquire) > 0
    }

    pub fn shut(&self) {
        self.full.fetch_add(1, Ordering::Release);
    }

    pub fn open(&self) {
        self.full.fetch_sub(1, Ordering::Release);
        self.bells.iter().for_each(|bell| bell.ring());
    }
}
