//! Runs a source once: polls it, and carries what it emitted to the lane.
//!
//! Both are one future in one task. Each poll runs the source until it waits, then sends what it emitted;
//! so a waiting source never holds rows back. While the lane is slow the source is still polled, so that
//! it can answer pings and fill the next batch, until there is no room.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::gather::{Gather, panic_message};
use crate::locked::locked;
use crate::status::{ItemCounts, StatusCell};
use crate::{End, Error, Lane, Output, OutputParts, Result, Source};

/// Runs `source` once and delivers everything that it emits, also when it then fails.
pub(crate) async fn drive(
    source: &mut dyn Source,
    parts: OutputParts,
    lane: &mut dyn Lane,
    status: &StatusCell,
    stop: CancellationToken,
) -> Result<End> {
    let mut output = Output::new(parts, status.clone(), stop.clone());
    let gather = output.gather();
    let run = AssertUnwindSafe(source.run(&mut output, stop)).catch_unwind();
    let run = async { run.await.unwrap_or_else(|panic| Err(panicked(&*panic))) };
    let send = deliver(&gather, lane, status);
    together(run, send, &gather).await
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    Error::Panicked {
        what: "source",
        message: panic_message(panic),
    }
}

/// Hands items to the lane until the source has ended and nothing is left.
async fn deliver(gather: &Mutex<Gather>, lane: &mut dyn Lane, status: &StatusCell) -> Result<()> {
    while let Some(item) = poll_fn(|_| locked(gather).poll_take()).await {
        let taken = ItemCounts::of(&item);
        lane.send(item).await?;
        status.count(taken);
    }
    Ok(())
}

/// Polls `run` to its end and `send` to its own; `send` is polled after each wait of `run`.
async fn together(
    run: impl Future<Output = Result<End>>,
    send: impl Future<Output = Result<()>>,
    gather: &Mutex<Gather>,
) -> Result<End> {
    let (mut run, mut send) = (pin!(run), pin!(send));
    let mut ended = None;
    poll_fn(|cx| {
        if ended.is_none()
            && let Poll::Ready(end) = run.as_mut().poll(cx)
        {
            ended = Some(end);
            locked(gather).end();
        }
        loop {
            match send.as_mut().poll(cx) {
                Poll::Pending if ended.is_some() => return Poll::Pending,
                Poll::Pending => {
                    let Some(failure) = locked(gather).take_failure() else {
                        return Poll::Pending;
                    };
                    // A source that waits might not notice it for long. What is queued is sent.
                    ended = Some(Err(failure));
                    locked(gather).end();
                }
                Poll::Ready(Err(closed)) => return Poll::Ready(Err(closed)),
                Poll::Ready(Ok(())) => {
                    let end = ended.take().unwrap_or(Ok(End::Stopped));
                    return Poll::Ready(locked(gather).take_failure().map_or(end, Err));
                }
            }
        }
    })
    .await
}
