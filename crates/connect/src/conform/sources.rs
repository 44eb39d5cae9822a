//! The checks for sources.

use std::ops::Range;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{SourceCase, within};
use crate::{Care, Cursor, Delivery, Item, SourceHandle, State, Status};

/// A number of rows that does not fit into one delivery.
const MANY: u64 = 20_000;
/// The number of pieces that are produced one by one, each with a cursor of its own.
const PIECES: u64 = 12;
/// The number of rows in a piece.
const PIECE: u64 = 25;
/// The largest number of cursors to resume from: the first, the last, and others at equal distances.
const RESUMED_MAX: usize = 40;

/// Runs the whole suite against a source.
///
/// # Panics
///
/// If the source fails a check; the message names the check.
pub async fn source(case: &dyn SourceCase) {
    starts_and_stops(case).await;
    stops_while_waiting(case).await;
    stops_while_its_reader_stalls(case).await;
    loses_nothing_to_a_slow_reader(case).await;
    is_restarted(case).await;
    resumes_from_any_cursor_after_a_crash(case).await;
    survives_a_cut_connection(case).await;
}

/// A running source and what it has emitted.
struct Bench<'a> {
    check: &'static str,
    case: &'a dyn SourceCase,
    handle: SourceHandle,
    items: mpsc::Receiver<Item>,
    /// Whether it continues from a cursor.
    incremental: bool,
    /// All numbers that came.
    seen: Vec<u64>,
    /// All cursors that came, each with how many of `seen` it covers.
    cursors: Vec<(usize, Cursor)>,
    gaps: usize,
}

impl<'a> Bench<'a> {
    async fn new(check: &'static str, case: &'a dyn SourceCase) -> Self {
        let blueprint = case.fresh().await;
        let source = blueprint.source(None);
        let source = source.unwrap_or_else(|error| panic!("{check}: cannot be made: {error}"));
        let incremental = source.supports_incremental();
        let valid = within("an answer of validate", source.validate()).await;
        valid.unwrap_or_else(|error| panic!("{check}: is not valid: {error}"));
        let handle = SourceHandle::new(blueprint, None, Care::default());
        let items = mpsc::channel(1).1;
        Self {
            check,
            case,
            handle,
            items,
            incremental,
            seen: Vec::new(),
            cursors: Vec::new(),
            gaps: 0,
        }
    }

    /// Starts the source and waits until it runs.
    async fn start(&mut self) {
        let (lane, items) = mpsc::channel(1);
        self.items = items;
        let started = self
            .handle
            .start(&CancellationToken::new(), Some(Box::new(lane)));
        started.unwrap_or_else(|error| panic!("{}: does not start: {error}", self.check));
        self.running().await;
    }

    /// Waits until the source runs, taking what comes.
    async fn running(&mut self) {
        let mut status = self.handle.watch();
        let check = self.check;
        let settled = |status: &Status| {
            matches!(
                status.state,
                State::Running | State::Degraded | State::Failed | State::Stopped
            )
        };
        let running = async {
            loop {
                tokio::select! {
                    found = status.wait_for(settled) => break found.map(|found| found.clone()),
                    Some(item) = self.items.recv() => self.see(item),
                }
            }
        };
        let status = within("the state running", running).await;
        let status = status.unwrap_or_else(|_| panic!("{check}: its status is gone"));
        let reason = status.reason.unwrap_or_default();
        assert!(status.state != State::Failed, "{check}: failed: {reason}");
    }

    fn see(&mut self, item: Item) {
        match item {
            Item::Rows(delivery) => self.see_rows(delivery),
            Item::Gap(_) => self.gaps += 1,
            Item::Lifecycle(_) => {}
        }
    }

    fn see_rows(&mut self, delivery: Delivery) {
        let bad: Vec<_> = delivery.bad.iter().map(|bad| bad.reason.as_str()).collect();
        assert!(
            bad.is_empty(),
            "{}: bad rows: {}",
            self.check,
            bad.join("; ")
        );
        self.seen.extend(self.case.numbers(&delivery.rows));
        let covered = self.seen.len();
        self.cursors
            .extend(delivery.cursor.map(|cursor| (covered, cursor)));
    }

    /// Waits until the row of this number has come.
    async fn until(&mut self, number: u64) {
        let what = format!("{}: row {number}", self.check);
        while !self.seen.contains(&number) {
            let item = within(&what, self.items.recv()).await;
            let status = self.handle.status();
            let reason = status.reason.unwrap_or_default();
            let item = item.unwrap_or_else(|| {
                panic!(
                    "{what} did not come: the source is {}: {reason}",
                    status.state
                )
            });
            self.see(item);
        }
    }

    /// Produces rows and waits until the last has come.
    async fn produce(&mut self, rows: Range<u64>) {
        let last = rows.end - 1;
        self.case.produce(rows).await;
        self.until(last).await;
    }

    /// Produces many rows at once, from `start` on. Returns the number of all rows.
    async fn produce_much(&mut self, start: u64) -> u64 {
        let end = start + MANY;
        tokio::join!(self.case.produce(start..end), self.until(end - 1));
        end
    }

    /// Starts it again with nothing left but this cursor.
    async fn start_from(&mut self, cursor: Cursor) {
        let blueprint = self.handle.blueprint();
        self.handle = SourceHandle::new(blueprint, Some(cursor), Care::default());
        self.start().await;
    }

    /// Ends it without a warning: items that were not taken are lost.
    fn crash(&mut self) {
        self.items = mpsc::channel(1).1;
        let blueprint = self.handle.blueprint();
        self.handle = SourceHandle::new(blueprint, None, Care::default());
    }

