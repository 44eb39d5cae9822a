//! What each topic produced in the step at hand.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dataflow::StreamElement;
use crate::topic::{Topic, TopicId};

#[derive(Default)]
pub(super) struct EpochOutput(HashMap<TopicId, (Arc<Topic>, Vec<StreamElement>)>);

impl EpochOutput {
    /// The elements of a topic, to add more.
    pub fn of(&mut self, topic: &Arc<Topic>) -> &mut Vec<StreamElement> {
        &mut self
            .0
            .entry(topic.id)
            .or_insert_with(|| (Arc::clone(topic), Vec::new()))
            .1
    }

    pub fn get(&self, topic: TopicId) -> &[StreamElement] {
        self.0.get(&topic).map_or(&[], |(_, elements)| elements)
    }

    pub fn remove(&mut self, topic: TopicId) {
        self.0.remove(&topic);
    }

    /// Publishes everything; the next step begins with nothing. Returns the views that cannot keep it, each
    /// with the reason.
    pub fn publish(&mut self) -> Vec<(TopicId, String)> {
        let published = self
            .0
            .drain()
            .map(|(id, (topic, elements))| (id, topic.publish(&elements)));
        published
            .filter_map(|(id, it)| Some((id, it.err()?)))
            .collect()
    }
}
