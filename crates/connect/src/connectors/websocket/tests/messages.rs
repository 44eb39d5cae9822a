//! Messages that are no good: cut off, too many, too large, not what they claim to be.

use futures_util::SinkExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::server::{Server, accept, accept_raw, read_close, serve, text, until_closed};
use super::{Feed, Seen, quick, with};

#[tokio::test]
async fn half_a_frame_is_an_outage_not_a_row() {
    let server = Server::start(|number, stream| async move {
        if number == 0 {
            let mut raw = accept_raw(stream).await;
            // A whole text frame, then one that promises 100 bytes and has 3.
            raw.write_all(b"\x81\x05whole\x81\x64abc")
                .await
                .expect("a client");
        } else {
            serve(stream, text("again")).await;
        }
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    feed.expect(&[Seen::Connected]).await;
    feed.line("whole").await;
    feed.disconnected().await;
    feed.gap().await;
    feed.expect(&[Seen::Connected]).await;
    feed.line("again").await;
}

#[tokio::test]
async fn a_ping_storm_is_answered_and_holds_nothing_up() {
    let server = Server::start(|_, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        for _ in 0..20_000 {
            socket
                .feed(Message::Ping(Bytes::from_static(&[7; 100])))
                .await
                .expect("a client");
        }
        socket
            .send(text("after the storm"))
            .await
            .expect("a client");
        read_close(&mut socket).await;
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    feed.expect(&[Seen::Connected]).await;
    feed.line("after the storm").await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_told_and_left_behind() {
    const SIZE: usize = 65 << 20;
    let server = Server::start(|number, stream| async move {
        if number == 0 {
            let (mut socket, ..) = accept(stream).await;
            // The client closes in the middle of it.
            socket.send(Message::binary(vec![0; SIZE])).await.ok();
            read_close(&mut socket).await;
        } else {
            serve(stream, text("small again")).await;
        }
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    refused_for_its_size(&mut feed, SIZE).await;
    feed.line("small again").await;
}

#[tokio::test]
async fn text_that_is_no_utf8_is_told_and_left_behind() {
    let server = Server::start(|number, stream| async move {
        if number == 0 {
            let mut raw = accept_raw(stream).await;
            raw.write_all(b"\x81\x02\xff\xfe").await.expect("a client");
            until_closed(raw).await;
        } else {
            serve(stream, text("fine")).await;
        }
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    feed.expect(&[Seen::Connected]).await;
    let Some(Seen::Bad(bad)) = feed.next().await else {
        panic!("no bad row")
    };
    assert!(bad.reason.contains("UTF-8"), "{}", bad.reason);
    feed.disconnected().await;
    feed.gap().await;
    feed.expect(&[Seen::Connected]).await;
    feed.line("fine").await;
}

#[tokio::test]
async fn compressed_payloads_are_inflated_and_a_bomb_is_a_bad_row() {
    let server = Server::start(|_, stream| async move {
        let (mut socket, ..) = accept(stream).await;
        let zstd = |plain: &[u8]| zstd::encode_all(plain, 1).expect("a Vec takes everything");
        let plain = zstd(b"inflated");
        let bomb = zstd(&vec![0; (64 << 20) + 1]);
        let cut = plain[..plain.len() - 4].to_vec();
        for message in [bomb, cut, plain] {
            socket
                .send(Message::binary(message))
                .await
                .expect("a client");
        }
        socket.send(text("plain text")).await.expect("a client");
        read_close(&mut socket).await;
    })
    .await;
    let mut feed = Feed::start(with(quick(&server.url()), json!({"compression": "zstd"})));
    feed.expect(&[Seen::Connected]).await;
    let mut reasons = Vec::new();
    let mut lines = Vec::new();
    while lines.len() < 2 {
        match feed.next().await {
            Some(Seen::Bad(bad)) => reasons.push(bad.reason),
            Some(Seen::Line(line)) => lines.push(line),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lines, ["inflated", "plain text"]);
    assert!(
        reasons[0].contains("limit of 67108864 bytes"),
        "{reasons:?}"
    );
    assert!(reasons[1].contains("not valid zstd"), "{reasons:?}");
}

#[tokio::test]
async fn a_message_that_is_too_large_in_many_parts_is_refused_too() {
    let server = Server::start(|number, stream| async move {
        if number == 0 {
            let mut raw = accept_raw(stream).await;
            let part = vec![0; 1 << 20];
            // The first is binary, the others go on with it; none is the last. The client hangs up.
            for first_byte in std::iter::once(0x02).chain(std::iter::repeat_n(0x00, 64)) {
                let head = [first_byte, 127, 0, 0, 0, 0, 0, 16, 0, 0];
                raw.write_all(&head).await.ok();
                raw.write_all(&part).await.ok();
            }
            until_closed(raw).await;
        } else {
            serve(stream, text("next")).await;
        }
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    refused_for_its_size(&mut feed, 65 << 20).await;
    feed.line("next").await;
}

#[tokio::test]
async fn the_announcement_of_a_large_message_is_enough_to_refuse_it() {
    let server = Server::start(|number, stream| async move {
        if number == 0 {
            let mut raw = accept_raw(stream).await;
            // 2^40 bytes will follow, it says.
            raw.write_all(&[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0])
                .await
                .expect("a client");
            until_closed(raw).await;
        } else {
            serve(stream, text("next")).await;
        }
    })
    .await;
    let mut feed = Feed::start(quick(&server.url()));
    refused_for_its_size(&mut feed, 1 << 40).await;
    feed.line("next").await;
}

/// From the first connection to the second.
async fn refused_for_its_size(feed: &mut Feed, size: usize) {
    feed.expect(&[Seen::Connected]).await;
    let Some(Seen::Bad(bad)) = feed.next().await else {
        panic!("no bad row")
    };
    assert!(bad.reason.contains(&size.to_string()), "{}", bad.reason);
    let reason = feed.disconnected().await;
    assert!(
        reason.contains("the largest taken has 67108864"),
        "{reason}"
    );
    feed.gap().await;
    feed.expect(&[Seen::Connected]).await;
}