    /// Stops the source while taking what still comes.
    async fn stop(&mut self) {
        let items = &mut self.items;
        let drain = async {
            let mut rest = Vec::new();
            while let Some(item) = items.recv().await {
                rest.push(item);
            }
            rest
        };
        let (rest, ()) = tokio::join!(drain, self.handle.stop());
        rest.into_iter().for_each(|item| self.see(item));
        self.has_stopped();
    }

    fn has_stopped(&self) {
        let status = self.handle.status();
        let reason = status.reason.unwrap_or_default();
        let (check, state) = (self.check, status.state);
        assert!(state == State::Stopped, "{check}: is {state}");
        assert!(
            reason.is_empty(),
            "{check}: was not stopped in time: {reason}"
        );
    }

    /// All rows came, once and in order.
    fn all_came(&self) {
        let check = self.check;
        for (at, pair) in self.seen.windows(2).enumerate() {
            let (one, next) = (pair[0], pair[1]);
            assert!(
                one + 1 == next,
                "{check}: after row {one} came {next}, at {at}"
            );
        }
        let first = self.seen.first();
        assert!(
            first == Some(&0),
            "{check}: the first row is {first:?}, not 0"
        );
    }
}

async fn starts_and_stops(case: &dyn SourceCase) {
    let mut bench = Bench::new("starts and stops", case).await;
    bench.start().await;
    bench.produce(0..3).await;
    bench.stop().await;
    bench.handle.stop().await;
    bench.all_came();
}

async fn stops_while_waiting(case: &dyn SourceCase) {
    let mut bench = Bench::new("stops while waiting", case).await;
    bench.start().await;
    bench.stop().await;
}

async fn stops_while_its_reader_stalls(case: &dyn SourceCase) {
    let mut bench = Bench::new("stops while its reader stalls", case).await;
    bench.start().await;
    let stop = async {
        bench.until(0).await;
        // Nobody reads for a while: the source comes to wait for room.
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.stop().await;
    };
    tokio::join!(case.produce(0..MANY), stop);
}

async fn loses_nothing_to_a_slow_reader(case: &dyn SourceCase) {
    let mut bench = Bench::new("loses nothing to a slow reader", case).await;
    bench.start().await;
    let produced = case.produce(0..MANY);
    let read = async {
        for number in (0..MANY).step_by(1_000).chain([MANY - 1]) {
            bench.until(number).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(produced, read);
    bench.stop().await;
    bench.all_came();
}

async fn is_restarted(case: &dyn SourceCase) {
    let mut bench = Bench::new("is restarted", case).await;
    bench.start().await;
    bench.produce(0..3).await;
    bench.stop().await;
    bench.start().await;
    bench.produce(3..6).await;
    bench.stop().await;
    if bench.incremental {
        bench.all_came();
    }
}

/// Runs to several cursors, then from each of them, as if a crash had lost all after it. The rows before the
/// cursor and the rows that come from it are, together, an uninterrupted run.
async fn resumes_from_any_cursor_after_a_crash(case: &dyn SourceCase) {
    let mut bench = Bench::new("resumes from any cursor after a crash", case).await;
    if !bench.incremental {
        return;
    }
    bench.start().await;
    for piece in 0..PIECES {
        bench.produce(piece * PIECE..(piece + 1) * PIECE).await;
    }
    let end = bench.produce_much(PIECES * PIECE).await;
    bench.crash();
    bench.all_came();
    let (check, whole) = (bench.check, bench.seen.clone());
    let cursors = std::mem::take(&mut bench.cursors);
    let rows = whole.len();
    assert!(
        !cursors.is_empty(),
        "{check}: {rows} rows came, and no cursor"
    );
    let mut next = end;
    let step = cursors.len().div_ceil(RESUMED_MAX);
    let last = cursors.len() - 1;
    let chosen = cursors.iter().enumerate();
    let chosen = chosen.filter(|(at, _)| at % step == 0 || *at == last);
    for (_, (covered, cursor)) in chosen {
        bench.seen = whole[..*covered].to_vec();
        bench.start_from(cursor.clone()).await;
        case.produce(next..next + 3).await;
        next += 3;
        bench.until((*covered as u64).max(next - 1)).await;
        bench.crash();
        bench.all_came();
    }
}

async fn survives_a_cut_connection(case: &dyn SourceCase) {
    let mut bench = Bench::new("survives a cut connection", case).await;
    bench.start().await;
    bench.produce(0..3).await;
    let before = bench.handle.status().restarts;
    if !case.cut().await {
        return bench.stop().await;
    }
    let mut status = bench.handle.watch();
    let back = status.wait_for(|status| status.restarts > before && status.state == State::Running);
    let items = &mut bench.items;
    let mut meanwhile = Vec::new();
    let back = async {
        tokio::pin!(back);
        loop {
            tokio::select! {
                found = &mut back => break found.is_ok(),
                Some(item) = items.recv() => meanwhile.push(item),
            }
        }
    };
    assert!(
        within("the connection after a cut", back).await,
        "{}",
        bench.check
    );
    meanwhile.into_iter().for_each(|item| bench.see(item));
    bench.produce(3..6).await;
    bench.stop().await;
    if bench.incremental {
        bench.all_came();
    } else {
        assert!(
            bench.gaps > 0,
            "{}: it cannot replay, and reported no gap",
            bench.check
        );
    }
}

#[cfg(test)]
mod tests;
