//! Test support: a source whose `run` is a closure, and the pieces around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::formats::{Decoded, Decoder, Frames};
use crate::options::{Given, Value};
use crate::{
    Bad, BadRows, Blueprint, Care, Clock, Connectors, Cursor, Delivery, End, Item, Output, Result,
    Source, SourceHandle, SourceSpec,
};

pub(crate) type SourceScript = dyn for<'a> Fn(Option<Cursor>, &'a mut Output, CancellationToken) -> BoxFuture<'a, Result<End>>
    + Send
    + Sync;

#[derive(Clone)]
pub(crate) struct Scripted {
    incremental: bool,
    pub(crate) bad_rows: BadRows,
    script: Arc<SourceScript>,
}

struct ScriptedSource {
    script: Arc<SourceScript>,
    cursor: Option<Cursor>,
    incremental: bool,
}

#[async_trait]
impl Source for ScriptedSource {
    async fn validate(&self) -> Result<()> {
        Ok(())
    }

    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> Result<End> {
        (self.script)(self.cursor.clone(), out, stop).await
    }

    fn supports_incremental(&self) -> bool {
        self.incremental
    }
}

impl Blueprint for Scripted {
    fn source(&self, cursor: Option<Cursor>) -> Result<Box<dyn Source>> {
        Ok(Box::new(ScriptedSource {
            script: self.script.clone(),
            cursor,
            incremental: self.incremental,
        }))
    }

    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>> {
        Ok(Some(Box::new(LineDecoder(self.schema()))))
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, false)]))
    }

    fn max_frame(&self) -> usize {
        100
    }

    fn bad_rows(&self) -> BadRows {
        self.bad_rows.clone()
    }
}

/// One column of text; `bad` is a bad frame, `panic` makes it panic.
struct LineDecoder(SchemaRef);

impl Decoder for LineDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn decode(&mut self, frames: &Frames) -> Decoded {
        assert!(
            !frames.iter().any(|frame| frame == b"panic"),
            "no panic please"
        );
        let is_bad = |frame: &&[u8]| *frame == b"bad";
        let good = frames.iter().filter(|frame| !is_bad(frame));
        let column: StringArray = good.map(|frame| std::str::from_utf8(frame).ok()).collect();
        let bad = |frame: &[u8]| Bad {
            bytes: frame.to_vec(),
            reason: "it is bad".into(),
        };
        Decoded {
            rows: RecordBatch::try_new(self.0.clone(), vec![Arc::new(column)]).unwrap(),
            bad: frames.iter().filter(is_bad).map(bad).collect(),
        }
    }
}

/// A clock that advances by a microsecond with each call.
pub(crate) struct Steps(AtomicI64);

impl Clock for Steps {
    fn now_us(&self) -> i64 {
        self.0.fetch_add(1, Relaxed)
    }
}

pub(crate) fn care() -> Care {
    Care {
        seed: 1,
        clock: Arc::new(Steps(AtomicI64::new(1_000))),
        ..Care::default()
    }
}

impl Scripted {
    pub fn new<F>(incremental: bool, script: F) -> Self
    where
        F: for<'a> Fn(
                Option<Cursor>,
                &'a mut Output,
                CancellationToken,
            ) -> BoxFuture<'a, Result<End>>
            + Send
            + Sync
            + 'static,
    {
        Self {
            incremental,
            bad_rows: BadRows::Keep,
            script: Arc::new(script),
        }
    }
}

pub(crate) fn handle<F>(script: F) -> SourceHandle
where
    F: for<'a> Fn(Option<Cursor>, &'a mut Output, CancellationToken) -> BoxFuture<'a, Result<End>>
        + Send
        + Sync
        + 'static,
{
    SourceHandle::new(Arc::new(Scripted::new(true, script)), None, care())
}

/// A source of a built-in connector, or all problems with its options.
pub(crate) fn source_spec(
    connector: &str,
    options: &[(&str, Value)],
    columns: Option<SchemaRef>,
) -> Result<SourceSpec, String> {
    let spec = Connectors::builtin().source(connector, &given(options), columns, &[]);
    spec.map_err(|rejection| rejection.to_string())
}

/// A sink of a built-in connector, with valid options.
#[cfg(feature = "file")]
pub(crate) fn sink_spec(
    connector: &str,
    options: &[(&str, Value)],
    columns: Vec<Field>,
) -> crate::SinkSpec {
    let columns = Arc::new(Schema::new(columns));
    let spec = Connectors::builtin().sink(connector, &given(options), columns, &[]);
    spec.unwrap_or_else(|rejection| panic!("{rejection}"))
}

fn given(options: &[(&str, Value)]) -> Vec<Given<()>> {
    let given = |(key, value): &(&str, Value)| Given::new(key, value.clone());
    options.iter().map(given).collect()
}

/// Starts `handle` with a lane that holds one item.
pub(crate) fn start(handle: &SourceHandle) -> mpsc::Receiver<Item> {
    let (lane, items) = mpsc::channel(1);
    handle
        .start(&CancellationToken::new(), Some(Box::new(lane)))
        .unwrap();
    items
}

/// The lines of a delivery, a bad one in brackets.
pub(crate) fn lines(delivery: &Delivery) -> Vec<String> {
    use arrow::array::AsArray;
    let rows = delivery.rows.column(0).as_string::<i32>().iter().flatten();
    let bad = delivery
        .bad
        .iter()
        .map(|bad| format!("<{}>", String::from_utf8_lossy(&bad.bytes)));
    rows.map(str::to_owned).chain(bad).collect()
}

/// An item as text: lines separated by blanks, the cursor after `@`, other items in words.
pub(crate) fn show(item: &Item) -> String {
    match item {
        Item::Rows(delivery) => {
            let cursor = delivery.cursor.as_ref().map(|Cursor(at)| format!("@{at}"));
            let origin = delivery
                .origin
                .as_ref()
                .map(|origin| format!("from {origin}"));
            lines(delivery)
                .into_iter()
                .chain(origin)
                .chain(cursor)
                .collect::<Vec<_>>()
                .join(" ")
        }
        Item::Gap(gap) => format!("gap: {}", gap.reason),
        Item::Lifecycle(event) => format!("{event:?}"),
    }
}

/// Stops the source while its lane is being read; returns what still came.
#[cfg(any(feature = "file", feature = "process"))]
pub(crate) async fn stop(handle: &SourceHandle, items: &mut mpsc::Receiver<Item>) -> Vec<Item> {
    let drain = async {
        let mut rest = Vec::new();
        while let Some(item) = items.recv().await {
            rest.push(item);
        }
        rest
    };
    let stopped = async { tokio::join!(handle.stop(), drain).1 };
    crate::conform::within("the end of the source", stopped).await
}

/// Everything until the lane is dropped.
pub(crate) async fn rest(items: &mut mpsc::Receiver<Item>) -> Vec<String> {
    let mut shown = Vec::new();
    while let Some(item) = next(items).await {
        shown.push(show(&item));
    }
    shown
}

/// The next item; `None` when the lane is dropped.
pub(crate) async fn next(items: &mut mpsc::Receiver<Item>) -> Option<Item> {
    eventually("the next item", items.recv()).await
}

/// Waits for `future` on the paused clock, which jumps to the deadline when nothing else can happen.
pub(crate) async fn eventually<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(10_000 * HOUR, future).await {
        Ok(found) => found,
        Err(_) => panic!("{what} never came"),
    }
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
