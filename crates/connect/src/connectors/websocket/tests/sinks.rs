//! The sink: what reaches the server, and that nothing is lost or silent when the server goes away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::server::{
    Server, accept, accept_raw, answer, next_data, read_close, text, until_closed,
};
use super::{Feed, WebsocketSink, given, quick, rows, sink, text_schema, with, within};
use crate::{Connectors, Item, Retry, Sink};

/// A server that tells every data message and every Close, and breaks off at "bye".
async fn collector() -> (Server, mpsc::UnboundedReceiver<Message>) {
    let (told, messages) = mpsc::unbounded_channel();
    let server = Server::start(move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            while let Some(Ok(message)) = socket.next().await {
                if message == Message::text("bye") {
                    return;
                }
                if !message.is_ping() {
                    told.send(message).ok();
                }
            }
        }
    })
    .await;
    (server, messages)
}

/// A port on which nobody listens yet.
async fn nobody() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("ws://{}/", listener.local_addr().expect("bound"));
    (listener, url)
}

#[tokio::test]
async fn test_websocket_sink_publish() {
    let (server, mut messages) = collector().await;
    let mut sink = sink(&quick(&server.url()));
    sink.open(None).await.expect("a server");
    sink.write(&rows(&["a", "", "c"])).await.expect("room");
    within("the flush", sink.flush())
        .await
        .expect("a server that confirms");
    for expected in ["a", "", "c"] {
        let message = messages.try_recv().expect("confirmed means received");
        assert_eq!(message, Message::text(expected));
    }
    within("the close", sink.close())
        .await
        .expect("nothing left");
    let close = within("a Close", messages.recv()).await.expect("a Close");
    let Message::Close(Some(frame)) = close else {
        panic!("{close:?}")
    };
    assert_eq!(u16::from(frame.code), 1000);
}

#[tokio::test]
async fn headers_and_subprotocol_reach_the_server() {
    let (told, mut requests) = mpsc::unbounded_channel();
    let server = Server::start(move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, _, headers) = accept(stream).await;
            told.send(headers).ok();
            read_close(&mut socket).await;
        }
    })
    .await;
    let more = json!({"headers": {"Authorization": "Bearer abc"}, "subprotocol": "mqtt, amqp"});
    sink(&with(quick(&server.url()), more))
        .open(None)
        .await
        .expect("a server");
    let headers = within("a request", requests.recv())
        .await
        .expect("a request");
    assert_eq!(headers["authorization"], "Bearer abc");
    assert_eq!(headers["sec-websocket-protocol"], "mqtt, amqp");
}

#[tokio::test]
async fn binary_messages_are_binary() {
    let (server, mut messages) = collector().await;
    let mut sink = sink(&with(
        quick(&server.url()),
        json!({"message.type": "binary"}),
    ));
    sink.open(None).await.expect("a server");
    sink.write(&rows(&["a"])).await.expect("room");
    within("the flush", sink.flush())
        .await
        .expect("a server that confirms");
    assert_eq!(messages.try_recv(), Ok(Message::binary(&b"a"[..])));
}

#[tokio::test]
async fn what_a_broken_connection_did_not_confirm_is_sent_again() {
    const ROWS: usize = 2_000;
    let (told, mut received) = mpsc::unbounded_channel();
    let server = Server::start(move |number, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            // Each of the first connections takes a few hundred and then breaks off, with more
            // unread in its buffers.
            let most = if number < 5 { 300 } else { usize::MAX };
            for _ in 0..most {
                let Some(message) = next_data(&mut socket).await else {
                    return;
                };
                told.send((number, message.to_string())).ok();
            }
        }
    })
    .await;
    let mut sink = sink(&quick(&server.url()));
    sink.open(None).await.expect("a server");
    let lines: Vec<_> = (0..ROWS).map(|number| number.to_string()).collect();
    for part in lines.chunks(50) {
        let part: Vec<_> = part.iter().map(String::as_str).collect();
        within("room", sink.write(&rows(&part)))
            .await
            .expect("room");
    }
    within("the flush", sink.flush())
        .await
        .expect("a server that confirms in the end");
    let mut all = BTreeSet::new();
    let mut last = (0, 0);
    while let Ok((connection, line)) = received.try_recv() {
        let line: usize = line.parse().expect("a number");
        if connection == last.0 {
            assert!(
                all.is_empty() || line == last.1 + 1,
                "in order: {line} after {}",
                last.1
            );
        } else {
            assert!(line <= last.1 + 1, "no hole: {line} after {}", last.1);
        }
        last = (connection, line);
        all.insert(line);
    }
    assert_eq!(all.len(), ROWS);
    assert!(last.0 >= 5, "all breaks were met");
}

