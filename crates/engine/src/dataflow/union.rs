//! UNION ALL: the rows of all inputs, at the watermark of the slowest.

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::generic::operator::Operator;

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

/// Merges the inputs. They must be in the same scope, and at least one.
pub(super) fn union<'scope>(inputs: Vec<Chunks<'scope>>) -> Chunks<'scope> {
    let scope = inputs[0].scope();
    let slowest = std::rc::Rc::new(std::cell::RefCell::new(Slowest(vec![
        Watermark::START;
        inputs.len()
    ])));
    let marked: Vec<_> = inputs
        .into_iter()
        .enumerate()
        .map(|(number, input)| {
            let slowest = std::rc::Rc::clone(&slowest);
            mark(input, move |watermark| {
                let mut slowest = slowest.borrow_mut();
                slowest.0[number] = watermark;
                slowest.watermark()
            })
        })
        .collect();
    scope.concatenate(marked)
}

/// Replaces each watermark of `input` by what `combine` makes of it.
fn mark<'scope>(
    input: Chunks<'scope>,
    mut combine: impl FnMut(Watermark) -> Watermark + 'static,
) -> Chunks<'scope> {
    input.unary(Pipeline, "union", move |_, _| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for chunks in batches {
                    for chunk in chunks.drain(..) {
                        session.give(match chunk {
                            Chunk::Watermark(watermark) => Chunk::Watermark(combine(watermark)),
                            other => other,
                        });
                    }
                }
            });
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
