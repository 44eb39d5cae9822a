//! A query on one worker: its part of the dataflow, its topics, its held inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use headwater_connect::DeadLetter;
use timely::dataflow::operators::probe::Handle as Probe;

use super::command::NewQuery;
use super::input_hold::{ActiveHold, InputHold};
use crate::clock::now_us;
use crate::dataflow::{
    self, Built, Fingerprint, Input, OnError, Outlet, QueryErrors, QueryFailure, Run, Share,
    StageHandle, StreamElement,
};
use crate::durable::QueryCheckpoint;
use crate::sql::plan::sqlstate_of;
use crate::topic::{Topic, TopicFailure, TopicId};

pub(super) struct QuerySlot {
    pub inputs: Vec<(Arc<Topic>, Input)>,
    /// For each input whether its operators need the provenance of rows.
    pub needs_provenance: Vec<bool>,
    pub probe: Probe<u64>,
    pub outlet: Outlet,
    stages: Vec<StageHandle>,
    /// What each stage computes.
    fingerprints: Vec<Fingerprint>,
    pub output: Arc<Topic>,
    pub late: Vec<Arc<Topic>>,
    /// Where rows go whose expressions fail, if they do not end the query.
    pub dead_letters: Option<Arc<Topic>>,
    pub errors: QueryErrors,
    pub failure: Option<TopicFailure>,
    pub held: Vec<ActiveHold>,
    /// What holds the inputs once the query has failed.
    pub if_failed: Vec<InputHold>,
    /// Whether it has been fed all that it begins with.
    pub begun: bool,
    /// Whether the query is not started yet, or stopped.
    pub idle: bool,
}

impl QuerySlot {
    /// Builds this worker's part of a query; `None` if that fails, which ends its output.
    pub fn build(timely: &mut timely::worker::Worker, query: &NewQuery) -> Option<Self> {
        let (inputs, home) = (query.inputs.len(), query.output.home);
        let on_error = on_error(query.dead_letters.as_ref());
        let errors = QueryErrors::new(query.failure.clone(), on_error, sqlstate_of);
        let built = timely.dataflow::<u64, _, _>(|scope| {
            let open = &query.output.open_windows;
            dataflow::build(scope, &query.plan, inputs, home, &errors, open)
        });
        let Built {
            inputs,
            probe,
            outlet,
            stages,
        } = match built {
            Ok(built) => built,
            Err(error) => {
                let failure = TopicFailure::fatal(error.strip_backtrace());
                query.output.fail(&failure);
                return None;
            }
        };
        let columns = &query.plan.metadata_columns;
        let names = query
            .inputs
            .iter()
            .map(|topic| topic.relation.name.as_str());
        let fingerprints = query.plan.fingerprints(&names.collect::<Vec<_>>());
        debug_assert_eq!(fingerprints.len(), stages.len());
        let needed = |input: usize| columns.get(input).is_some_and(Option::is_some);
        Some(Self {
            needs_provenance: (0..inputs.len()).map(needed).collect(),
            inputs: query.inputs.iter().cloned().zip(inputs).collect(),
            probe,
            outlet,
            stages,
            fingerprints,
            output: Arc::clone(&query.output),
            late: query.late.clone(),
            dead_letters: query.dead_letters.clone(),
            errors,
            failure: query.failed.clone(),
            held: Vec::new(),
            if_failed: query.if_failed.clone(),
            begun: false,
            idle: false,
        })
    }