#[tokio::test]
async fn a_server_that_comes_late_gets_everything() {
    let (listener, url) = nobody().await;
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let mut sink = sink(&quick(&url));
    sink.open(None).await.expect("away is not fatal");
    sink.write(&rows(&["early"]))
        .await
        .expect("room in the queue");
    let (told, mut received) = mpsc::unbounded_channel();
    let listener = TcpListener::bind(address)
        .await
        .expect("the port is still free");
    let _server = Server::on(listener, move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            while let Some(message) = next_data(&mut socket).await {
                told.send(message).ok();
            }
        }
    });
    within("the flush", sink.flush())
        .await
        .expect("a server in the end");
    assert_eq!(received.try_recv(), Ok(Message::text("early")));
}

#[tokio::test]
async fn a_full_queue_blocks_or_drops_by_its_policy() {
    let full = |url: &str, overflow: &str| {
        let more = json!({
            "reconnect.delay.ms": 60_000, "reconnect.max.delay.ms": 60_000,
            "queue.rows": 2, "overflow": overflow,
        });
        sink(&with(quick(url), more))
    };
    let (listener, url) = nobody().await;
    drop(listener);
    let mut blocked = full(&url, "block");
    blocked.open(None).await.expect("away is not fatal");
    let rows = rows(&["1", "2", "3"]);
    let waited = timeout(Duration::from_millis(50), blocked.write(&rows)).await;
    waited.expect_err("there is room for two");

    for (overflow, kept) in [("drop_oldest", ["2", "3"]), ("reject", ["1", "2"])] {
        let mut sink = full(&url, overflow);
        sink.open(None).await.expect("away is not fatal");
        within("the write", sink.write(&rows))
            .await
            .expect("it never blocks");
        within("the flush", sink.flush())
            .await
            .expect("it never blocks while the server is away");
        assert_eq!(sink.dropped(), 1);
        let kept: Vec<_> = kept.map(Message::text).into();
        assert_eq!(sink.waiting(), kept, "{overflow}");
    }
}

// Nothing is listening, so no socket is hurried by the clock that runs ahead.
#[tokio::test(start_paused = true)]
async fn closing_while_the_server_is_away_tells_what_is_lost() {
    let (listener, url) = nobody().await;
    drop(listener);
    let mut sink = sink(&quick(&url));
    sink.open(None).await.expect("away is not fatal");
    sink.write(&rows(&["1", "2"])).await.expect("room");
    let error = within("the close", sink.close())
        .await
        .expect_err("two rows")
        .to_string();
    assert!(error.contains("2 messages not delivered"), "{error}");
}

#[tokio::test]
async fn a_fatal_answer_ends_the_sink_and_a_break_without_reconnect_too() {
    let server = Server::start(|_, stream| answer(stream, "HTTP/1.1 403 Forbidden\r\n\r\n")).await;
    let error = sink(&quick(&server.url()))
        .open(None)
        .await
        .expect_err("403");
    assert_eq!(error.retry(), Retry::Fatal);
    assert!(error.to_string().contains("HTTP 403"), "{error}");

    let server = Server::start(|_, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        next_data(&mut socket).await;
    })
    .await;
    let mut sink = sink(&with(quick(&server.url()), json!({"reconnect": false})));
    sink.open(None).await.expect("a server");
    sink.write(&rows(&["1"])).await.expect("room");
    within("the flush", sink.flush())
        .await
        .expect_err("it broke, and is not tried again by itself");
    assert_eq!(sink.unsent(), 1);
}

/// A port on which nobody listens, to listen there later.
async fn closed_port() -> (std::net::SocketAddr, String) {
    let (listener, url) = nobody().await;
    (listener.local_addr().expect("bound"), url)
}

/// A server there that tells every data message.
async fn listen(address: std::net::SocketAddr) -> (Server, mpsc::UnboundedReceiver<Message>) {
    let listener = TcpListener::bind(address)
        .await
        .expect("the port is still free");
    let (told, messages) = mpsc::unbounded_channel();
    let server = Server::on(listener, move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            while let Some(message) = next_data(&mut socket).await {
                told.send(message).ok();
            }
        }
    });
    (server, messages)
}

fn texts(messages: &mut mpsc::UnboundedReceiver<Message>) -> Vec<String> {
    std::iter::from_fn(|| messages.try_recv().ok())
        .map(|message| message.to_string())
        .collect()
}

