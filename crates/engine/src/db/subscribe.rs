//! Subscribing with a queue of one's own: how much waits, and what happens to the rest.
//!
//! What a subscriber does never slows the engine, unless it asks for that with [`WhenFull::Wait`].

use std::sync::Arc;

use super::Db;
use crate::error::{Error, Result};
use crate::subscription::{Gate, QueueConfig, SubscriberQueue, Subscription, WhenFull};
use crate::topic::Begin;

impl Db {
    /// As [`subscribe_batches`](Self::subscribe_batches), with a queue as `config` says. The name may
    /// also be a topic: `stream:name`, for a stream or view, or `source:name`.
    ///
    /// # Errors
    /// If there is nothing of this name, or no row may wait.
    pub fn subscribe_with(&self, name: &str, config: QueueConfig) -> Result<Subscription> {
        self.inner.check_open()?;
        if config.rows == 0 {
            let what = "a subscriber's queue must hold at least 1 row, not 0".to_owned();
            return Err(Error::Config { what });
        }
        let catalog = self.inner.catalog();
        let topic = catalog.topic(name)?;
        let gate = (config.when_full == WhenFull::Wait).then(|| {
            let inputs = std::slice::from_ref(&topic.relation.name);
            self.inner.gate(&catalog, inputs)
        });
        let gate: Option<Arc<Gate>> = gate;
        let queue = SubscriberQueue::with_policy(config.rows, gate, config.when_full);
        Ok(self.inner.subscribe(&topic, queue, Begin::Kept))
    }
}
