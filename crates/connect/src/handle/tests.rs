//! The scenarios of the source abstraction, each a test of its name, and what backs them.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::*;
use crate::scripted::{HOUR, Scripted, eventually, handle, next, rest, show, start};
use crate::{Lifecycle, Output, Retry};

/// Emits `hello` and then waits to be stopped.
fn patient() -> SourceHandle {
    handle(|_, out, stop| {
        Box::pin(async move {
            out.frame(b"hello").await?;
            stop.cancelled().await;
            Ok(End::Stopped)
        })
    })
}

/// Fails each time with an error that says `retry`.
fn failing(retry: Retry) -> SourceHandle {
    handle(move |_, _, _| {
        let refused = Error::Unreachable {
            target: "ws://nowhere".into(),
            reason: "connection refused".into(),
            retry,
        };
        Box::pin(async move { Err(refused) })
    })
}

fn broken_pipe() -> Error {
    Error::Io {
        what: "cannot read".into(),
        source: std::io::ErrorKind::BrokenPipe.into(),
    }
}

pub(super) async fn wait_for(handle: &SourceHandle, state: State) -> Status {
    let mut status = handle.watch();
    let found = status.wait_for(|status| status.state == state);
    let found = eventually(&format!("the state {state}"), found).await;
    found.unwrap().clone()
}