#[tokio::test]
async fn a_sink_that_has_given_up_connects_again_when_it_is_asked_to() {
    let (address, url) = closed_port().await;
    let mut sink = sink(&with(quick(&url), json!({"reconnect.max.attempts": 1})));
    sink.open(None).await.expect("it may try once more");
    sink.write(&rows(&["1", "2"])).await.expect("room");
    for _ in 0..3 {
        let error = within("the flush", sink.flush())
            .await
            .expect_err("nobody is there");
        assert_eq!(error.retry(), Retry::Backoff, "{error}");
    }
    within("the write", sink.write(&rows(&["3"])))
        .await
        .expect_err("nobody is there");
    assert_eq!(sink.unsent(), 2, "what was refused is not in the queue");
    let (_server, mut messages) = listen(address).await;
    sink.write(&rows(&["3", "4"])).await.expect("a server");
    within("the flush", sink.flush()).await.expect("a server");
    assert_eq!(texts(&mut messages), ["1", "2", "3", "4"]);
    assert_eq!(sink.unsent(), 0);
}

#[tokio::test]
async fn what_is_taken_back_is_not_sent_later() {
    let (address, url) = closed_port().await;
    let mut sink = sink(&with(quick(&url), json!({"reconnect.max.attempts": 0})));
    sink.open(None)
        .await
        .expect("it is told with the first row");
    sink.write(&rows(&["1", "2"])).await.ok();
    within("the flush", sink.flush()).await.ok();
    let left = sink.unsent();
    let expected: Vec<u64> = (0..left).rev().collect();
    assert_eq!(sink.take_back(), Some(expected));
    let (_server, mut messages) = listen(address).await;
    sink.write(&rows(&["3"])).await.expect("a server");
    within("the flush", sink.flush()).await.expect("a server");
    assert_eq!(texts(&mut messages), ["3"]);
}

/// What a server that dies has not confirmed is there when somebody else decides.
#[tokio::test]
async fn a_server_that_dies_leaves_what_it_did_not_confirm() {
    let (server, mut messages) = collector().await;
    let mut settings = super::settings(&quick(&server.url()));
    settings.one_attempt = true;
    let mut sink = WebsocketSink::new(settings, Box::new(super::Text));
    sink.open(None).await.expect("a server");
    sink.write(&rows(&["1"])).await.expect("a server");
    within("the flush", sink.flush()).await.expect("a server");
    let mut outage = sink.outage().expect("it connects by itself");
    assert_eq!(*outage.borrow_and_update(), None);
    drop(server);
    // Nobody listens any more, and the connection that there is ends here.
    sink.write(&rows(&["bye", "2"])).await.expect("room");
    let error = within("the flush", sink.flush())
        .await
        .expect_err("the first attempt to reconnect was the last");
    assert_eq!(error.retry(), Retry::Backoff, "{error}");
    assert!(outage.borrow_and_update().is_some());
    assert_eq!(sink.take_back(), Some(vec![1, 0]));
    assert_eq!(texts(&mut messages), ["1"]);
}

#[tokio::test]
async fn an_outage_is_told_until_there_is_a_connection() {
    let (address, url) = closed_port().await;
    let mut sink = sink(&quick(&url));
    let mut outage = sink.outage().expect("it connects by itself");
    sink.open(None).await.expect("away is not fatal");
    let why = within("an outage", outage.wait_for(Option::is_some)).await;
    let why = why.expect("the sink lives").clone().unwrap_or_default();
    assert!(why.contains("cannot reach ws://127.0.0.1"), "{why}");
    let (_server, _messages) = listen(address).await;
    within("a connection", outage.wait_for(Option::is_none))
        .await
        .expect("the sink lives");
}

#[tokio::test]
async fn it_reads_all_the_time_pings_and_notices_a_dead_server() {
    let (told, mut pongs) = mpsc::unbounded_channel();
    let server = Server::start(move |number, stream| {
        let told = told.clone();
        async move {
            if number == 0 {
                return until_closed(accept_raw(stream).await).await;
            }
            let (mut socket, ..) = accept(stream).await;
            socket
                .send(Message::Ping(b"are you there"[..].into()))
                .await
                .expect("a client");
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Pong(payload) = message {
                    told.send(payload).ok();
                }
            }
        }
    })
    .await;
    let more = json!({"ping_interval": "10 ms", "ping_timeout": "200 ms"});
    let mut sink = sink(&with(quick(&server.url()), more));
    sink.open(None).await.expect("a server");
    // The first connection is silent. The second asks, while the sink has nothing to write.
    let pong = within("a pong", pongs.recv()).await.expect("a pong");
    assert_eq!(&pong[..], b"are you there");
    sink.close().await.expect("nothing left");
}

