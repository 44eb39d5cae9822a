//! How often the supervisor restarts a source, when it gives up, and the status meanwhile.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::tests::{ended, wait_for};
use super::*;
use crate::scripted::{HOUR, Scripted, care, next, rest, start};

/// Restarts without a noticeable wait.
fn quick() -> Backoff {
    Backoff {
        base: Duration::from_millis(1),
        cap: Duration::from_millis(1),
        ..Backoff::default()
    }
}

/// A source whose first runs fail, `panics` or not; the next waits to be stopped. Counts its runs.
fn fails(times: u32, panics: bool, backoff: Backoff) -> (SourceHandle, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let count = runs.clone();
    let script = Scripted::new(true, move |_, out, stop| {
        let run = count.fetch_add(1, Relaxed);
        Box::pin(async move {
            if run < times {
                assert!(!panics, "run {run}");
                let what = format!("cannot read {run}");
                let source = std::io::ErrorKind::BrokenPipe.into();
                return Err(Error::Io { what, source });
            }
            out.frame(b"fine").await?;
            stop.cancelled().await;
            Ok(End::Stopped)
        })
    });
    let care = Care { backoff, ..care() };
    (SourceHandle::new(Arc::new(script), None, care), runs)
}

#[tokio::test(start_paused = true)]
async fn ten_restarts_in_a_minute_are_allowed() {
    for panics in [false, true] {
        let (source, _) = fails(10, panics, quick());
        let _items = start(&source);
        let status = wait_for(&source, State::Running).await;
        assert_eq!(status.restarts, 10);
    }
}

#[tokio::test(start_paused = true)]
async fn the_eleventh_is_not_and_the_source_stays_failed() {
    for (panics, last) in [
        (false, "cannot read 10: broken pipe"),
        (true, "the source panicked: run 10"),
    ] {
        let (source, runs) = fails(u32::MAX, panics, quick());
        let mut items = start(&source);
        assert_eq!(rest(&mut items).await.len(), 0);
        let status = ended(&source).await;
        assert_eq!((status.state, status.restarts), (State::Failed, 10));
        let limit =
            "given up after 11 failures without a healthy period (at most 10 restarts in 60 s)";
        assert_eq!(status.reason.as_deref(), Some(&*format!("{limit}: {last}")));
        tokio::time::sleep(24 * HOUR).await;
        assert_eq!(
            (source.status().state, runs.load(Relaxed)),
            (State::Failed, 11)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn both_limits_can_be_set() {
    let backoff = Backoff {
        restarts_max: 3,
        window: HOUR,
        base: Duration::from_secs(600),
        cap: Duration::from_secs(600),
        jitter: 0.0,
        ..Backoff::default()
    };
    let (source, runs) = fails(u32::MAX, false, backoff.clone());
    let _items = start(&source);
    let reason = ended(&source).await.reason.unwrap();
    assert!(
        reason.contains("(at most 3 restarts in 3600 s)"),
        "{reason}"
    );
    assert_eq!(runs.load(Relaxed), 4);
    let never = Backoff {
        restarts_max: 0,
        ..backoff
    };
    let (source, runs) = fails(1, false, never);
    let _items = start(&source);
    assert_eq!(ended(&source).await.state, State::Failed);
    assert_eq!(runs.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_long_enough_is_never_given_up() {
    let backoff = Backoff {
        base: Duration::from_secs(6),
        factor: 1.0,
        jitter: 0.0,
        ..Backoff::default()
    };
    let (source, _) = fails(5_000, false, backoff);
    let _items = start(&source);
    assert_eq!(wait_for(&source, State::Running).await.restarts, 5_000);
}

#[tokio::test(start_paused = true)]
async fn a_start_by_hand_resets_the_limits() {
    let (source, runs) = fails(11 + 10, false, quick());
    let items = start(&source);
    assert_eq!(ended(&source).await.state, State::Failed);
    assert_eq!(runs.load(Relaxed), 11);
    drop(items);
    let _items = start(&source);
    let status = wait_for(&source, State::Running).await;
    assert_eq!((status.restarts, runs.load(Relaxed)), (20, 22));
    assert!(status.reason.is_none() && status.error.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_status_has_starts_and_the_last_failure() {
    let (source, _) = fails(2, false, quick());
    assert_eq!(
        (source.status().started_us, source.status().last_row_us),
        (None, None)
    );
    let mut items = start(&source);
    let first = source.status().started_us.unwrap();
    next(&mut items).await.unwrap();
    let status = wait_for(&source, State::Running).await;
    let failure = status.last_failure.unwrap();
    assert_eq!(&*failure.reason, "cannot read 1: broken pipe");
    let started = status.started_us.unwrap();
    assert!(
        first < failure.at_us && failure.at_us < started,
        "{first} {failure:?} {started}"
    );
    assert!(status.last_row_us.unwrap() >= started);
    assert_eq!(status.lag_bytes, None);
}
