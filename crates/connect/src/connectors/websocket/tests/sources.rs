//! The source: what it asks of a server, what it makes of messages, and how it takes every way in
//! which a server can let it down.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::super::CONNECTOR;
use super::server::{
    Server, accept, accept_raw, answer, next_data, read_close, serve, text, until_closed,
};
use super::{Feed, Seen, quick, source, spec, with, within};
use crate::options::{Given, check};
use crate::{End, State};

async fn close(stream: TcpStream, code: u16, reason: &'static str) {
    let (mut socket, ..) = accept(stream).await;
    let frame = CloseFrame {
        code: code.into(),
        reason: reason.into(),
    };
    socket
        .send(Message::Close(Some(frame)))
        .await
        .expect("a client that listens");
    read_close(&mut socket).await;
}

#[tokio::test]
async fn test_websocket_source_connect_disconnect() {
    let (told, mut closes) = mpsc::unbounded_channel();
    let server = Server::start(move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            socket.send(text("one")).await.expect("a client");
            socket
                .send(Message::binary(&b"two"[..]))
                .await
                .expect("a client");
            told.send(read_close(&mut socket).await).ok();
        }
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    let line = |line: &str| Seen::Line(line.to_owned());
    feed.expect(&[Seen::Connected, line("one"), line("two")])
        .await;
    assert_eq!(feed.handle.status().state, State::Running);
    within("the stop", feed.handle.stop()).await;
    let close = within("the Close", closes.recv())
        .await
        .flatten()
        .expect("a Close with a code");
    assert_eq!(u16::from(close.code), 1000);
    let status = feed.ended().await;
    assert_eq!(
        (status.state, status.end),
        (State::Stopped, Some(End::Stopped))
    );
    assert_eq!(feed.next().await, None, "a stop is no gap");
}

