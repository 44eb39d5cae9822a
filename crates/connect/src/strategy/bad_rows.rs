//! What happens to undecodable frames, from the source to the lane.

use std::sync::Arc;

use serde_json::json;

use crate::scripted::{Scripted, care, next, rest, start};
use crate::{BadRows, Cursor, Error, SourceHandle, State, Tally};

/// Emits the words between commas as frames, a cursor after each blank, and then waits for ever.
fn source(frames: &'static str, bad_rows: BadRows) -> SourceHandle {
    let mut blueprint = Scripted::new(true, move |_, out, stop| {
        Box::pin(async move {
            for (at, words) in frames.split(' ').enumerate() {
                for word in words.split(',') {
                    out.frame(word.as_bytes()).await?;
                }
                out.cursor(Cursor(json!(at))).await?;
                tokio::task::yield_now().await;
            }
            stop.cancelled().await;
            Ok(crate::End::Stopped)
        })
    });
    blueprint.bad_rows = bad_rows;
    SourceHandle::new(Arc::new(blueprint), None, care())
}

#[tokio::test(start_paused = true)]
async fn dropped_rows_are_counted_and_the_cursor_goes_on() {
    let tally = Arc::new(Tally::default());
    let handle = source("a,bad b bad", BadRows::Drop(tally.clone()));
    let mut items = start(&handle);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(crate::scripted::show(&next(&mut items).await.unwrap()));
    }
    assert_eq!(seen, ["a @0", "b @1", "@2"]);
    assert_eq!(tally.counts(), [("it is bad".to_owned(), 2)]);
    handle.stop().await;
    assert_eq!(handle.status().state, State::Stopped);
}

/// The source itself waits for ever: the failure does not wait with it.
#[tokio::test(start_paused = true)]
async fn a_bad_row_ends_the_source_and_nothing_behind_it_is_covered() {
    let handle = source("a b,bad,c d", BadRows::Fail);
    let mut items = start(&handle);
    assert_eq!(rest(&mut items).await, ["a @0"]);
    let mut status = handle.watch();
    let status = status.wait_for(|status| !status.state.is_active()).await;
    let status = status.unwrap().clone();
    assert_eq!(status.state, State::Failed);
    assert_eq!(status.cursor, Some(Cursor(json!(0))));
    let Some(Error::BadRow { reason }) = status.error.as_deref() else {
        panic!("{:?}", status.error)
    };
    assert_eq!(reason, "it is bad");
}

#[tokio::test(start_paused = true)]
async fn kept_rows_are_handed_on() {
    let handle = source("a,bad", BadRows::Keep);
    let mut items = start(&handle);
    let item = next(&mut items).await.unwrap();
    assert_eq!(crate::scripted::show(&item), "a <bad> @0");
}
