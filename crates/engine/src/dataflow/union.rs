//! UNION ALL: the rows of all inputs, at the watermark of the slowest.
//!
//! Rows pass at once. The watermarks of an epoch are held back until the epoch is complete, so what
//! comes out does not depend on the order in which the inputs' chunks arrive: every worker emits
//! the same one watermark.

use std::collections::BTreeMap;

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Capability, Concatenate};

use super::chunk::{Chunk, Watermark};
use super::stage::Chunks;

/// The watermark of several inputs: the least of those that are not idle.
struct Slowest(Vec<Watermark>);

impl Slowest {
    fn watermark(&self) -> Watermark {
        let waiting = self.0.iter().filter(|watermark| !watermark.idle);
        match waiting.map(|watermark| watermark.at_us).min() {
            Some(at_us) => Watermark { at_us, idle: false },
            None => {
                let at_us = self.0.iter().map(|watermark| watermark.at_us).max();
                Watermark {
                    at_us: at_us.unwrap_or(i64::MIN),
                    idle: true,
                }
            }
        }
    }
}

/// The watermarks of one epoch: which input, and what it said last.
type Marks = BTreeMap<usize, Watermark>;

/// Merges the inputs. They must be in the same scope, and at least one.
pub(super) fn union<'scope>(inputs: Vec<Chunks<'scope>>) -> Chunks<'scope> {
    let scope = inputs[0].scope();
    let mut slowest = Slowest(vec![Watermark::START; inputs.len()]);
    let mut said = Watermark::START;
    let numbered = inputs.into_iter().enumerate();
    let numbered = numbered.map(|(number, input)| input.map(move |chunk| (number, chunk)));
    let all = scope.concatenate(numbered.collect::<Vec<_>>());
    all.unary_frontier(Pipeline, "union", move |_, _| {
        let mut epochs: BTreeMap<u64, (Capability<u64>, Marks)> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for (number, chunk) in batches.flat_map(|chunks| chunks.drain(..)) {
                    match chunk {
                        Chunk::Watermark(watermark) => {
                            let epoch = epochs.entry(*time.time());
                            let (_, marks) =
                                epoch.or_insert_with(|| (time.retain(0), Marks::new()));
                            marks.insert(number, watermark);
                        }
                        other => session.give(other),
                    }
                }
            });
            while let Some(entry) = epochs.first_entry() {
                if frontier.less_equal(entry.key()) {
                    break;
                }
                let (capability, marks) = entry.remove();
                marks
                    .into_iter()
                    .for_each(|(number, mark)| slowest.0[number] = mark);
                said = said.later(slowest.watermark());
                output.session(&capability).give(Chunk::Watermark(said));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_us: i64, idle: bool) -> Watermark {
        Watermark { at_us, idle }
    }

    #[test]
    fn the_slowest_counts() {
        assert_eq!(
            Slowest(vec![at(5, false), at(3, false)]).watermark(),
            at(3, false)
        );
    }

    #[test]
    fn an_idle_input_is_not_waited_for() {
        assert_eq!(
            Slowest(vec![at(5, false), at(3, true)]).watermark(),
            at(5, false)
        );
    }

    #[test]
    fn when_all_are_idle_so_is_the_union() {
        assert_eq!(
            Slowest(vec![at(5, true), at(3, true)]).watermark(),
            at(5, true)
        );
    }
}
