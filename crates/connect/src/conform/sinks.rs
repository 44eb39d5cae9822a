//! The checks for sinks.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use super::{SinkCase, within};
use crate::{Guarantee, Receipt, Result, Sink};

/// The pause between two looks at the external system, and between two attempts to write.
const PAUSE: Duration = Duration::from_millis(10);

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
    continues_after_a_crash(case).await;
}

/// Waits for a call of the sink, which must succeed.
async fn succeeds(check: &str, call: &str, future: impl Future<Output = Result<()>>) {
    let done = within(&format!("{check}: the end of {call}"), future).await;
    done.unwrap_or_else(|error| panic!("{check}: {call} failed: {error}"));
}

async fn open(check: &str, case: &dyn SinkCase) -> Box<dyn Sink> {
    let mut sink = case.fresh().await;
    succeeds(check, "open", sink.open(None)).await;
    sink
}

async fn write(check: &str, sink: &mut dyn Sink, case: &dyn SinkCase, rows: Range<u64>) {
    succeeds(check, "write", sink.write(&case.rows(rows))).await;
}

/// Waits until enough rows were written: the external system may be slower than the sink.
async fn received(
    check: &str,
    case: &dyn SinkCase,
    enough: impl Fn(&HashSet<u64>) -> bool,
) -> Vec<u64> {
    let arrive = async {
        loop {
            let received = case.received().await;
            if enough(&received.iter().copied().collect()) {
                return received;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    within(&format!("{check}: all rows"), arrive).await
}

/// Checks that the rows before `end` were written in order, each once.
async fn received_exactly(check: &str, case: &dyn SinkCase, end: u64) {
    let received = received(check, case, |rows| rows.len() as u64 >= end).await;
    let count = received.len();
    assert!(
        received.into_iter().eq(0..end),
        "{check}: {count} rows were written, not each of {end} in order"
    );
}

async fn received_nothing(check: &str, case: &dyn SinkCase) {
    let count = case.received().await.len();
    assert!(count == 0, "{check}: {count} rows were written");
}

async fn validating_writes_nothing(case: &dyn SinkCase) {
    let check = "validating writes nothing";
    let sink = case.fresh().await;
    succeeds(check, "validate", sink.validate()).await;
    received_nothing(check, case).await;
}

async fn writes_everything_in_order(case: &dyn SinkCase) {
    let check = "writes everything in order";
    let mut sink = open(check, case).await;
    for batch in [0..1, 1..1, 1..9_000, 9_000..9_001] {
        write(check, sink.as_mut(), case, batch).await;
    }
    succeeds(check, "close", sink.close()).await;
    received_exactly(check, case, 9_001).await;
}

async fn flushed_rows_are_written(case: &dyn SinkCase) {
    let check = "flushed rows are written";
    let mut sink = open(check, case).await;
    for at in 0..3 {
        write(check, sink.as_mut(), case, at..at + 1).await;
        succeeds(check, "flush", sink.flush()).await;
        received_exactly(check, case, at + 1).await;
    }
    succeeds(check, "close", sink.close()).await;
}

async fn closes_without_a_row(case: &dyn SinkCase) {
    let check = "closes without a row";
    let mut sink = open(check, case).await;
    succeeds(check, "flush", sink.flush()).await;
    succeeds(check, "close", sink.close()).await;
    received_nothing(check, case).await;
}

/// A batch that could not be written is written again; a row may come twice, and none is lost.
async fn delivers_after_a_cut(case: &dyn SinkCase) {
    let check = "delivers after a cut";
    let mut sink = open(check, case).await;
    write(check, sink.as_mut(), case, 0..1).await;
    succeeds(check, "flush", sink.flush()).await;
    received_exactly(check, case, 1).await;
    if case.cut().await {
        for at in 1..10 {
            let deliver = async {
                while sink.write(&case.rows(at..at + 1)).await.is_err()
                    || sink.flush().await.is_err()
                {
                    tokio::time::sleep(PAUSE).await;
                }
            };
            within(&format!("{check}: row {at}"), deliver).await;
        }
        received(check, case, |rows| (0..10).all(|row| rows.contains(&row))).await;
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
async fn continues_after_a_crash(case: &dyn SinkCase) {
    const BATCH: u64 = 700;
    const BATCHES: u64 = 6;
    for (saved_after, crashed_after) in [(0, 0), (0, 3), (1, 4), (3, 3), (4, 6)] {
        let check =
            format!("continues after a crash: saved at {saved_after}, crashed at {crashed_after}");
        let mut sink = open(&check, case).await;
        let mut saved = SavedSink::of(sink.as_ref(), 0);
        for at in 0..crashed_after {
            write(&check, sink.as_mut(), case, at * BATCH..(at + 1) * BATCH).await;
            if at + 1 == saved_after {
                saved = SavedSink::of(sink.as_ref(), saved_after * BATCH);
                succeeds(&check, "sync", sink.sync()).await;
            }
        }
        drop(sink);
        let mut sink = case.again().await;
        succeeds(&check, "open", sink.open(saved.receipt)).await;
        write(&check, sink.as_mut(), case, saved.next..BATCH * BATCHES).await;
        succeeds(&check, "close", sink.close()).await;
        let end = BATCH * BATCHES;
        match case.guarantee() {
            Guarantee::ExactlyOnce => received_exactly(&check, case, end).await,
            Guarantee::AtLeastOnce => {
                received(&check, case, |rows| (0..end).all(|row| rows.contains(&row))).await;
            }
            Guarantee::AtMostOnce => {}
        }
    }
}
