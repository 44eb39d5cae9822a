//! Acknowledgement by message: no row is lost that the server's program has not processed, whatever its library has
//! answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::server::{Server, accept};
use super::{given, quick, with, within};
use crate::{Connectors, Guarantee, Sink};

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
}

fn numbers(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(ids.into_iter().collect::<Int64Array>());
    RecordBatch::try_new(columns(), vec![column]).expect("one column of numbers")
}

/// A sink as CREATE SINK makes it.
fn created(url: &str, more: Value) -> Result<Box<dyn Sink>, String> {
    let given = given(&with(quick(url), more));
    let spec = Connectors::builtin().sink("websocket", &given, columns(), &[]);
    let spec = spec.map_err(|rejection| rejection.to_string())?;
    assert_eq!(spec.guarantee(), Guarantee::AtLeastOnce);
    Ok(spec.sink().expect("fine options"))
}

fn acknowledged(url: &str) -> Box<dyn Sink> {
    created(url, json!({"ack.match": "id", "ack.timeout": "1 s"})).expect("fine options")
}

type ServerSocket = WebSocketStream<TcpStream>;

fn id_of(message: &Message) -> i64 {
    let row: Value = serde_json::from_str(message.to_text().expect("text")).expect("JSON");
    row["id"].as_i64().expect("an id")
}

async fn acknowledge(socket: &mut ServerSocket, id: &Value) {
    let ack = Message::text(json!({"ok": true, "id": id}).to_string());
    socket.send(ack).await.ok();
}

/// Writes rows until `until`, and waits until the sink holds none of them.
async fn write_all(sink: &mut dyn Sink, until: i64) {
    for at in (0..until).step_by(100) {
        let batch = numbers(at..(at + 100).min(until));
        within("room", sink.write(&batch)).await.expect("room");
    }
    settled(sink).await;
}

async fn settled(sink: &mut dyn Sink) {
    let settled = async {
        while sink.unsent() > 0 {
            sink.flush().await.expect("it goes on by itself");
            sink.progress().await;
        }
    };
    within("every acknowledgement", settled).await;
}

/// The library answers pings at once, the program reads late: what is between them is lost with each connection.
#[tokio::test]
async fn a_program_that_reads_late_misses_no_row_over_forced_drops() {
    const ROWS: i64 = 20_000;
    const DROPS: usize = 10;
    let (told, mut processed) = mpsc::unbounded_channel();
    let server = Server::start(move |number, stream| {
        let told = told.clone();
        async move {
            let (socket, ..) = accept(stream).await;
            let (mut writer, mut reader) = socket.split();
            // The library: it reads, and answers pings when it is read or written.
            let (queue, mut inbox) = mpsc::unbounded_channel();
            let library = async {
                while let Some(Ok(message)) = reader.next().await {
                    if message.is_text() {
                        queue.send(message).ok();
                    }
                }
            };
            // The program: before each drop it has processed a third of what the library has read.
            let program = async {
                let mut inbox_was = Vec::new();
                while inbox.recv_many(&mut inbox_was, 500).await > 0 {
                    let count = match number < DROPS {
                        true if inbox_was.len() < 300 => continue,
                        true => 100,
                        false => inbox_was.len(),
                    };
                    let ids: Vec<_> = inbox_was.drain(..count).map(|it| id_of(&it)).collect();
                    for id in &ids {
                        told.send(*id).ok();
                    }
                    let ack = json!({"id": ids.last()}).to_string();
                    writer.send(Message::text(ack)).await.ok();
                    if number < DROPS {
                        return;
                    }
                }
            };
            tokio::select! { () = library => {}, () = program => {} }
        }
    })
    .await;
    let mut sink = acknowledged(&server.url());
    sink.open(None).await.expect("a server");
    write_all(sink.as_mut(), ROWS).await;
    within("the close", sink.close())
        .await
        .expect("nothing is left");
    let mut seen = BTreeSet::new();
    let mut last = -1;
    while let Ok(id) = processed.try_recv() {
        assert!(id <= last + 1, "no hole: {id} after {last}");
        last = id;
        seen.insert(id);
    }
    let missing = ROWS as usize - seen.len();
    assert_eq!(missing, 0, "rows that the program never processed");
}

