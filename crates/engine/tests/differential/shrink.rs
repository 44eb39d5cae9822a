//! Makes a failing case smaller while it still fails.

use crate::case::{Case, Event};
use crate::postgres::second::Second;
use crate::run::{Wrong, run};

/// How many smaller cases are tried.
const TRIES: usize = 400;

/// A smaller case in which the same query is wrong, and how.
pub fn shrink(case: Case, wrong: Wrong, second: &Second) -> (Case, Wrong) {
    let mut best = (case, wrong);
    let mut tries = 0;
    let needed = needed(&best.0, &best.1.query);
    let mut fewer = best.0.clone();
    fewer.queries.retain(|query| needed.contains(&query.name));
    attempt(&mut best, fewer, &mut tries, second);
    let mut chunk = best.0.events.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        while from < best.0.events.len() {
            let mut smaller = best.0.clone();
            smaller
                .events
                .drain(from..(from + chunk).min(smaller.events.len()));
            if !attempt(&mut best, smaller, &mut tries, second) {
                from += chunk;
            }
        }
        if chunk == 1 {
            break;
        }
        chunk = chunk.div_ceil(2);
    }
    while shorten(&mut best, &mut tries, second) {}
    best
}

/// Halves batches, or takes away a row at either end.
fn shorten(best: &mut (Case, Wrong), tries: &mut usize, second: &Second) -> bool {
    for at in 0..best.0.events.len() {
        let Event::Push { source, rows } = best.0.events[at].clone() else {
            continue;
        };
        let count = rows.num_rows();
        if count == 0 {
            continue;
        }
        let half = count / 2;
        let parts = [
            (0, half),
            (half, count - half),
            (1, count - 1),
            (0, count - 1),
        ];
        for (from, length) in parts {
            let mut smaller = best.0.clone();
            smaller.events[at] = Event::Push {
                source,
                rows: rows.slice(from, length),
            };
            if length < count && attempt(best, smaller, tries, second) {
                return true;
            }
        }
    }
    false
}

fn attempt(best: &mut (Case, Wrong), smaller: Case, tries: &mut usize, second: &Second) -> bool {
    *tries += 1;
    if *tries > TRIES {
        return false;
    }
    match run(&smaller, second) {
        Err(wrong) if wrong.query == best.1.query => {
            *best = (smaller, wrong);
            true
        }
        _ => false,
    }
}

/// The query and all that it reads.
fn needed(case: &Case, query: &str) -> Vec<String> {
    let mut needed = vec![query.to_owned()];
    for query in case.queries.iter().rev() {
        if needed.contains(&query.name) {
            needed.extend(query.reads.iter().cloned());
        }
    }
    needed
}
