//! A source and its lifecycle, without SQL. In Go the interface would be
//!
//! ```go
//! Start(ctx context.Context, output io.Writer) error
//! Stop() error
//! Status() SourceStatus
//! ```
//!
//! Here it is a [`SourceHandle`]: `start` takes a cancellation token and a lane for the rows, and returns
//! at once; `stop` may be called repeatedly; `status` returns the state and the error. The raw output
//! goes to a [`ByteRing`], which any number of readers can read.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use headwater::ByteRing;
use headwater::connect::options::{Given, Value};
use headwater::connect::{Care, Connectors, Item, SourceHandle, State};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[allow(dead_code)] // Also a module of the tests.
fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

/// Runs the example and prints into `out`.
pub fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    tokio::runtime::Runtime::new()?.block_on(lifecycle(out))
}

/// A command as a source, whose raw output goes to `ring`.
fn process(command: &[&str], ring: &ByteRing) -> Result<SourceHandle, Box<dyn Error>> {
    let words = command.iter().map(|word| Value::from(*word)).collect();
    let options = [Given::new("command", Value::List(words))];
    let spec = Connectors::builtin().source("process", &options, None, &[])?;
    let ring = ring.clone();
    let care = Care {
        tap: Some(Arc::new(move |line| {
            let mut ring = &ring;
            // A ring accepts all bytes until it is closed.
            let _ = ring.write_all(line).and_then(|()| ring.write_all(b"\n"));
        })),
        ..Care::default()
    };
    Ok(SourceHandle::new(Arc::new(spec), None, care))
}

async fn lifecycle(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let ring = ByteRing::new(64 << 10)?;
    let source = process(&["sh", "-c", "echo ready; echo steady; sleep 1000"], &ring)?;
    writeln!(out, "new: {}", source.status().state)?;

    let (lane, mut items) = mpsc::channel::<Item>(16);
    let stop = CancellationToken::new();
    source.start(&stop, Some(Box::new(lane)))?;
    let mut lines = 0;
    while lines < 2 {
        if let Some(Item::Rows(delivery)) = items.recv().await {
            lines += delivery.rows.num_rows();
        }
    }
    writeln!(out, "started: {}", source.status().state)?;
    let tail = String::from_utf8(ring.tail(7))?;
    writeln!(
        out,
        "the last 7 bytes: {tail:?} of {}",
        ring.total_written()
    )?;

    let (another, _items) = mpsc::channel::<Item>(1);
    let again = source.start(&stop, Some(Box::new(another)));
    writeln!(out, "started again: {}", result_text(again))?;

    source.stop().await;
    writeln!(out, "stopped: {}", source.status().state)?;
    source.stop().await;
    writeln!(out, "stopped again: {}", source.status().state)?;

    stop.cancel();
    let (lane, _items) = mpsc::channel::<Item>(1);
    let cancelled = source.start(&stop, Some(Box::new(lane)));
    writeln!(
        out,
        "started with a cancelled token: {}",
        result_text(cancelled)
    )?;
    let nowhere = source.start(&CancellationToken::new(), None);
    writeln!(out, "started without an output: {}", result_text(nowhere))?;

    let absent = process(&["no-such-program"], &ring)?;
    let (lane, _items) = mpsc::channel::<Item>(16);
    absent.start(&CancellationToken::new(), Some(Box::new(lane)))?;
    let mut status = absent.watch();
    let failed = status
        .wait_for(|status| status.state == State::Failed)
        .await?;
    let reason = failed.reason.clone().unwrap_or_default();
    writeln!(out, "an absent command: {}, {reason}", failed.state)?;
    Ok(())
}

fn result_text(result: Result<(), headwater::connect::Error>) -> String {
    result.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
}
