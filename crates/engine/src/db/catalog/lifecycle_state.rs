//! What a checkpoint saves of streams, besides the statements that define them.

use super::{Catalog, QueryEntry};
use crate::stream_status::{LifecycleState, SavedStream};

impl Catalog {
    pub fn lifecycle_state(&self) -> LifecycleState {
        let streams = self
            .queries()
            .map(|(name, query)| (name.clone(), saved(query)));
        LifecycleState {
            streams: streams.collect(),
        }
    }
}

fn saved(query: &QueryEntry) -> SavedStream {
    let lifecycle = &query.lifecycle;
    let attached = match lifecycle.is_source_group() {
        true => query.inputs.clone(),
        false => Vec::new(),
    };
    let held = lifecycle.held.iter();
    let held = held.filter_map(|(input, held)| Some((input.clone(), held.place.as_ref()?.get()?)));
    SavedStream {
        status: lifecycle.status,
        attached,
        held: held.collect(),
    }
}