pub(super) async fn ended(handle: &SourceHandle) -> Status {
    let mut status = handle.watch();
    let ended = status.wait_for(|status| !status.state.is_active());
    eventually("the end", ended).await.unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn start_a_source_and_receive_data() {
    let source = patient();
    let mut items = start(&source);
    assert_eq!(show(&next(&mut items).await.unwrap()), "hello");
    let status = wait_for(&source, State::Running).await;
    assert_eq!((status.rows, status.restarts), (1, 0));
    assert!(status.last_row_us.is_some_and(|at| at >= 1_000));
}

#[tokio::test(start_paused = true)]
async fn stop_a_running_source() {
    let source = patient();
    let mut items = start(&source);
    next(&mut items).await.unwrap();
    source.stop().await;
    let status = source.status();
    assert_eq!(
        (status.state, status.end),
        (State::Stopped, Some(End::Stopped))
    );
    assert!(next(&mut items).await.is_none(), "the lane is dropped");
}

#[tokio::test(start_paused = true)]
async fn query_source_status() {
    let source = patient();
    assert_eq!(source.status().state, State::Initial);
    let mut items = start(&source);
    assert_eq!(source.status().state, State::Starting);
    next(&mut items).await.unwrap();
    let running = wait_for(&source, State::Running).await;
    source.stop().await;
    let stopped = source.status();
    assert_eq!(stopped.state, State::Stopped);
    assert!(stopped.since_us > running.since_us);
    assert!(stopped.reason.is_none() && stopped.error.is_none());
}

#[tokio::test(start_paused = true)]
async fn start_with_cancelled_context() {
    let source = patient();
    let stop = CancellationToken::new();
    stop.cancel();
    let (lane, _items) = mpsc::channel(1);
    let error = source.start(&stop, Some(Box::new(lane))).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert_eq!(source.status().state, State::Initial);
}

#[tokio::test(start_paused = true)]
async fn stop_an_already_stopped_source() {
    let source = patient();
    source.stop().await;
    assert_eq!(source.status().state, State::Initial);
    let mut items = start(&source);
    next(&mut items).await.unwrap();
    source.stop().await;
    source.stop().await;
    assert_eq!(source.status().state, State::Stopped);
}

#[tokio::test(start_paused = true)]
async fn context_cancellation_during_operation() {
    let source = patient();
    let stop = CancellationToken::new();
    let (lane, mut items) = mpsc::channel(1);
    source.start(&stop, Some(Box::new(lane))).unwrap();
    next(&mut items).await.unwrap();
    stop.cancel();
    let status = ended(&source).await;
    assert_eq!(
        (status.state, status.end),
        (State::Stopped, Some(End::Stopped))
    );
}

#[tokio::test(start_paused = true)]
async fn missing_output() {
    let error = patient()
        .start(&CancellationToken::new(), None)
        .unwrap_err();
    assert_eq!(error.to_string(), "the source has no output to write to");
}

#[tokio::test(start_paused = true)]
async fn source_already_running() {
    let source = patient();
    let mut items = start(&source);
    let (lane, _second) = mpsc::channel(1);
    let error = source
        .start(&CancellationToken::new(), Some(Box::new(lane)))
        .unwrap_err();
    assert_eq!(error.to_string(), "the source is already starting");
    assert_eq!(
        show(&next(&mut items).await.unwrap()),
        "hello",
        "the first start goes on"
    );
}

#[tokio::test(start_paused = true)]
async fn connection_failure_that_is_fatal_is_failed_with_its_cause() {
    let source = failing(Retry::Fatal);
    let _items = start(&source);
    let status = ended(&source).await;
    assert_eq!(status.state, State::Failed);
    assert_eq!(
        status.reason.as_deref(),
        Some("cannot reach ws://nowhere: connection refused")
    );
    assert!(matches!(*status.error.unwrap(), Error::Unreachable { .. }));
}

#[tokio::test(start_paused = true)]
async fn connection_failure_is_retried_and_reported_meanwhile() {
    let source = failing(Retry::Backoff);
    let _items = start(&source);
    let status = wait_for(&source, State::BackingOff).await;
    assert_eq!(
        status.reason.as_deref(),
        Some("cannot reach ws://nowhere: connection refused")
    );
    let mut watch = source.watch();
    let status = watch
        .wait_for(|status| status.restarts == 20)
        .await
        .unwrap()
        .clone();
    assert!(status.state.is_active());
}

#[tokio::test(start_paused = true)]
async fn stop_ends_a_long_backoff_at_once() {
    let source = failing(Retry::After(HOUR));
    let _items = start(&source);
    wait_for(&source, State::BackingOff).await;
    let before = Instant::now();
    source.stop().await;
    assert_eq!(source.status().state, State::Stopped);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_too_often_is_given_up() {
    let care = Care {
        backoff: Backoff {
            cap: Duration::from_millis(1),
            ..Backoff::default()
        },
        ..crate::scripted::care()
    };
    let mut source = failing(Retry::Backoff);
    source.care = care;
    let _items = start(&source);
    let status = ended(&source).await;
    assert_eq!((status.state, status.restarts), (State::Failed, 10));
    let reason = status.reason.unwrap();
    assert!(reason.starts_with("given up after 11 failures"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn what_was_emitted_before_a_failure_is_delivered_and_the_next_goes_on_from_the_cursor() {
    let source = handle(|cursor, out, _| {
        Box::pin(async move {
            let run = cursor.map_or(0, |Cursor(at)| at.as_i64().unwrap());
            out.frame(format!("run {run}").as_bytes()).await?;
            out.cursor(Cursor((run + 1).into())).await?;
            if run == 2 {
                return Ok(End::Finished);
            }
            Err(broken_pipe())
        })
    });
    let mut items = start(&source);
    assert_eq!(rest(&mut items).await, ["run 0 @1", "run 1 @2", "run 2 @3"]);
    let status = ended(&source).await;
    assert_eq!(
        (status.state, status.end),
        (State::Stopped, Some(End::Finished))
    );
    assert_eq!((status.restarts, status.gaps), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_go_back_leaves_a_gap_when_it_fails() {
    let runs = AtomicU32::new(0);
    let blueprint = Arc::new(Scripted::new(false, move |_, out, _| {
        failing_twice(runs.fetch_add(1, Relaxed), out)
    }));
    let source = SourceHandle::new(blueprint, None, crate::scripted::care());
    let mut items = start(&source);
    let all = rest(&mut items).await;
    assert_eq!(all, ["run 0", "gap: cannot read: broken pipe", "run 2"]);
    assert_eq!(source.status().gaps, 1, "run 1 had no connection to lose");
}

/// Run 0 fails after a row, run 1 at once, run 2 ends well.
fn failing_twice<'a>(run: u32, out: &'a mut Output) -> BoxFuture<'a, Result<End>> {
    Box::pin(async move {
        if run != 1 {
            out.frame(format!("run {run}").as_bytes()).await?;
        }
        if run == 2 {
            return Ok(End::Finished);
        }
        Err(broken_pipe())
    })
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_contained_and_the_source_made_again_from_its_cursor() {
    let source = handle(|cursor, out, _| {
        Box::pin(async move {
            if let Some(Cursor(at)) = cursor {
                out.frame(format!("from {at}").as_bytes()).await?;
                return Ok(End::Finished);
            }
            out.frame(b"first").await?;
            out.cursor(Cursor(7.into())).await?;
            panic!("out of cheese");
        })
    });
    let mut items = start(&source);
    assert_eq!(show(&next(&mut items).await.unwrap()), "first @7");
    let status = wait_for(&source, State::BackingOff).await;
    assert_eq!(
        status.reason.as_deref(),
        Some("the source panicked: out of cheese")
    );
    assert_eq!(rest(&mut items).await, ["from 7"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_decoder_makes_bad_rows_and_a_restart() {
    let source = handle(|cursor, out, stop| {
        Box::pin(async move {
            if cursor.is_some() {
                return Ok(End::Finished);
            }
            out.frame(b"panic").await?;
            out.cursor(Cursor(1.into())).await?;
            // The driver decodes while this waits.
            let moment = tokio::time::sleep(Duration::from_millis(1));
            tokio::select! { () = moment => {}, () = stop.cancelled() => {} }
            out.ready().await?;
            out.rows(arrow::array::RecordBatch::new_empty(Arc::new(
                arrow::datatypes::Schema::empty(),
            )))
            .await?;
            Ok(End::Finished)
        })
    });
    let mut items = start(&source);
    assert_eq!(rest(&mut items).await, ["<panic> @1"]);
    assert_eq!(source.status().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_stop_is_dropped_at_the_deadline() {
    let source = handle(|_, _, _| Box::pin(std::future::pending()));
    let mut items = start(&source);
    let before = Instant::now();
    source.stop().await;
    assert_eq!(before.elapsed(), Duration::from_secs(5));
    let status = source.status();
    assert_eq!(status.state, State::Stopped);
    assert_eq!(
        status.reason.as_deref(),
        Some("did not stop within 5 s and was dropped")
    );
    assert!(next(&mut items).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_stalls_does_not_keep_a_source_from_stopping() {
    let closed = Arc::new(AtomicU32::new(0));
    let seen = closed.clone();
    let source = handle(move |_, out, stop| {
        let closed = closed.clone();
        Box::pin(async move {
            while !stop.is_cancelled() {
                out.lifecycle(Lifecycle::Changed {
                    what: "again".into(),
                })
                .await?;
            }
            closed.store(1, Relaxed);
            Ok(End::Stopped)
        })
    });
    let _items = start(&source);
    source.stop().await;
    assert_eq!(source.status().state, State::Stopped);
    assert_eq!(seen.load(Relaxed), 1, "it could close what it had open");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ignores_stop_is_cut_off() {
    let source = handle(|_, out, _| {
        Box::pin(async move {
            loop {
                out.lifecycle(Lifecycle::Changed {
                    what: "again".into(),
                })
                .await?;
            }
        })
    });
    let mut items = start(&source);
    next(&mut items).await.unwrap();
    let before = Instant::now();
    let (more, ()) = tokio::join!(rest(&mut items), source.stop());
    assert!(more.len() < 30, "{} items", more.len());
    assert_eq!(source.status().state, State::Stopped);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_source_starts_again_from_its_cursor() {
    let source = handle(|cursor, out, stop| {
        Box::pin(async move {
            let from = cursor.map_or(0, |Cursor(at)| at.as_i64().unwrap());
            out.frame(format!("row {from}").as_bytes()).await?;
            out.cursor(Cursor((from + 1).into())).await?;
            stop.cancelled().await;
            Ok(End::Stopped)
        })
    });
    for expected in ["row 0 @1", "row 1 @2"] {
        let mut items = start(&source);
        assert_eq!(show(&next(&mut items).await.unwrap()), expected);
        wait_for(&source, State::Running).await;
        source.pause().await;
        assert_eq!(source.status().state, State::Paused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_forgets_its_cursor_begins_as_it_first_did() {
    let source = handle(|cursor, out, stop| {
        Box::pin(async move {
            let from = cursor.map_or(0, |Cursor(at)| at.as_i64().unwrap());
            out.frame(format!("row {from}").as_bytes()).await?;
            out.cursor(Cursor((from + 1).into())).await?;
            stop.cancelled().await;
            Ok(End::Stopped)
        })
    });
    for _ in 0..2 {
        let mut items = start(&source);
        assert_eq!(show(&next(&mut items).await.unwrap()), "row 0 @1");
        wait_for(&source, State::Running).await;
        source.forget_cursor();
        assert_eq!(source.status().state, State::Running, "not while it runs");
        assert!(source.status().cursor.is_some());
        source.pause().await;
        source.forget_cursor();
        assert_eq!(source.status().state, State::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_dropped_ends_the_source() {
    let source = patient();
    drop(start(&source));
    let status = ended(&source).await;
    assert_eq!(status.state, State::Stopped);
    assert_eq!(
        status.reason.as_deref(),
        Some("the receiver of this source's rows has gone")
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_stops_the_source() {
    let source = patient();
    let mut items = start(&source);
    next(&mut items).await.unwrap();
    drop(source);
    assert!(next(&mut items).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_reconnects_by_itself_shows_it() {
    let (go, gate) = mpsc::channel::<Lifecycle>(1);
    let gate = Arc::new(tokio::sync::Mutex::new(gate));
    let source = handle(move |_, out, _| {
        let gate = gate.clone();
        Box::pin(async move {
            while let Some(event) = gate.lock().await.recv().await {
                out.lifecycle(event).await?;
            }
            Ok(End::Finished)
        })
    });
    let mut items = start(&source);
    let connected = || Lifecycle::Connected { to: "there".into() };
    let lost = Lifecycle::Disconnected {
        reason: "it hung up".into(),
        retry_in: HOUR,
    };
    let mut states = Vec::new();
    for event in [connected(), lost, connected()] {
        go.send(event).await.unwrap();
        assert!(matches!(next(&mut items).await, Some(Item::Lifecycle(_))));
        let status = source.status();
        states.push((status.state, status.restarts, status.reason));
    }
    assert_eq!(states[0], (State::Running, 0, None));
    assert_eq!(states[1], (State::BackingOff, 0, Some("it hung up".into())));
    assert_eq!(states[2], (State::Running, 1, None));
}

#[tokio::test(start_paused = true)]
async fn a_degraded_source_says_why_until_it_is_whole() {
    let source = handle(|_, out, stop| {
        Box::pin(async move {
            out.degraded(Some("cannot read 1 of 2 files".into()));
            out.frame(b"a").await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            out.degraded(None);
            stop.cancelled().await;
            Ok(End::Stopped)
        })
    });
    let _items = start(&source);
    let status = wait_for(&source, State::Degraded).await;
    assert_eq!(status.reason.as_deref(), Some("cannot read 1 of 2 files"));
    wait_for(&source, State::Running).await;
}

#[tokio::test]
async fn a_source_that_blocks_its_thread_is_left_behind() {
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let mut source = handle(move |_, _, _| {
        let _ = blocked.lock().unwrap().recv();
        Box::pin(async { Ok(End::Finished) })
    });
    source.care.stop_deadline = Duration::from_millis(10);
    let source = Arc::new(source);
    let stopper = source.clone();
    // The source blocks the runtime of this test, so another one stops it.
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            let mut status = stopper.watch();
            status
                .wait_for(|status| status.state == State::Starting)
                .await
                .unwrap();
            stopper.stop().await;
            stopper.status()
        })
    });
    let _items = start(&source);
    tokio::task::spawn_blocking(move || {
        let status = other.join().unwrap();
        assert_eq!(status.state, State::Stopped);
        drop(unblock);
    })
    .await
    .unwrap();
    tokio::task::yield_now().await;
    assert_eq!(
        source.status().state,
        State::Stopped,
        "it has no say any more"
    );
    assert_eq!(source.status().end, None);
}