#[tokio::test]
async fn pings_stand_between_the_messages_so_that_a_slow_server_is_heard() {
    let (told, mut between) = mpsc::unbounded_channel();
    let server = Server::start(move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            let mut bytes = 0;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_ping() {
                    told.send(std::mem::take(&mut bytes)).ok();
                }
                bytes += message.len();
            }
        }
    })
    .await;
    let mut sink = sink(&quick(&server.url()));
    sink.open(None).await.expect("a server");
    let line = "x".repeat(1_000);
    sink.write(&rows(&[line.as_str(); 1_000]))
        .await
        .expect("room");
    within("the flush", sink.flush())
        .await
        .expect("a server that confirms");
    let between: Vec<usize> = std::iter::from_fn(|| between.try_recv().ok()).collect();
    assert!(between.iter().sum::<usize>() >= 1_000_000);
    assert!(between.iter().all(|&bytes| bytes < 70_000), "{between:?}");
}

#[tokio::test]
async fn test_websocket_round_trip() {
    let trades = [
        r#"{"e":"trade","s":"BTCUSDT","p":"50000.00","t":7,"T":1700000000001,"ignored":[]}"#,
        r#"{"e":"trade","s":"ETHUSDT","p":"2000.50","t":8,"T":1700000000002}"#,
    ];
    let (out, mut received) = collector().await;
    let feed = Server::start(move |_, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        for trade in trades {
            socket.send(text(trade)).await.expect("a client");
        }
        read_close(&mut socket).await;
    })
    .await;
    let text_of = |name| Field::new(name, DataType::Utf8, true);
    let time = Field::new("T", DataType::Int64, true);
    let columns = Arc::new(Schema::new(vec![
        text_of("e"),
        text_of("s"),
        text_of("p"),
        time,
    ]));
    let connectors = Connectors::builtin();
    let given_to = |server: &Server| given(&with(quick(&server.url()), json!({"format": "json"})));
    let source = connectors.source("websocket", &given_to(&feed), Some(columns.clone()), &[]);
    let mut source = Feed::of(Arc::new(
        source.unwrap_or_else(|rejection| panic!("{rejection}")),
    ));
    let sink = connectors.sink("websocket", &given_to(&out), columns, &[]);
    let sink = sink
        .unwrap_or_else(|rejection| panic!("{rejection}"))
        .sink();
    let mut sink = sink.expect("fine options");
    sink.open(None).await.expect("a server");
    let mut written = 0;
    while written < trades.len() {
        let item = within("rows", source.items.recv()).await;
        if let Some(Item::Rows(delivery)) = item {
            written += delivery.rows.num_rows();
            sink.write(&delivery.rows).await.expect("room");
        }
    }
    within("the flush", sink.flush())
        .await
        .expect("a server that confirms");
    for trade in trades {
        let message = received.try_recv().expect("confirmed means received");
        let [out, came] = [message.to_string().as_str(), trade]
            .map(|json| serde_json::from_str::<Value>(json).expect("an object"));
        for name in ["e", "s", "p", "T"] {
            assert_eq!(out[name], came[name], "{name} of {message}");
        }
        assert_eq!(
            out.as_object().map(|object| object.len()),
            Some(4),
            "{message}"
        );
    }
    sink.close().await.expect("nothing left");
    source.handle.stop().await;
}

/// Two sinks of the same options know nothing of each other: what elsewhere is cloning.
#[tokio::test]
async fn test_sink_clone() {
    let (server, mut messages) = collector().await;
    let mut sinks = [created(&server), created(&server)];
    for sink in &mut sinks {
        sink.open(None).await.expect("a server");
        sink.write(&rows(&["x"])).await.expect("room");
    }
    let [mut first, mut second] = sinks;
    first.close().await.expect("nothing left");
    second.write(&rows(&["y"])).await.expect("room");
    within("the flush", second.flush())
        .await
        .expect("a server that confirms");
    let mut texts = Vec::new();
    while let Ok(message) = messages.try_recv() {
        texts.extend(message.is_text().then(|| message.to_string()));
    }
    assert_eq!(texts, ["x", "x", "y"]);
}

#[tokio::test]
async fn test_factory_create() {
    let (server, _messages) = collector().await;
    created(&server).validate().await.expect("a server");
}

/// A sink as the registry makes it.
fn created(server: &Server) -> Box<dyn Sink> {
    let given = given(&with(quick(&server.url()), json!({"format": "text"})));
    let spec = Connectors::builtin().sink("websocket", &given, text_schema(), &[]);
    let spec = spec.unwrap_or_else(|rejection| panic!("{rejection}"));
    spec.sink().expect("fine options")
}
