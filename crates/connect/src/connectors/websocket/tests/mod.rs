//! The websocket source and sink against a real server on loopback, well-behaved and not.
//!
//! [`Feed`] runs a source as the engine does, under its lifecycle and into a lane, and lets a test
//! wait for what comes out, item by item. Every wait has a deadline that only a broken connector
//! reaches; no test sleeps.

mod acks;
mod conform;
mod hostile;
mod messages;
mod options;
mod server;
mod sinks;
mod sources;
mod tls;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::options::WebsocketSinkOptions;
use super::sink::{WebsocketSink, WebsocketSinkSettings};
use crate::conform::within;
use crate::formats::{Encoder, Frames};
use crate::options::{Given, read};
use crate::{
    Bad, Blueprint, Care, Connectors, Gap, Item, Lifecycle, Result, Source, SourceHandle,
    SourceSpec, State, Status,
};

/// `base` and what `more` has besides.
fn with(base: Value, more: Value) -> Value {
    let (Value::Object(mut base), Value::Object(more)) = (base, more) else {
        panic!("options are objects");
    };
    base.extend(more);
    Value::Object(base)
}

/// Options that make a test quick.
fn quick(url: &str) -> Value {
    json!({"url": url, "reconnect.delay.ms": 1, "reconnect.max.delay.ms": 5})
}

/// The options as a `WITH` list.
fn given(options: &Value) -> Vec<Given<()>> {
    let of = |key: &str, value: &Value| match value {
        Value::String(text) => Given::new(key, text.as_str()),
        Value::Number(number) => Given::new(key, number.as_i64().expect("a whole number")),
        Value::Bool(truth) => Given::new(key, *truth),
        other => Given::new(key, other.to_string().as_str()),
    };
    let options = options.as_object().expect("options are an object");
    let pairs = options.iter().flat_map(|(key, value)| match value {
        Value::Object(map) => {
            let entry = |(entry, value)| of(&format!("{key}.{entry}"), value);
            map.iter().map(entry).collect()
        }
        value => vec![of(key, value)],
    });
    pairs.collect()
}

fn source(options: &Value) -> Box<dyn Source> {
    spec(options).source(None).expect("fine options")
}

fn settings(options: &Value) -> WebsocketSinkSettings {
    let options: WebsocketSinkOptions = read("websocket", &given(options)).expect("fine options");
    options.settings(false).expect("fine options")
}

fn sink(options: &Value) -> WebsocketSink {
    WebsocketSink::new(settings(options), Box::new(Text))
}

/// One column of text; a frame is a row.
struct Text;

fn text_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, false)]))
}

fn rows(lines: &[&str]) -> RecordBatch {
    let column = StringArray::from(lines.to_vec());
    RecordBatch::try_new(text_schema(), vec![Arc::new(column)]).expect("one column of text")
}

impl Encoder for Text {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Frames) -> Result<()> {
        let lines = rows.column(0).as_string::<i32>();
        lines
            .iter()
            .flatten()
            .for_each(|line| out.push(line.as_bytes()));
        Ok(())
    }
}

/// A source as the registry makes it, each frame a row of text.
fn spec(options: &Value) -> Arc<SourceSpec> {
    let given = given(&with(options.clone(), json!({"format": "text"})));
    let spec = Connectors::builtin().source("websocket", &given, Some(text_schema()), &[]);
    Arc::new(spec.unwrap_or_else(|rejection| panic!("{rejection}")))
}

/// A running source and what came out of it.
struct Feed {
    handle: SourceHandle,
    items: mpsc::Receiver<Item>,
    seen: VecDeque<Seen>,
}

/// What a source told, one thing at a time.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Line(String),
    Bad(Bad),
    Gap(Gap),
    Connected,
    Disconnected(String),
}

impl Feed {
    fn start(options: Value) -> Self {
        Self::of(spec(&options))
    }

    fn of(plan: Arc<dyn Blueprint>) -> Self {
        let (sender, items) = mpsc::channel(4);
        let handle = SourceHandle::new(plan, None, Care::default());
        handle
            .start(&CancellationToken::new(), Some(Box::new(sender)))
            .expect("a fresh source");
        Self {
            handle,
            items,
            seen: VecDeque::new(),
        }
    }

    /// The next thing that it told; `None` when it has ended.
    async fn next(&mut self) -> Option<Seen> {
        while self.seen.is_empty() {
            let item = within("an item", self.items.recv()).await?;
            self.take(item);
        }
        self.seen.pop_front()
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Rows(delivery) => {
                self.seen.extend(delivery.bad.into_iter().map(Seen::Bad));
                let lines = delivery.rows.column(0).as_string::<i32>().clone();
                let line = |line: &str| Seen::Line(line.to_owned());
                self.seen.extend(lines.iter().flatten().map(line));
            }
            Item::Gap(gap) => self.seen.push_back(Seen::Gap(gap)),
            Item::Lifecycle(Lifecycle::Connected { .. }) => self.seen.push_back(Seen::Connected),
            Item::Lifecycle(Lifecycle::Disconnected { reason, .. }) => {
                self.seen.push_back(Seen::Disconnected(reason));
            }
            Item::Lifecycle(other) => panic!("not of a websocket: {other:?}"),
        }
    }

    async fn expect(&mut self, expected: &[Seen]) {
        for expected in expected {
            assert_eq!(self.next().await.as_ref(), Some(expected));
        }
    }

    async fn line(&mut self, expected: &str) {
        self.expect(&[Seen::Line(expected.to_owned())]).await;
    }

    async fn disconnected(&mut self) -> String {
        match self.next().await {
            Some(Seen::Disconnected(reason)) => reason,
            other => panic!("not a disconnect: {other:?}"),
        }
    }

    async fn gap(&mut self) -> Gap {
        match self.next().await {
            Some(Seen::Gap(gap)) => gap,
            other => panic!("not a gap: {other:?}"),
        }
    }

    /// Waits for the end, and tells how it is. What was told until then can still be read.
    async fn ended(&mut self) -> Status {
        while let Some(item) = within("an item", self.items.recv()).await {
            self.take(item);
        }
        let mut status = self.handle.watch();
        let ended = status.wait_for(|status| !status.state.is_active());
        within("the end", ended)
            .await
            .expect("the handle lives")
            .clone()
    }

    /// Waits for a failure, and tells its reason.
    async fn failed(&mut self) -> String {
        let status = self.ended().await;
        assert_eq!(status.state, State::Failed);
        status.reason.expect("a failure has a reason").to_string()
    }
}
