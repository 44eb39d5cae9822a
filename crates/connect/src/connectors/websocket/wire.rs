//! What may wait in memory to be written to a peer, and the socket that a sink's reader and writer share.
//!
//! The library answers each ping by itself, and queues the pong behind what was not written yet. A peer
//! that pings and reads nothing would make it queue without end. So its queue is bounded: when it is full
//! the library keeps the newest pong only, which answers all pings before it (RFC 6455, 5.5.3). A data
//! message must fit the same queue, so one that is larger than a part is written as several frames, as the
//! protocol has it for messages of any length.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};

use super::connect::Socket;
use crate::locked::locked;

/// The largest frame that is sent, bytes.
const PART_MAX: usize = 1 << 20;
/// Bytes that the library gathers before it writes.
const GATHERED: usize = 128 << 10;
/// The largest number of bytes that wait to be written: a frame behind what was gathered, and pongs.
const UNWRITTEN_MAX: usize = PART_MAX + 2 * GATHERED;

/// Bounds for one connection; a message that is read has at most `max_message` bytes.
pub(super) fn bounds(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .write_buffer_size(GATHERED)
        .max_write_buffer_size(UNWRITTEN_MAX)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// The frames of a data message: one, unless it is larger than a part.
pub(super) fn parts(message: Message) -> MessageParts {
    let (rest, kind) = match message {
        Message::Text(text) if text.len() > PART_MAX => (text.into(), Data::Text),
        Message::Binary(bytes) if bytes.len() > PART_MAX => (bytes, Data::Binary),
        whole => {
            return MessageParts {
                whole: Some(whole),
                rest: Bytes::new(),
                kind: Data::Continue,
            };
        }
    };
    let whole = None;
    MessageParts { whole, rest, kind }
}

/// What of a message was not sent yet.
pub(super) struct MessageParts {
    whole: Option<Message>,
    rest: Bytes,
    /// The kind of the next frame.
    kind: Data,
}

impl Iterator for MessageParts {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        if self.whole.is_some() || self.rest.is_empty() {
            return self.whole.take();
        }
        let part = self.rest.split_to(self.rest.len().min(PART_MAX));
        let kind = std::mem::replace(&mut self.kind, Data::Continue);
        let is_last = self.rest.is_empty();
        let frame = Frame::message(part, OpCode::Data(kind), is_last);
        Some(Message::Frame(frame))
    }
}

/// The next message. `owes_pong` says whether a ping was read whose pong may not be written: then a socket with
/// nothing to read writes it.
fn poll_message<S>(
    socket: &mut S,
    owes_pong: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Message, WsError>>>
where
    S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Unpin,
{
    if let Poll::Ready(message) = socket.poll_next_unpin(cx) {
        *owes_pong |= matches!(message, Some(Ok(Message::Ping(_))));
        return Poll::Ready(message);
    }
    // Twice: a queue that was full and is written now had no room for the newest pong. Errors come when it is read.
    if *owes_pong && socket.poll_flush_unpin(cx).is_ready() {
        *owes_pong = socket.poll_flush_unpin(cx).is_pending();
    }
    Poll::Pending
}

/// Waits for the next message; see [`poll_message`]. Dropping this future loses nothing.
pub(super) async fn next_message(
    socket: &mut Socket,
    owes_pong: &mut bool,
) -> Option<Result<Message, WsError>> {
    poll_fn(|cx| poll_message(socket, owes_pong, cx)).await
}

/// A socket that one future reads while another writes, both in one task.
pub(super) struct SharedSocket(Mutex<SocketState>);

struct SocketState {
    socket: Socket,
    owes_pong: bool,
}

impl SharedSocket {
    pub fn new(socket: Socket) -> Self {
        let owes_pong = false;
        Self(Mutex::new(SocketState { socket, owes_pong }))
    }

    pub fn into_inner(self) -> Socket {
        let inner = self.0.into_inner();
        inner.unwrap_or_else(PoisonError::into_inner).socket
    }

    /// The next message; `None` at the end. Dropping this future loses nothing.
    pub async fn next(&self) -> Option<Result<Message, WsError>> {
        poll_fn(|cx| {
            let SocketState { socket, owes_pong } = &mut *locked(&self.0);
            poll_message(socket, owes_pong, cx)
        })
        .await
    }

    /// Queues a message, which is written when enough is queued or with the next flush. Waits while the
    /// queue has no room.
    pub async fn put(&self, message: Message) -> Result<(), WsError> {
        poll_fn(|cx| locked(&self.0).socket.poll_ready_unpin(cx)).await?;
        let put = locked(&self.0).socket.start_send_unpin(message);
        match put {
            // Pongs fill the queue.
            Err(WsError::WriteBufferFull(message)) => {
                self.flush().await?;
                locked(&self.0).socket.start_send_unpin(*message)
            }
            put => put,
        }
    }

    pub async fn flush(&self) -> Result<(), WsError> {
        poll_fn(|cx| locked(&self.0).socket.poll_flush_unpin(cx)).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[test]
    fn a_large_message_is_sent_in_parts_and_a_small_one_whole() {
        let small = Message::text("x".repeat(PART_MAX));
        assert_eq!(parts(small.clone()).collect::<Vec<_>>(), [small]);
        let text: String = ('a'..='z').cycle().take(2 * PART_MAX + 1).collect();
        let mut joined = Vec::new();
        let mut heads = Vec::new();
        for part in parts(Message::text(text.clone())) {
            let Message::Frame(frame) = part else {
                panic!("it is too large for one frame")
            };
            heads.push((frame.header().opcode, frame.header().is_final));
            joined.extend_from_slice(frame.payload());
        }
        let head = |kind, is_final| (OpCode::Data(kind), is_final);
        let expected = [
            head(Data::Text, false),
            head(Data::Continue, false),
            head(Data::Continue, true),
        ];
        assert_eq!(heads, expected);
        assert_eq!(joined, text.as_bytes());
    }

    /// Over a pipe with no buffer to speak of, so what is queued is what comes out later.
    #[tokio::test]
    async fn pongs_for_a_peer_that_does_not_read_are_bounded_and_the_newest_is_kept() {
        const PINGS: u32 = 30_000;
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut socket =
            WebSocketStream::from_raw_socket(ours, Role::Client, Some(bounds(1 << 20))).await;
        let pinging = async {
            for number in 0..PINGS {
                let mut ping = vec![0x89, 125];
                ping.extend_from_slice(&number.to_be_bytes());
                ping.resize(2 + 125, 0);
                theirs.write_all(&ping).await.expect("they are read");
            }
            theirs
        };
        let reading = async {
            for _ in 0..PINGS {
                let message = socket.next().await.expect("a ping").expect("a ping");
                assert!(message.is_ping());
            }
            socket
        };
        let (theirs, mut socket) = tokio::join!(pinging, reading);
        let mut peer = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        let pongs = async {
            let (mut pongs, mut newest) = (0_usize, None);
            while newest != Some(PINGS - 1) {
                let message = peer.next().await.expect("the newest comes");
                let pong = message.expect("a pong").into_data();
                newest = pong.first_chunk().map(|it| u32::from_be_bytes(*it));
                pongs += 1;
            }
            pongs
        };
        let idle = poll_fn(|cx| poll_message(&mut socket, &mut true, cx));
        let pongs = tokio::select! {
            pongs = pongs => pongs,
            message = idle => panic!("nothing comes: {message:?}"),
        };
        assert!(pongs * 125 <= UNWRITTEN_MAX, "{pongs} pongs were queued");
    }
}
