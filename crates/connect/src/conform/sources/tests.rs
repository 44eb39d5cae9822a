//! The suite passes a good source and finds each flaw of a bad one.

use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, RecordBatch};
use async_trait::async_trait;
use tokio::sync::watch;

use super::*;
use crate::scripted::Scripted;
use crate::{Blueprint, End, Error, Gap, Lifecycle, Output, Result};

/// What is wrong with the source.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    IgnoresStop,
    ForgetsItsCursor,
    CursorIsAhead,
    SomeCursorsAreAhead,
    NoCursors,
    SwapsRows,
    DropsWhatIsTooMuch,
    NotBackAfterCut,
    SilentAboutTheCut,
}

/// An external system whose rows all stay readable, or only those still to come.
struct ExternalSystem {
    produced: watch::Sender<u64>,
    cut: watch::Sender<u32>,
}

struct Case {
    flaw: Flaw,
    replays: bool,
    system: Mutex<Arc<ExternalSystem>>,
}

impl Case {
    fn new(flaw: Flaw, replays: bool) -> Self {
        Self {
            flaw,
            replays,
            system: Mutex::new(Arc::new(ExternalSystem::new())),
        }
    }

    fn system(&self) -> Arc<ExternalSystem> {
        self.system.lock().unwrap().clone()
    }
}

impl ExternalSystem {
    fn new() -> Self {
        Self {
            produced: watch::Sender::new(0),
            cut: watch::Sender::new(0),
        }
    }

    async fn read(
        &self,
        flaw: Flaw,
        replays: bool,
        cursor: Option<Cursor>,
        out: &mut Output,
        stop: CancellationToken,
    ) -> Result<End> {
        out.lifecycle(Lifecycle::Connected {
            to: "memory".into(),
        })
        .await?;
        let (mut produced, mut cut) = (self.produced.subscribe(), self.cut.subscribe());
        let saved = cursor.and_then(|Cursor(at)| at.as_u64());
        let mut next = match (replays, flaw) {
            (false, _) => *produced.borrow(),
            (true, Flaw::ForgetsItsCursor) => 0,
            (true, _) => saved.unwrap_or(0),
        };
        loop {
            let end = *produced.borrow_and_update();
            if flaw == Flaw::DropsWhatIsTooMuch && end - next > 100 {
                next = end - 100;
            }
            while next < end {
                let swapped = flaw == Flaw::SwapsRows && next < 2;
                let number = if swapped { 1 - next } else { next };
                out.frame(number.to_string().as_bytes()).await?;
                next += 1;
                if replays && flaw != Flaw::NoCursors {
                    let ahead = match flaw {
                        Flaw::CursorIsAhead => 1,
                        Flaw::SomeCursorsAreAhead => u64::from(next % 3 == 1),
                        _ => 0,
                    };
                    out.cursor(Cursor((next + ahead).into())).await?;
                }
                if stop.is_cancelled() && flaw != Flaw::IgnoresStop {
                    return Ok(End::Stopped);
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled(), if flaw != Flaw::IgnoresStop => return Ok(End::Stopped),
                Ok(()) = produced.changed() => {}
                Ok(()) = cut.changed() => {
                    if flaw == Flaw::NotBackAfterCut {
                        return Ok(End::Finished);
                    }
                    if replays {
                        let source = std::io::ErrorKind::ConnectionReset.into();
                        return Err(Error::Io { what: "cannot read memory".into(), source });
                    }
                    let (reason, retry_in) = ("cut".to_owned(), Duration::ZERO);
                    out.lifecycle(Lifecycle::Disconnected { reason: reason.clone(), retry_in }).await?;
                    if flaw != Flaw::SilentAboutTheCut {
                        out.gap(Gap { reason, from: None, to: None }).await?;
                    }
                    out.lifecycle(Lifecycle::Connected { to: "memory".into() }).await?;
                }
            }
        }
    }
}

#[async_trait]
impl SourceCase for Case {
    async fn fresh(&self) -> Arc<dyn Blueprint> {
        let system = Arc::new(ExternalSystem::new());
        *self.system.lock().unwrap() = system.clone();
        let (flaw, replays) = (self.flaw, self.replays);
        Arc::new(Scripted::new(replays, move |cursor, out, stop| {
            let system = system.clone();
            Box::pin(async move { system.read(flaw, replays, cursor, out, stop).await })
        }))
    }

    async fn produce(&self, rows: Range<u64>) {
        self.system().produced.send_replace(rows.end);
    }

    fn numbers(&self, rows: &RecordBatch) -> Vec<u64> {
        let column = rows.column(0).as_string::<i32>();
        column
            .iter()
            .map(|text| text.unwrap().parse().unwrap())
            .collect()
    }

    async fn cut(&self) -> bool {
        self.system().cut.send_modify(|cuts| *cuts += 1);
        true
    }
}

#[tokio::test(start_paused = true)]
async fn good_sources_pass() {
    source(&Case::new(Flaw::None, true)).await;
    source(&Case::new(Flaw::None, false)).await;
}

macro_rules! finds {
    ($name:ident, $flaw:ident, replays: $replays:literal, $message:literal) => {
        #[tokio::test(start_paused = true)]
        #[should_panic(expected = $message)]
        async fn $name() {
            source(&Case::new(Flaw::$flaw, $replays)).await;
        }
    };
}

finds!(one_that_ignores_stop, IgnoresStop, replays: true, "starts and stops: was not stopped in time");
finds!(one_that_forgets_its_cursor, ForgetsItsCursor, replays: true, "is restarted: after row 2 came 0");
finds!(one_whose_cursor_is_ahead, CursorIsAhead, replays: true, "is restarted: after row 2 came 4");
finds!(one_with_a_single_wrong_cursor, SomeCursorsAreAhead, replays: true, "resumes from any cursor after a crash: after row 24 came 26");
finds!(one_without_cursors, NoCursors, replays: true, "is restarted: after row 2 came 0");
finds!(one_that_swaps_rows, SwapsRows, replays: true, "starts and stops: after row 1 came 0");
finds!(one_that_drops, DropsWhatIsTooMuch, replays: true, "stops while its reader stalls: row 0 did not come");
finds!(one_not_back_after_a_cut, NotBackAfterCut, replays: true, "the connection after a cut");
finds!(one_silent_about_a_cut, SilentAboutTheCut, replays: false, "reported no gap");