#[tokio::test]
async fn test_websocket_source_reconnect() {
    let server = Server::start(|number, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        socket
            .send(text(&format!("line {number}")))
            .await
            .expect("a client");
        if number > 0 {
            read_close(&mut socket).await;
        }
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    feed.expect(&[Seen::Connected]).await;
    feed.line("line 0").await;
    let reason = feed.disconnected().await;
    assert!(
        reason.contains("broke off") || reason.contains("reset"),
        "{reason}"
    );
    let gap = feed.gap().await;
    assert_eq!(gap.reason, reason);
    let [from, to] = [gap.from, gap.to].map(|time| {
        time.expect("both ends are known")
            .parse::<jiff::Timestamp>()
            .expect("a timestamp")
    });
    assert!(from <= to, "{from} {to}");
    feed.expect(&[Seen::Connected]).await;
    feed.line("line 1").await;
    assert_eq!(feed.handle.status().restarts, 1);
}

#[tokio::test]
async fn headers_and_subprotocol_reach_the_server() {
    let (told, mut requests) = mpsc::unbounded_channel::<(String, HeaderMap)>();
    let server = Server::start(move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, path, headers) = accept(stream).await;
            told.send((path, headers)).ok();
            read_close(&mut socket).await;
        }
    })
    .await;
    let more = json!({
        "url": format!("ws://{}/stream?streams=btcusdt@trade/ethusdt@trade", server.address),
        "headers": {"Authorization": "Bearer abc", "X-Api-Key": "k", "User-Agent": "headwater"},
        "subprotocol": "graphql-ws",
    });
    let mut feed = Feed::start(with(quick("ws://x"), more));
    feed.expect(&[Seen::Connected]).await;
    let (path, headers) = within("a request", requests.recv())
        .await
        .expect("a request");
    assert_eq!(path, "/stream?streams=btcusdt@trade/ethusdt@trade");
    for (name, value) in [
        ("authorization", "Bearer abc"),
        ("x-api-key", "k"),
        ("user-agent", "headwater"),
        ("sec-websocket-protocol", "graphql-ws"),
        ("host", &server.address.to_string()),
        ("upgrade", "websocket"),
    ] {
        assert_eq!(
            headers.get(name).map(|v| v.as_bytes()),
            Some(value.as_bytes()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_subscription_is_sent_again_after_every_reconnect() {
    let (told, mut subscribed) = mpsc::unbounded_channel();
    let server = Server::start(move |number, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            for _ in 0..2 {
                let message = next_data(&mut socket).await.expect("a subscription");
                assert!(message.is_text());
                told.send((number, message.to_string())).ok();
            }
            socket.send(text("welcome")).await.expect("a client");
        }
    })
    .await;
    let messages = r#"[{"type":"subscribe","id":1}, "SUB b"]"#;
    let more = json!({"subscribe.message": messages});
    let _feed = Feed::start(with(quick(&server.url()), more));
    for number in 0..3 {
        for message in [r#"{"type":"subscribe","id":1}"#, "SUB b"] {
            let (connection, sent) = within("a subscription", subscribed.recv())
                .await
                .expect("one");
            assert_eq!((connection, sent.as_str()), (number, message));
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_is_tried_until_the_attempts_are_spent() {
    // Bound and dropped: nobody listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("ws://{}/", listener.local_addr().expect("bound"));
    drop(listener);
    let mut feed = Feed::start(with(quick(&url), json!({"reconnect.max.attempts": 2})));
    for _ in 0..2 {
        let reason = feed.disconnected().await;
        assert!(reason.contains("refused"), "{reason}");
    }
    let reason = feed.failed().await;
    assert!(reason.contains("given up after 3 failures"), "{reason}");
    assert_eq!(
        feed.next().await,
        None,
        "what never was connected has no gap"
    );
}

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_backed_off_from() {
    let server = Server::start(|_, stream| async move { drop(accept(stream).await) }).await;
    let more = json!({"reconnect.max.attempts": 3, "reconnect.max.delay.ms": 1});
    let mut feed = Feed::start(with(quick(&server.url()), more));
    let reason = feed.failed().await;
    assert!(reason.contains("given up after 4 failures"), "{reason}");
}

#[tokio::test]
async fn a_connection_that_was_healthy_makes_the_count_start_again() {
    let server = Server::start(|number, stream| async move {
        if number < 5 {
            drop(accept(stream).await);
        } else {
            serve(stream, text("at last")).await;
        }
    })
    .await;
    let more = json!({"reconnect.max.attempts": 1, "reconnect.healthy_after": "0 s"});
    let mut feed = Feed::start(with(quick(&server.url()), more));
    while let Some(seen) = feed.next().await {
        if seen == Seen::Line("at last".to_owned()) {
            return;
        }
    }
    panic!("{}", feed.failed().await);
}

#[tokio::test]
async fn each_close_code_has_its_policy() {
    for code in [1000, 1001, 1011, 1012, 1013, 4000] {
        let server = Server::start(move |number, stream| async move {
            match number {
                0 => close(stream, code, "later").await,
                _ => serve(stream, text("back")).await,
            }
        })
        .await;
        let mut feed = Feed::start(quick(&server.url()));
        feed.expect(&[Seen::Connected]).await;
        let reason = feed.disconnected().await;
        assert_eq!(
            reason,
            format!("the server closed the connection with code {code}: later")
        );
        assert_eq!(feed.gap().await.reason, reason);
        feed.expect(&[Seen::Connected]).await;
        feed.line("back").await;
    }
    for code in [1008, 1010, 3000] {
        let server = Server::start(move |_, stream| close(stream, code, "go away")).await;
        let mut feed = Feed::start(quick(&server.url()));
        feed.expect(&[Seen::Connected]).await;
        let gap = feed.gap().await;
        assert!(
            gap.reason.contains(&format!("code {code}")) && gap.to.is_none(),
            "{gap:?}"
        );
        let reason = feed.failed().await;
        assert!(
            reason.contains(&format!("code {code}: go away")),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn without_reconnect_the_first_end_is_the_end() {
    let server = Server::start(|_, stream| close(stream, 1000, "")).await;
    let once = |url: &str| with(quick(url), json!({"reconnect": false}));
    let mut feed = Feed::start(once(&server.url()));
    let status = feed.ended().await;
    assert_eq!(
        (status.state, status.end),
        (State::Stopped, Some(End::Finished))
    );
    let server = Server::start(|_, stream| close(stream, 1011, "broken")).await;
    let mut feed = Feed::start(once(&server.url()));
    let reason = feed.failed().await;
    assert!(reason.contains("code 1011: broken"), "{reason}");
}

#[tokio::test]
async fn refusals_by_status_are_fatal_or_not() {
    for (status, fatal) in [
        ("401 Unauthorized", true),
        ("403 Forbidden", true),
        ("404 Not Found", false),
    ] {
        let server = Server::start(move |number, stream| async move {
            match number {
                0 => answer(stream, &format!("HTTP/1.1 {status}\r\n\r\nno  such\ntoken")).await,
                _ => serve(stream, text("in")).await,
            }
        })
        .await;
        let mut feed = Feed::start(quick(&server.url()));
        let reason = match fatal {
            true => feed.failed().await,
            false => feed.disconnected().await,
        };
        assert!(
            reason.contains(&format!("HTTP {status}: no such token")),
            "{reason}"
        );
        if !fatal {
            feed.expect(&[Seen::Connected]).await;
        }
    }
}

#[tokio::test]
async fn the_wait_that_a_server_asks_for_is_kept() {
    use crate::Item;
    let server = Server::start(|_, stream| {
        answer(
            stream,
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 90\r\n\r\n",
        )
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    let item = within("a disconnect", feed.items.recv()).await;
    match item {
        Some(Item::Lifecycle(crate::Lifecycle::Disconnected { retry_in, .. })) => {
            assert_eq!(retry_in, Duration::from_secs(90));
        }
        other => panic!("{other:?}"),
    }
    within("a stop while waiting", feed.handle.stop()).await;
    assert_eq!(feed.ended().await.state, State::Stopped);
}

#[tokio::test]
async fn a_server_that_answers_no_ping_is_left_and_tried_again() {
    let server = Server::start(|number, stream| async move {
        match number {
            0 => until_closed(accept_raw(stream).await).await,
            _ => serve(stream, text("alive")).await,
        }
    })
    .await;
    let more = json!({"ping_interval": "20 ms", "ping_timeout": "200 ms"});
    let mut feed = Feed::start(with(quick(&server.url()), more));
    feed.expect(&[Seen::Connected]).await;
    let reason = feed.disconnected().await;
    assert_eq!(reason, "no answer to a ping within 200ms");
    assert_eq!(feed.gap().await.reason, reason);
    feed.expect(&[Seen::Connected]).await;
    feed.line("alive").await;
}

#[tokio::test]
async fn a_server_that_answers_pings_but_sends_nothing_is_left_after_data_timeout() {
    let (told, mut closes) = mpsc::unbounded_channel();
    let server = Server::start(move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            told.send(read_close(&mut socket).await).ok();
        }
    })
    .await;
    for ping_interval in ["10 ms", "1 hour"] {
        let more = json!({"ping_interval": ping_interval, "data_timeout": "100 ms"});
        let mut feed = Feed::start(with(quick(&server.url()), more));
        feed.expect(&[Seen::Connected]).await;
        assert_eq!(feed.disconnected().await, "no message within 100ms");
        let close = within("a Close", closes.recv())
            .await
            .flatten()
            .expect("a Close with a code");
        assert_eq!(u16::from(close.code), 1001);
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_silent_handshake() {
    let (told, mut connected) = mpsc::unbounded_channel();
    let server = Server::start(move |_, stream| {
        told.send(()).ok();
        until_closed(stream)
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    within("a connection", connected.recv()).await;
    within("the stop", feed.handle.stop()).await;
    assert_eq!(
        feed.ended().await.reason,
        None,
        "it ended by itself, not by the deadline"
    );
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let server = Server::start(|number, stream| async move {
        match number {
            0 => until_closed(stream).await,
            _ => serve(stream, text("in")).await,
        }
    })
    .await;
    let mut feed = Feed::start(with(
        quick(&server.url()),
        json!({"connect_timeout": "50 ms"}),
    ));
    assert_eq!(feed.disconnected().await, "no connection within 50ms");
}

#[tokio::test]
async fn data_now_and_then_is_enough_for_data_timeout() {
    let server = Server::start(|_, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        // One message for each ping, text and binary in turn: three times as long as the timeout.
        for number in 0..30 {
            while !matches!(socket.next().await, Some(Ok(Message::Ping(_)))) {}
            let message = match number % 2 {
                0 => text("tick"),
                _ => Message::binary(&b"tick"[..]),
            };
            socket.send(message).await.expect("a client that stays");
        }
        read_close(&mut socket).await;
    })
    .await;
    let more = json!({"ping_interval": "50 ms", "data_timeout": "500 ms"});
    let mut feed = Feed::start(with(quick(&server.url()), more));
    feed.expect(&[Seen::Connected]).await;
    for _ in 0..30 {
        feed.line("tick").await;
    }
}

#[tokio::test]
async fn our_own_slowness_is_not_taken_for_a_dead_server() {
    const LINES: usize = 30_000;
    let line = |number| format!("{number:01000}");
    let (told, mut written) = mpsc::unbounded_channel();
    let server = Server::start(move |_, stream| {
        let told = told.clone();
        async move {
            let (mut socket, ..) = accept(stream).await;
            for number in 0..LINES {
                socket.feed(text(&line(number))).await.expect("a client");
            }
            socket.flush().await.expect("a client");
            told.send(()).ok();
            read_close(&mut socket).await;
        }
    })
    .await;
    let more = json!({
        "ping_interval": "50 ms", "ping_timeout": "500 ms", "data_timeout": "500 ms",
    });
    let mut feed = Feed::start(with(quick(&server.url()), more));
    // We take nothing for three times as long as the server may be silent.
    let held = timeout(Duration::from_millis(1_500), written.recv()).await;
    held.expect_err("backpressure reaches the server");
    feed.expect(&[Seen::Connected]).await;
    for number in 0..LINES {
        feed.line(&line(number)).await;
    }
}

#[tokio::test]
async fn validate_is_content_with_any_answer_and_closes_politely() {
    let (told, mut closes) = mpsc::unbounded_channel();
    let server = Server::start(move |number, stream| {
        let told = told.clone();
        async move {
            if number == 0 {
                let (mut socket, ..) = accept(stream).await;
                told.send(read_close(&mut socket).await).ok();
            } else {
                answer(stream, "HTTP/1.1 401 Unauthorized\r\n\r\n").await;
            }
        }
    })
    .await;
    let options = quick(&server.url());
    source(&options).validate().await.expect("a server");
    let close = within("a Close", closes.recv())
        .await
        .flatten()
        .expect("a Close with a code");
    assert_eq!(u16::from(close.code), 1000);
    source(&options)
        .validate()
        .await
        .expect("an answer is an answer");
    drop(server);
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("ws://{}/?token=secret", gone.local_addr().expect("bound"));
    drop(gone);
    let error = source(&quick(&url))
        .validate()
        .await
        .expect_err("nobody there")
        .to_string();
    assert!(error.starts_with("cannot reach ws://127.0.0.1:"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

/// A source is made again for every start, and from the same options as often as one likes: what
/// elsewhere is cloning.
#[tokio::test]
async fn test_source_clone() {
    let server = Server::start(|_, stream| serve(stream, text("one each"))).await;
    let plan = spec(&quick(&server.url()));
    let mut feeds = [Feed::of(plan.clone()), Feed::of(plan)];
    for feed in &mut feeds {
        feed.expect(&[Seen::Connected]).await;
        feed.line("one each").await;
    }
    let [first, second] = feeds;
    within("the stop", first.handle.stop()).await;
    assert_eq!(first.handle.status().state, State::Stopped);
    assert_eq!(second.handle.status().state, State::Running);
}

#[tokio::test]
async fn test_factory_create() {
    let server = Server::start(|_, stream| serve(stream, text("here"))).await;
    source(&quick(&server.url()))
        .validate()
        .await
        .expect("a server");
    let given = [Given::new("websocket.url", "localhost")];
    let kind = CONNECTOR.source.expect("it is a source");
    let problems = check("websocket", &[kind.options], &given)
        .err()
        .expect("no URL");
    let told = problems[0].to_string();
    assert!(
        told.contains("\"websocket.url\"") && told.contains("ws:// or wss://"),
        "{told}"
    );
}
