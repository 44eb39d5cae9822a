//! Feeds a query from the logs of its inputs until it hears them live.

use std::collections::BTreeMap;

use super::input::BackfillInput;
use crate::clock::now_us;
use crate::db::engine::Workers;
use crate::durable::{Replayed, WalMerge};
use crate::error::{Error, Result};
use crate::event_log::EventLog;
use crate::topic::TopicId;
use crate::worker::{QueryCommand, WorkerCommand};

/// Feeds a query whose inputs are held until only rows that the workers buffer are missing. Blocks.
pub(crate) fn catch_up(
    workers: &Workers,
    event_log: &EventLog,
    output: TopicId,
    inputs: &[BackfillInput],
) -> Result<()> {
    feed(workers, event_log, output, inputs, None)?;
    let buffered =
        workers.ask(|answer| WorkerCommand::Query(QueryCommand::Buffer { output, answer }));
    let until = buffered.wait()?.into_iter().flatten().collect();
    feed(workers, event_log, output, inputs, Some(&until))
}

/// Feeds what the logs hold behind the places of the inputs, up to the steps of `until`.
fn feed(
    workers: &Workers,
    event_log: &EventLog,
    output: TopicId,
    inputs: &[BackfillInput],
    until: Option<&BTreeMap<TopicId, u64>>,
) -> Result<()> {
    let mut replay = WalMerge::default();
    for input in inputs {
        input.wal_writer.catch_up().map_err(Error::Data)?;
        let after = input.place.get().unwrap_or(0);
        let (topic, schema) = (input.topic.id, &input.topic.relation.schema);
        if let Some(lost) = replay.add(topic, schema, &input.wal_writer, after)? {
            let name = &input.topic.relation.name;
            let reason = format!("retention has removed {lost} rows that were still to be read");
            event_log.gap_between(name, reason, now_us(), now_us());
        }
    }
    let is_due = |part: &Replayed| {
        let last = |until: &BTreeMap<TopicId, u64>| until.get(&part.source).copied();
        until.is_none_or(|until| last(until).is_some_and(|last| part.sequence <= last))
    };
    while let Some(mut parts) = replay.next_step()? {
        parts.retain(is_due);
        for part in &mut parts {
            if let Some(input) = inputs.iter().find(|it| it.topic.id == part.source) {
                input.place.set(part.sequence);
                input.clip(part)?;
            }
        }
        if !parts.is_empty() {
            workers.feed(output, parts)?;
        }
    }
    Ok(())
}

/// The query hears live rows from now on, after those that the workers have buffered for it.
pub(crate) fn release(workers: &Workers, output: TopicId) {
    workers.life(QueryCommand::Hold {
        output,
        inputs: Vec::new(),
        reason: "".into(),
    });
}