    /// A slot in which nothing runs.
    pub fn idle(
        output: Arc<Topic>,
        late: Vec<Arc<Topic>>,
        dead_letters: Option<Arc<Topic>>,
    ) -> Self {
        Self {
            inputs: Vec::new(),
            needs_provenance: Vec::new(),
            probe: Probe::new(),
            outlet: Outlet::default(),
            stages: Vec::new(),
            fingerprints: Vec::new(),
            output,
            late,
            errors: QueryErrors::new(
                QueryFailure::default(),
                on_error(dead_letters.as_ref()),
                sqlstate_of,
            ),
            dead_letters,
            failure: None,
            held: Vec::new(),
            if_failed: Vec::new(),
            begun: false,
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

    /// It has been fed this step of a held source: notes it, on every worker alike.
    pub fn fed_behind(&self, source: TopicId, step: u64) {
        let held = self.held.iter().filter(|held| held.is_of(source));
        let places = held.filter_map(|held| held.hold.place.as_ref());
        places.for_each(|place| place.set(step));
    }

    /// How far it has been fed from the held sources at home here, by name.
    pub fn places(&self, here: usize) -> BTreeMap<String, u64> {
        let place = |held: &ActiveHold| {
            let mut inputs = self.inputs.iter().map(|(topic, _)| topic);
            let topic = inputs.find(|topic| held.is_of(topic.id) && topic.home == here)?;
            let place = held.hold.place.as_ref()?.get()?;
            Some((topic.relation.name.clone(), place))
        };
        self.held.iter().filter_map(place).collect()
    }

    /// Freezes the query as it is: it gives no results, and all its inputs are held. The home worker
    /// reports the failure to subscribers before any later command: another worker may still be in this
    /// step when the query is started again.
    pub fn fail(&mut self, failure: TopicFailure, here: usize) {
        self.outlet.take(u64::MAX);
        if self.output.home == here {
            self.topics().for_each(|topic| topic.fail(&failure));
        }
        self.failure = Some(failure);
        self.hold_failed(here);
    }

    /// Holds all inputs if the query has failed.
    pub fn hold_failed(&mut self, here: usize) {
        if self.failure.is_some() {
            self.hold(&self.if_failed.clone(), here);
        }
    }

    /// Goes on after a failure, as it was before it.
    pub fn resume(&mut self, failure: &QueryFailure, if_failed: &[InputHold], here: usize) {
        self.failure = None;
        self.errors.resume(failure.clone());
        self.if_failed = if_failed.to_vec();
        if self.output.home == here {
            self.topics().for_each(|topic| topic.resume());
        }
    }

    /// From now on rows that fail go to this topic; without one they end the query.
    pub fn set_dead_letters(&mut self, topic: Option<&Arc<Topic>>, here: usize) {
        self.errors.set_on_error(on_error(topic));
        if let Some(before) = std::mem::replace(&mut self.dead_letters, topic.cloned())
            && before.home == here
        {
            before.end();
        }
    }

    /// The topic to which `element`, which the dataflow produced, is published.
    pub fn topic_of(&self, element: StreamElement) -> Option<(&Arc<Topic>, StreamElement)> {
        Some(match element {
            StreamElement::Late { stage, rows } => (&self.late[stage], StreamElement::rows(rows)),
            StreamElement::Failed(rows) => {
                let topic = self.dead_letters.as_ref()?;
                let rows = dead_letters(&rows, &self.output.relation.name);
                (topic, StreamElement::rows(rows))
            }
            StreamElement::Rows(..) | StreamElement::Watermark(_) => (&self.output, element),
            StreamElement::Partial { .. } | StreamElement::From(_) => {
                unreachable!("they end in a stage of the dataflow")
            }
        })
    }

    /// Reports the first of its dead letters.
    pub fn note_dead_letters(&self, failed: &RecordBatch) {
        let Some(topic) = self.dead_letters.as_ref().filter(|it| it.rows() == 0) else {
            return;
        };
        let errors = failed.column(1).as_string::<i32>();
        let (name, error) = (&topic.relation.name, errors.value(0));
        self.output.note_error(&format!(
            "rows that fail are in {name:?}; the first: {error}"
        ));
    }

    /// The topics that it publishes to.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        let aside = self.late.iter().chain(&self.dead_letters);
        std::iter::once(&self.output).chain(aside)
    }

    /// The part of its state that is here.
    pub fn save(&self, here: usize) -> dataflow::Result<QueryCheckpoint<Run>> {
        let stages = self.stages.iter().map(StageHandle::save);
        let held = self.held.iter().filter_map(|held| {
            let mut inputs = self.inputs.iter().map(|(topic, _)| topic);
            let topic = inputs.find(|topic| held.is_of(topic.id))?;
            let before = held.before.as_ref()?.to_runs();
            Some(before.map(|before| (topic.relation.name.clone(), before)))
        });
        Ok(QueryCheckpoint {
            stages: self.fingerprints.clone(),
            inputs: self
                .inputs
                .iter()
                .map(|(topic, _)| topic.relation.name.clone())
                .collect(),
            workers: [(here, stages.collect::<dataflow::Result<_>>()?)].into(),
            held: held.collect::<dataflow::Result<_>>()?,
        })
    }

    /// Restores its stages from the states of all workers, and its held inputs whose results change.
    ///
    /// # Errors
    /// If the stages that were saved are not those of this query; then none is restored.
    pub fn restore(&mut self, state: &QueryCheckpoint<Run>, share: Share) -> dataflow::Result<()> {
        let places = state.places_of(&self.fingerprints)?;
        for (name, before) in &state.held {
            let mut inputs = self.inputs.iter();
            let input = inputs.find(|(topic, _)| topic.relation.name == *name);
            let held = input.map(|(topic, _)| ActiveHold::restored(topic, before, share.index));
            self.held.extend(held.transpose()?);
        }
        for (stage, place) in self.stages.iter().zip(places) {
            stage.restore(&state.stage(place), share)?;
        }
        Ok(())
    }

    /// Ends the topics, if `here` is their home worker, which has published what the query produced.
    pub fn end(&self, here: usize) {
        if self.output.home == here {
            self.topics().for_each(|topic| topic.end());
        }
    }
}

fn on_error(dead_letters: Option<&Arc<Topic>>) -> OnError {
    match dead_letters {
        Some(_) => OnError::DeadLetter,
        None => OnError::Fail,
    }
}

/// Rows that failed, as rows of a dead-letter stream.
fn dead_letters(failed: &RecordBatch, stream: &str) -> RecordBatch {
    let count = failed.num_rows();
    let mut columns = failed.columns().to_vec();
    columns.push(Arc::new(TimestampMicrosecondArray::from_value(
        now_us(),
        count,
    )));
    columns.push(Arc::new(Int32Array::from_value(1, count)));
    let name = std::iter::repeat_n(stream, count);
    columns.push(Arc::new(StringArray::from_iter_values(name)));
    RecordBatch::try_new(DeadLetter::schema(), columns)
        .expect("the columns of a dead letter, all of the same length")
}