#[tokio::test]
async fn a_pong_confirms_nothing_and_a_deadline_ends_the_wait() {
    let (told, mut received) = mpsc::unbounded_channel();
    let server = Server::start(move |number, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            while let Some(Ok(message)) = socket.next().await {
                if !message.is_text() {
                    continue;
                }
                let id = id_of(&message);
                told.send((number, id)).ok();
                // The first connection acknowledges wrongly, in every way.
                let wrong = [
                    json!(id + 7),
                    json!(null),
                    json!(1.5),
                    json!([id]),
                    json!("x"),
                ];
                match number {
                    0 => {
                        for wrong in wrong {
                            acknowledge(&mut socket, &wrong).await;
                        }
                        socket.send(Message::text("not JSON")).await.ok();
                        socket.send(Message::binary(&b"\xff"[..])).await.ok();
                    }
                    _ => acknowledge(&mut socket, &json!(id.to_string())).await,
                }
            }
        }
    })
    .await;
    let mut sink = acknowledged(&server.url());
    let mut outage = sink.outage().expect("it connects by itself");
    sink.open(None).await.expect("a server");
    sink.write(&numbers([1, 2])).await.expect("room");
    within("the flush", sink.flush())
        .await
        .expect("it does not wait");
    let why = within("an outage", outage.wait_for(Option::is_some)).await;
    let why = why.expect("the sink lives").clone().unwrap_or_default();
    // Each row was followed by a number and a text that no row has.
    let expected = "no acknowledgement within 1s, but 4 that match no row";
    assert!(why.ends_with(expected), "{why}");
    settled(sink.as_mut()).await;
    let all: Vec<_> = std::iter::from_fn(|| received.try_recv().ok()).collect();
    assert_eq!(
        all,
        [(0, 1), (0, 2), (1, 1), (1, 2)],
        "sent again, in order"
    );
}

/// What a program acknowledges of an earlier connection, or twice, confirms no row that it was not sent.
#[tokio::test]
async fn an_acknowledgement_counts_for_rows_of_its_connection_only() {
    let (told, mut received) = mpsc::unbounded_channel();
    let server = Server::start(move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            acknowledge(&mut socket, &json!(2)).await;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() {
                    let id = id_of(&message);
                    told.send(id).ok();
                    acknowledge(&mut socket, &json!(id)).await;
                    acknowledge(&mut socket, &json!(id)).await;
                }
            }
        }
    })
    .await;
    let mut sink = acknowledged(&server.url());
    sink.open(None).await.expect("a server");
    sink.write(&numbers([1, 2, 3, 3])).await.expect("room");
    settled(sink.as_mut()).await;
    let all: Vec<_> = std::iter::from_fn(|| received.try_recv().ok()).collect();
    assert_eq!(all, [1, 2, 3, 3]);
}

#[tokio::test]
async fn a_row_that_cannot_be_acknowledged_is_an_error_of_that_row() {
    let mut sink = acknowledged("ws://127.0.0.1:9/");
    let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let rows = RecordBatch::try_new(columns(), vec![column]).expect("one column");
    let error = sink
        .write(&rows)
        .await
        .expect_err("NULL comes back from nobody");
    assert!(error.is_of_rows(), "{error}");
    let expected = "cannot write rows as json: column id is NULL, and ack.match needs a value";
    assert_eq!(error.to_string(), expected);
    assert_eq!(sink.unsent(), 0);
}

#[test]
fn options_that_cannot_work_are_refused_when_the_sink_is_created() {
    let refused = |more: Value| created("ws://h/", more).err().expect("it cannot work");
    for (more, part) in [
        (json!({"ack.match": "nr"}), "the columns are id"),
        (
            json!({"ack.match": "id", "format": "text"}),
            "format 'json', not 'text'",
        ),
        (json!({"ack.timeout": "1 s"}), "it needs ack.match"),
        (
            json!({"ack.match": "id", "ack.timeout": "0 s"}),
            "longer than 0",
        ),
    ] {
        let said = refused(more);
        assert!(said.contains(part), "{said}");
    }
}
