//! The checks for sinks.

use super::{SinkCase, within};
use crate::{Guarantee, Receipt, Sink};

/// Runs the whole suite against a sink.
///
/// # Panics
///
/// If the sink fails a check; the message names the check.
pub async fn sink(case: &dyn SinkCase) {
    validating_writes_nothing(case).await;
    writes_everything_in_order(case).await;
    flushed_rows_are_written(case).await;
    closes_without_a_row(case).await;
    delivers_after_a_cut(case).await;
    goes_on_after_a_crash(case).await;
}

async fn open(check: &str, case: &dyn SinkCase) -> Box<dyn Sink> {
    let mut sink = case.fresh().await;
    let opened = within("an answer of open", sink.open(None)).await;
    opened.unwrap_or_else(|error| panic!("{check}: does not open: {error}"));
    sink
}

/// Waits until the external system has this many rows: it may be slower than the sink.
async fn received(check: &str, case: &dyn SinkCase, count: usize) -> Vec<u64> {
    let arrive = async {
        loop {
            let received = case.received().await;
            if received.len() >= count {
                return received;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within(&format!("{check}: {count} rows"), arrive).await
}

async fn validating_writes_nothing(case: &dyn SinkCase) {
    let check = "validating writes nothing";
    let sink = case.fresh().await;
    let valid = within("an answer of validate", sink.validate()).await;
    valid.unwrap_or_else(|error| panic!("{check}: {error}"));
    let received = case.received().await;
    assert!(
        received.is_empty(),
        "{check}: {} rows were written",
        received.len()
    );
}

async fn writes_everything_in_order(case: &dyn SinkCase) {
    let check = "writes everything in order";
    let mut sink = open(check, case).await;
    for batch in [0..1, 1..1, 1..9_000, 9_000..9_001] {
        let written = within("a write", sink.write(&case.rows(batch))).await;
        written.unwrap_or_else(|error| panic!("{check}: {error}"));
    }
    let closed = within("the close", sink.close()).await;
    closed.unwrap_or_else(|error| panic!("{check}: does not close: {error}"));
    let received = received(check, case, 9_001).await;
    assert!(
        received.into_iter().eq(0..9_001),
        "{check}: other rows were written"
    );
}

async fn flushed_rows_are_written(case: &dyn SinkCase) {
    let check = "flushed rows are written";
    let mut sink = open(check, case).await;
    for at in 0..3 {
        let written = sink.write(&case.rows(at..at + 1)).await;
        written.unwrap_or_else(|error| panic!("{check}: {error}"));
        let flushed = within("a flush", sink.flush()).await;
        flushed.unwrap_or_else(|error| panic!("{check}: does not flush: {error}"));
        let received = received(check, case, at as usize + 1).await;
        assert!(
            received.into_iter().eq(0..=at),
            "{check}: other rows were written"
        );
    }
    let closed = sink.close().await;
    closed.unwrap_or_else(|error| panic!("{check}: does not close: {error}"));
}

async fn closes_without_a_row(case: &dyn SinkCase) {
    let check = "closes without a row";
    let mut sink = open(check, case).await;
    let flushed = sink.flush().await;
    flushed.unwrap_or_else(|error| panic!("{check}: does not flush: {error}"));
    let closed = within("the close", sink.close()).await;
    closed.unwrap_or_else(|error| panic!("{check}: does not close: {error}"));
    assert!(
        case.received().await.is_empty(),
        "{check}: rows were written"
    );
}

/// A batch that could not be written is written again; a row may come twice, and none is lost.
async fn delivers_after_a_cut(case: &dyn SinkCase) {
    let check = "delivers after a cut";
    let mut sink = open(check, case).await;
    let written = sink.write(&case.rows(0..1)).await;
    written.unwrap_or_else(|error| panic!("{check}: {error}"));
    let flushed = sink.flush().await;
    flushed.unwrap_or_else(|error| panic!("{check}: does not flush: {error}"));
    received(check, case, 1).await;
    if case.cut().await {
        for at in 1..10 {
            let deliver = async {
                while sink.write(&case.rows(at..at + 1)).await.is_err()
                    || sink.flush().await.is_err()
                {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            within(&format!("{check}: row {at}"), deliver).await;
        }
        let everything = async {
            loop {
                let received = case.received().await;
                if (0..10).all(|number| received.contains(&number)) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        within(&format!("{check}: all rows"), everything).await;
    }
    // Closing may fail because the connection is cut.
    let _ = within("the close", sink.close()).await;
}

/// What an engine saves of a sink: its receipt, and the first row that it does not cover.
struct SavedSink {
    receipt: Option<Receipt>,
    next: u64,
}

impl SavedSink {
    fn of(sink: &dyn Sink, written: u64) -> Self {
        let next = written.saturating_sub(sink.unsent());
        let receipt = sink.receipt();
        Self { receipt, next }
    }
}

/// A sink that was dropped in the middle, opened again with what was saved earlier and given all rows from
/// there on: no row is missing, nor written twice if that is guaranteed.
async fn goes_on_after_a_crash(case: &dyn SinkCase) {
    const BATCH: u64 = 700;
    const BATCHES: u64 = 6;
    for (saved_after, crashed_after) in [(0, 0), (0, 3), (1, 4), (3, 3), (4, 6)] {
        let check =
            format!("goes on after a crash: saved at {saved_after}, lost at {crashed_after}");
        let mut sink = open(&check, case).await;
        let mut saved = SavedSink::of(sink.as_ref(), 0);
        for at in 0..crashed_after {
            write(&check, sink.as_mut(), case, at * BATCH..(at + 1) * BATCH).await;
            if at + 1 == saved_after {
                saved = SavedSink::of(sink.as_ref(), saved_after * BATCH);
                let synced = within("a sync", sink.sync()).await;
                synced.unwrap_or_else(|error| panic!("{check}: does not sync: {error}"));
            }
        }
        drop(sink);
        let mut sink = case.again().await;
        let opened = within("an answer of open", sink.open(saved.receipt)).await;
        opened.unwrap_or_else(|error| panic!("{check}: does not open: {error}"));
        write(&check, sink.as_mut(), case, saved.next..BATCH * BATCHES).await;
        let closed = within("the close", sink.close()).await;
        closed.unwrap_or_else(|error| panic!("{check}: does not close: {error}"));
        complete(&check, case, BATCH * BATCHES).await;
    }
}

async fn write(check: &str, sink: &mut dyn Sink, case: &dyn SinkCase, rows: std::ops::Range<u64>) {
    let written = within("a write", sink.write(&case.rows(rows))).await;
    written.unwrap_or_else(|error| panic!("{check}: {error}"));
}

/// Checks that the rows before `end` were written, as often as is guaranteed.
async fn complete(check: &str, case: &dyn SinkCase, end: u64) {
    match case.guarantee() {
        Guarantee::ExactlyOnce => {
            let received = received(check, case, end as usize).await;
            let exactly = received.iter().copied().eq(0..end);
            assert!(exactly, "{check}: {} rows were written", received.len());
        }
        Guarantee::AtLeastOnce => {
            let everything = async {
                loop {
                    let received = case.received().await;
                    let received: std::collections::HashSet<_> = received.into_iter().collect();
                    if (0..end).all(|number| received.contains(&number)) {
                        return;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            within(&format!("{check}: all rows"), everything).await;
        }
        Guarantee::AtMostOnce => {}
    }
}
