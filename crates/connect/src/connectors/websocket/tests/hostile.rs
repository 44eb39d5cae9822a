//! Servers that mean harm: what they can make us hold, show, believe and wait for.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::server::{Server, accept, accept_raw, answer, read_close, serve, text};
use super::{Feed, Seen, quick, rows, sink, with, within};
use crate::{Item, Lifecycle, Sink};

/// Pings that a server sends without reading a pong: 13 MB of them.
const PINGS: u32 = 100_000;

/// Writes all pings, then reads all pongs. Returns how many came before the newest, which must come.
async fn ping_and_read_nothing(stream: TcpStream) -> u32 {
    let mut stream = accept_raw(stream).await;
    let mut pings = Vec::new();
    for number in 0..PINGS {
        pings.extend_from_slice(&[0x89, 125]);
        pings.extend_from_slice(&number.to_be_bytes());
        pings.extend_from_slice(&[0; 121]);
        if pings.len() > 1 << 20 || number + 1 == PINGS {
            stream.write_all(&pings).await.expect("they are read");
            pings.clear();
        }
    }
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let mut pongs = 0;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Pong(payload) = message else {
            continue;
        };
        pongs += 1;
        let number = payload.first_chunk().map(|it| u32::from_be_bytes(*it));
        if number == Some(PINGS - 1) {
            return pongs;
        }
    }
    panic!("the newest ping was never answered")
}

/// A server that plays [`ping_and_read_nothing`] and tells its result.
async fn pinging() -> (Server, mpsc::UnboundedReceiver<u32>) {
    let (told, pongs) = mpsc::unbounded_channel();
    let socket = TcpSocket::new_v4().expect("loopback");
    // What waits there is not with us.
    let small = socket.set_recv_buffer_size(16 << 10);
    small.expect("a small buffer");
    let any = "127.0.0.1:0".parse().expect("an address");
    socket.bind(any).expect("a free port");
    let listener = socket.listen(8).expect("a free port");
    let server = Server::on(listener, move |_, stream| {
        let told = told.clone();
        async move {
            told.send(ping_and_read_nothing(stream).await).ok();
        }
    });
    (server, pongs)
}

/// What a peer does not read lies in the buffers of the kernel, up to 4 MB, or with us: all pongs would be 13 MB.
fn few(pongs: u32) {
    let bytes = pongs * 131;
    assert!(bytes < 8 << 20, "{bytes} bytes of pongs were kept");
}

#[tokio::test]
async fn pings_of_a_server_that_does_not_read_are_answered_by_the_newest_pong_only() {
    let (server, mut pongs) = pinging().await;
    // Our own ping would find no room, and be the end.
    let more = json!({"ping_interval": "0 s"});
    let options = with(quick(&server.url()), more);
    let _feed = Feed::start(options.clone());
    few(within("the newest pong", pongs.recv()).await.expect("one"));
    let mut sink = sink(&options);
    sink.open(None).await.expect("a server");
    few(within("the newest pong", pongs.recv()).await.expect("one"));
}

/// Our own ping finds no room behind the pongs.
#[tokio::test]
async fn a_server_that_pings_and_never_reads_is_left() {
    let server = Server::start(|number, stream| async move {
        if number > 0 {
            return serve(stream, text("in")).await;
        }
        let mut stream = accept_raw(stream).await;
        let pings = [0x89, 0].repeat(1 << 20);
        while stream.write_all(&pings).await.is_ok() {}
    })
    .await;
    let more = json!({"ping_interval": "100 ms", "ping_timeout": "500 ms"});
    let mut feed = Feed::start(with(quick(&server.url()), more));
    feed.expect(&[Seen::Connected]).await;
    let reason = feed.disconnected().await;
    assert!(
        reason == "the server reads nothing of what it is sent"
            || reason == "the server takes nothing, not even a ping",
        "{reason}"
    );
}

