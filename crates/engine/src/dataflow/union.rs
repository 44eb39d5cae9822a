//! UNION ALL: the rows of all inputs, at the watermark of the slowest.
//!
//! The watermarks of an epoch are held back until the epoch is complete, so the output does not depend
//! on the order in which the inputs' elements arrive: every worker emits the same one watermark.
//! On one worker rows pass at once, since there the operators before always run in the same order.
//! With several, rows of an epoch are held back too, and leave input by input.
//!
//! Between steps its state is the last watermark of each input, and of the output.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use datafusion::error::Result;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Capability, Concatenate};

use super::stage::StreamElements;
use super::stage_state::{Checkpointed, Share, StageHandle, StageState};
use super::stream_element::{StreamElement, Watermark};

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

struct Marks {
    slowest: Slowest,
    /// The last watermark of the output.
    emitted: Watermark,
}

impl Checkpointed for Marks {
    fn save(&mut self) -> Result<StageState> {
        let mut state = StageState::default();
        self.emitted.save(&mut state, "said");
        for (number, mark) in self.slowest.0.iter().enumerate() {
            mark.save(&mut state, &format!("input_{number}"));
        }
        Ok(state)
    }

    fn restore(&mut self, states: &[StageState], _share: Share) -> Result<()> {
        self.emitted = Watermark::saved(states, "said");
        for (number, mark) in self.slowest.0.iter_mut().enumerate() {
            *mark = Watermark::saved(states, &format!("input_{number}"));
        }
        Ok(())
    }
}

/// The elements of one epoch, with the numbers of their inputs.
#[derive(Default)]
struct UnionEpoch {
    marks: BTreeMap<usize, Watermark>,
    /// All elements but watermarks; a single worker passes them on at once.
    elements: Vec<(usize, StreamElement)>,
}

impl UnionEpoch {
    fn add(&mut self, number: usize, element: StreamElement) {
        match element {
            StreamElement::Watermark(mark) => {
                self.marks.insert(number, mark);
            }
            other => self.elements.push((number, other)),
        }
    }
}

impl Marks {
    /// The output: the rows, input by input, and the watermark if an input had one.
    fn end_of_epoch(&mut self, held: UnionEpoch) -> Vec<StreamElement> {
        let mut elements = held.elements;
        elements.sort_by_key(|(number, _)| *number);
        let mut out: Vec<StreamElement> =
            elements.into_iter().map(|(_, element)| element).collect();
        if !held.marks.is_empty() {
            for (number, mark) in held.marks {
                self.slowest.0[number] = mark;
            }
            self.emitted = self.emitted.later(self.slowest.watermark());
            out.push(StreamElement::Watermark(self.emitted));
        }
        out
    }
}

/// Merges the inputs. They must be in the same scope, and at least one.
pub(super) fn union<'scope>(
    inputs: Vec<StreamElements<'scope>>,
) -> (StreamElements<'scope>, StageHandle) {
    let scope = inputs[0].scope();
    let several = scope.peers() > 1;
    let marks = Rc::new(RefCell::new(Marks {
        slowest: Slowest(vec![Watermark::START; inputs.len()]),
        emitted: Watermark::START,
    }));
    let handle = StageHandle::new(marks.clone());
    let numbered = inputs.into_iter().enumerate();
    let numbered = numbered.map(|(number, input)| {
        input.map(move |element| match element {
            StreamElement::Rows(rows, frontier) => {
                (number, StreamElement::Rows(rows, frontier.of_input(number)))
            }
            other => (number, other),
        })
    });
    let all = scope.concatenate(numbered.collect::<Vec<_>>());
    let united = all.unary_frontier(Pipeline, "union", move |_, _| {
        let mut epochs: BTreeMap<u64, (Capability<u64>, UnionEpoch)> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for (number, element) in batches.flat_map(|elements| elements.drain(..)) {
                    if !several && !matches!(element, StreamElement::Watermark(_)) {
                        session.give(element);
                        continue;
                    }
                    let epoch = epochs.entry(*time.time());
                    let (_, held) =
                        epoch.or_insert_with(|| (time.retain(0), UnionEpoch::default()));
                    held.add(number, element);
                }
            });
            while let Some(entry) = epochs.first_entry() {
                if frontier.less_equal(entry.key()) {
                    break;
                }
                let (capability, held) = entry.remove();
                let mut out = marks.borrow_mut().end_of_epoch(held);
                output.session(&capability).give_iterator(out.drain(..));
            }
        }
    });
    (united, handle)
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
