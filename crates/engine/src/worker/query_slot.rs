//! A query on one worker: its part of the dataflow, its topics, its held inputs.

use std::sync::Arc;

use timely::dataflow::operators::probe::Handle as Probe;

use super::command::NewQuery;
use super::input_hold::{ActiveHold, InputHold};
use crate::dataflow::{
    self, Built, Input, Outlet, QueryFailure, Run, Share, StageHandle, StageState, StreamElement,
};
use crate::durable::QueryCheckpoint;
use crate::topic::Topic;

pub(super) struct QuerySlot {
    pub inputs: Vec<(Arc<Topic>, Input)>,
    /// For each input whether its operators need the provenance of rows.
    pub needs_provenance: Vec<bool>,
    pub probe: Probe<u64>,
    pub outlet: Outlet,
    stages: Vec<StageHandle>,
    pub output: Arc<Topic>,
    pub late: Vec<Arc<Topic>>,
    pub failure: QueryFailure,
    pub failed: bool,
    pub held: Vec<ActiveHold>,
    /// Whether the query is not started yet, or stopped.
    pub idle: bool,
}

impl QuerySlot {
    /// Builds this worker's part of a query; `None` if that fails, which ends its output.
    pub fn build(timely: &mut timely::worker::Worker, query: &NewQuery) -> Option<Self> {
        let (inputs, home) = (query.inputs.len(), query.output.home);
        let built = timely.dataflow::<u64, _, _>(|scope| {
            dataflow::build(scope, &query.plan, inputs, home, &query.failure)
        });
        let Built {
            inputs,
            probe,
            outlet,
            stages,
        } = match built {
            Ok(built) => built,
            Err(error) => {
                query.output.fail(&error.strip_backtrace());
                return None;
            }
        };
        let columns = &query.plan.metadata_columns;
        let needed = |input: usize| columns.get(input).is_some_and(Option::is_some);
        Some(Self {
            needs_provenance: (0..inputs.len()).map(needed).collect(),
            inputs: query.inputs.iter().cloned().zip(inputs).collect(),
            probe,
            outlet,
            stages,
            output: Arc::clone(&query.output),
            late: query.late.clone(),
            failure: query.failure.clone(),
            failed: query.output.has_failed(),
            held: Vec::new(),
            idle: false,
        })
    }

    /// A slot in which nothing runs.
    pub fn idle(output: Arc<Topic>, late: Vec<Arc<Topic>>) -> Self {
        Self {
            inputs: Vec::new(),
            needs_provenance: Vec::new(),
            probe: Probe::new(),
            outlet: Outlet::default(),
            stages: Vec::new(),
            output,
            late,
            failure: QueryFailure::default(),
            failed: false,
            held: Vec::new(),
            idle: true,
        }
    }

    /// Holds those of these inputs that are not held yet.
    pub fn hold(&mut self, wanted: &[InputHold], here: usize) {
        for hold in wanted {
            let mut inputs = self.inputs.iter();
            let input = inputs.find(|(topic, _)| topic.id == hold.input);
            if let Some((topic, _)) = input
                && !self.held.iter().any(|held| held.is_of(hold.input))
            {
                self.held.push(ActiveHold::new(hold, topic, here));
            }
        }
    }

    /// Ends the query with no further results. The home worker reports the reason to subscribers before
    /// any later command: another worker may still be in this step when the query is started again.
    pub fn fail(&mut self, reason: &str, here: usize) {
        self.failed = true;
        self.outlet.take(u64::MAX);
        if self.output.home == here {
            self.output.fail(reason);
            self.late.iter().for_each(|topic| topic.fail(reason));
        }
    }

    /// The topic to which `element`, which the dataflow produced, is published.
    pub fn topic_of(&self, element: StreamElement) -> (&Arc<Topic>, StreamElement) {
        match element {
            StreamElement::Late { stage, rows } => (&self.late[stage], StreamElement::rows(rows)),
            StreamElement::Rows(..) | StreamElement::Watermark(_) => (&self.output, element),
            StreamElement::Partial { .. } | StreamElement::From(_) => {
                unreachable!("they end in a stage of the dataflow")
            }
        }
    }

    pub fn save(&self) -> dataflow::Result<Vec<StageState>> {
        self.stages.iter().map(StageHandle::save).collect()
    }

    /// Restores its stages from the states of all workers.
    pub fn restore(&self, state: &QueryCheckpoint<Run>, share: Share) -> dataflow::Result<()> {
        for (number, stage) in self.stages.iter().enumerate() {
            stage.restore(&state.stage(number), share)?;
        }
        Ok(())
    }

    /// Ends the topics, if `here` is their home worker, which has published what the query produced.
    pub fn end(&self, here: usize) {
        if self.output.home == here {
            self.output.end();
            self.late.iter().for_each(|topic| topic.end());
        }
    }
}