#[tokio::test]
async fn a_server_that_takes_half_of_a_large_message_is_left() {
    let (told, mut received) = mpsc::unbounded_channel();
    let server = Server::start(move |number, stream| {
        let told = told.clone();
        async move {
            if number == 0 {
                let mut stream = accept_raw(stream).await;
                stream.read_u8().await.expect("its first byte");
                return std::future::pending().await;
            }
            let (mut socket, ..) = accept(stream).await;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() {
                    told.send(message.len()).ok();
                }
            }
        }
    })
    .await;
    // Of the ping behind the message nothing has been sent, so no pong is overdue.
    let more = json!({"ping_timeout": "300 ms"});
    let mut sink = sink(&with(quick(&server.url()), more));
    sink.open(None).await.expect("a server");
    let large = "x".repeat(40 << 20);
    sink.write(&rows(&[&large])).await.expect("it is alone");
    let length = within("the message", received.recv()).await;
    assert_eq!(length, Some(large.len()), "in parts, and whole");
    within("the flush", sink.flush()).await.expect("a server");
}

#[tokio::test]
async fn what_a_server_says_is_cut_and_does_nothing_to_a_terminal() {
    let server = Server::start(|number, stream| async move {
        match number {
            0 => {
                let location = "x".repeat(30_000);
                let head = format!("HTTP/1.1 302 Found\r\nLocation: http://{location}\r\n\r\n");
                answer(stream, &format!("{head}\x1b[2J\u{202e}{}", "y".repeat(999))).await;
            }
            _ => {
                let (mut socket, ..) = accept(stream).await;
                let reason = "\x1b]0;owned\x07\u{202e}later".into();
                let code = 1011.into();
                let close = CloseFrame { code, reason };
                socket
                    .send(Message::Close(Some(close)))
                    .await
                    .expect("a client");
                read_close(&mut socket).await;
            }
        }
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    let refused = feed.disconnected().await;
    assert!(refused.len() < 1_000, "{} bytes", refused.len());
    feed.expect(&[Seen::Connected]).await;
    let closed = feed.disconnected().await;
    assert!(closed.contains("later"), "{closed}");
    for said in [refused, closed] {
        let acts = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!said.contains(acts), "{said:?}");
    }
}

#[tokio::test]
async fn a_wait_of_years_is_cut_and_said() {
    for wait in ["4294967296", "Wed, 01 Jan 9000 00:00:00 GMT"] {
        let server = Server::start(move |_, stream| async move {
            let head = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: ";
            answer(stream, &format!("{head}{wait}\r\n\r\n")).await;
        })
        .await;
        let more = json!({"reconnect.max.retry_after": "90 s"});
        let mut feed = Feed::start(with(quick(&server.url()), more));
        match within("a disconnect", feed.items.recv()).await {
            Some(Item::Lifecycle(Lifecycle::Disconnected { reason, retry_in })) => {
                assert_eq!(retry_in, Duration::from_secs(90));
                let cut = "reconnect.max.retry_after allows 1m 30s";
                assert!(reason.ends_with(cut), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Of a sink nothing but confirmations is read.
#[tokio::test]
async fn a_message_without_end_is_not_collected_for_a_sink() {
    let server = Server::start(|number, stream| async move {
        if number > 0 {
            return read_close(&mut accept(stream).await.0)
                .await
                .map_or((), drop);
        }
        let mut stream = accept_raw(stream).await;
        // Fragments of a message that never ends.
        let mut fragment = vec![0x02, 127];
        fragment.extend_from_slice(&(1_u64 << 20).to_be_bytes());
        fragment.resize(10 + (1 << 20), b'x');
        while stream.write_all(&fragment).await.is_ok() {
            fragment[0] = 0;
        }
    })
    .await;
    let mut sink = sink(&quick(&server.url()));
    let mut outage = sink.outage().expect("it connects by itself");
    sink.open(None).await.expect("a server");
    let why = within("an outage", outage.wait_for(Option::is_some)).await;
    let why = why.expect("the sink lives").clone().unwrap_or_default();
    assert!(why.contains("the largest taken has 16777216"), "{why}");
}
