//! The messages of a websocket sink that the server has not yet confirmed.
//!
//! ```text
//!   push --> waiting --take--> sent --confirm--> gone
//!               ^                |
//!               `----requeue-----'   the connection was lost
//! ```
//!
//! A message that was written to a socket may still be lost with it. So the link sends a ping
//! behind what it wrote, and only the pong, which the server's library sends after it has read everything
//! before the ping, confirms; or, with `ack.match`, a message of the server with the key of the last one that
//! it has processed. What is not confirmed when a connection breaks is sent again on the next one: at
//! least once, in order.
//!
//! Each message has a place: how many were pushed before it. Everything from the oldest unconfirmed
//! place on is [`unsent`](MessageQueue::unsent), also what was dropped in between, so that the count always
//! means a tail of what was pushed.
//!
//! What is given up is taken back, by place, so that whoever wrote it knows which rows those are. A
//! queue that was broken off can be repaired: what waits goes on the next connection.
//!
//! `waiting` is bounded by rows and bytes. What happens at the bound is the [`Overflow`] policy.
//! The queue is shared by two tasks, the sink and its link; each waits for the other with one
//! `Notify`, which keeps the permit when nobody waits yet, so no wake-up is lost.

use std::collections::VecDeque;
use std::sync::Mutex;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;

use super::ack::AckKey;
use super::policy::Trouble;
use crate::locked::locked;

/// What a sink does with a new message while its queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// Wait until there is room: nothing is lost, the query behind it is held up.
    #[default]
    Block,
    /// Drop the oldest waiting message, and count it.
    DropOldest,
    /// Drop the new message, and count it.
    Reject,
}

/// The bounds of the waiting messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub rows: usize,
    pub bytes: usize,
    pub overflow: Overflow,
}

/// Why nothing more will be sent, until the queue is repaired.
#[derive(Debug, Clone)]
pub(super) struct Broken(pub Trouble);

/// A message to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub message: Message,
    /// What the server confirms it by; `None` if a pong does.
    pub key: Option<AckKey>,
}

impl From<Message> for Outgoing {
    fn from(message: Message) -> Self {
        Self { message, key: None }
    }
}

/// A message and its place.
#[derive(Debug)]
struct Placed {
    place: u64,
    message: Message,
    key: Option<AckKey>,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Messages ever pushed, also those dropped; the place of the next.
    pushed: u64,
    waiting: VecDeque<Placed>,
    /// The sum of the lengths in `waiting`.
    waiting_bytes: usize,
    /// Written, not confirmed; the number of the message is the ping that confirms it or later.
    sent: VecDeque<(u64, Placed)>,
    sent_bytes: usize,
    /// The number of messages ever taken.
    taken: u64,
    dropped: u64,
    connected: bool,
    broken: Option<Trouble>,
}

/// Messages on their way, in order.
#[derive(Debug)]
pub(super) struct MessageQueue {
    bounds: Bounds,
    state: Mutex<QueueState>,
    /// Told to the link: there is something to take, or room among the sent.
    work: Notify,
    /// Told to the sink: something was taken, confirmed, or the link's state changed.
    progress: Notify,
}

impl MessageQueue {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
        }
    }

    /// Puts a message behind all others; waits for room if the policy is to block.
    pub async fn push(&self, message: impl Into<Outgoing>) -> Result<(), Broken> {
        let Outgoing { message, key } = message.into();
        while !self.has_room_for(&message)? {
            match self.bounds.overflow {
                Overflow::Block => self.progress.notified().await,
                Overflow::DropOldest => self.drop_oldest(),
                Overflow::Reject => {
                    let mut state = locked(&self.state);
                    state.pushed += 1;
                    state.dropped += 1;
                    return Ok(());
                }
            }
        }
        let mut state = locked(&self.state);
        let place = state.pushed;
        state.pushed += 1;
        state.waiting_bytes += message.len();
        state.waiting.push_back(Placed {
            place,
            message,
            key,
        });
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Waits until everything is confirmed. Unless `patient`, a policy that may drop holds nobody up
    /// while the server is away: then this returns at once.
    pub async fn drained(&self, patient: bool) -> Result<(), Broken> {
        loop {
            {
                let state = locked(&self.state);
                if state.waiting.is_empty() && state.sent.is_empty() {
                    return Ok(());
                }
                if let Some(trouble) = &state.broken {
                    return Err(Broken(trouble.clone()));
                }
                if !patient && !state.connected && self.bounds.overflow != Overflow::Block {
                    return Ok(());
                }
            }
            self.progress.notified().await;
        }
    }

    /// Waits for the next message to send, and its number.
    pub async fn take(&self) -> (u64, Message) {
        loop {
            if let Some(next) = self.try_take() {
                return next;
            }
            self.work.notified().await;
        }
    }

    /// The next message to send, if there is one and not too much is unconfirmed.
    pub fn try_take(&self) -> Option<(u64, Message)> {
        let mut state = locked(&self.state);
        let full = state.sent.len() >= self.bounds.rows || state.sent_bytes >= self.bounds.bytes;
        if full && !state.sent.is_empty() {
            return None;
        }
        let placed = state.waiting.pop_front()?;
        let message = placed.message.clone();
        state.waiting_bytes -= message.len();
        state.sent_bytes += message.len();
        state.taken += 1;
        let number = state.taken;
        state.sent.push_back((number, placed));
        drop(state);
        self.progress.notify_one();
        Some((number, message))
    }

    /// The server has processed everything up to and including the message of this key: of several with the
    /// same key, the first that is not confirmed. False if none of this connection has it.
    pub fn confirm_key(&self, key: AckKey) -> bool {
        let state = locked(&self.state);
        let mut sent = state.sent.iter();
        let found = sent.find(|(_, placed)| placed.key == Some(key));
        let number = found.map(|(number, _)| *number);
        drop(state);
        number.inspect(|number| self.confirm(*number)).is_some()
    }

    /// Waits until fewer messages than `unsent` are unconfirmed, or the queue is broken off. Dropping this
    /// future loses nothing.
    pub async fn confirmed_below(&self, unsent: u64) {
        while !self.is_broken() && self.unsent() >= unsent {
            self.progress.notified().await;
        }
    }

    /// Whether messages of this connection are not confirmed yet.
    pub fn awaits(&self) -> bool {
        !locked(&self.state).sent.is_empty()
    }

    /// The server has read everything up to and including this number.
    pub fn confirm(&self, number: u64) {
        let mut state = locked(&self.state);
        while state.sent.front().is_some_and(|(sent, _)| *sent <= number) {
            let length = state
                .sent
                .pop_front()
                .map_or(0, |(_, placed)| placed.message.len());
            state.sent_bytes -= length;
        }
        drop(state);
        self.work.notify_one();
        self.progress.notify_one();
    }

    /// There is a connection.
    pub fn connected(&self) {
        locked(&self.state).connected = true;
    }

    /// The connection was lost: what it did not confirm goes first on the next.
    pub fn requeue(&self) {
        let mut state = locked(&self.state);
        state.connected = false;
        state.waiting_bytes += std::mem::take(&mut state.sent_bytes);
        while let Some((_, placed)) = state.sent.pop_back() {
            state.waiting.push_front(placed);
        }
        drop(state);
        self.progress.notify_one();
    }

    /// There will be no connection until the queue is repaired. The first reason stays.
    pub fn break_off(&self, trouble: Trouble) {
        self.requeue();
        locked(&self.state).broken.get_or_insert(trouble);
        self.progress.notify_one();
    }

    /// What was broken off is whole again, or broken for the reason given.
    pub fn repair(&self, still: Option<Trouble>) {
        locked(&self.state).broken = still;
    }

    /// Whether nothing is sent until the queue is repaired.
    pub fn is_broken(&self) -> bool {
        locked(&self.state).broken.is_some()
    }

    /// The place of the next message.
    pub fn end(&self) -> u64 {
        locked(&self.state).pushed
    }

    /// Forgets the messages from place `end` on, of a queue that is broken.
    pub fn rewind(&self, end: u64) {
        let mut state = locked(&self.state);
        while state.waiting.back().is_some_and(|last| last.place >= end) {
            let length = state.waiting.pop_back().map_or(0, |it| it.message.len());
            state.waiting_bytes -= length;
        }
        state.pushed = state.pushed.min(end);
    }

    /// Forgets all that is not confirmed; says of each message how many were pushed after it.
    pub fn take_back(&self) -> Vec<u64> {
        let mut state = locked(&self.state);
        (state.waiting_bytes, state.sent_bytes) = (0, 0);
        let sent: Vec<_> = state.sent.drain(..).map(|(_, placed)| placed).collect();
        let all = sent.into_iter().chain(std::mem::take(&mut state.waiting));
        let after = all.map(|placed| state.pushed - 1 - placed.place).collect();
        drop(state);
        self.progress.notify_one();
        after
    }

    /// Messages that are neither confirmed nor dropped.
    pub fn unconfirmed(&self) -> usize {
        let state = locked(&self.state);
        state.waiting.len() + state.sent.len()
    }

    /// Messages from the oldest unconfirmed one to the last pushed.
    pub fn unsent(&self) -> u64 {
        let state = locked(&self.state);
        let sent = state.sent.front().map(|(_, placed)| placed.place);
        let oldest = sent.or_else(|| state.waiting.front().map(|placed| placed.place));
        oldest.map_or(0, |oldest| state.pushed - oldest)
    }

    /// Messages dropped at the bound. Only grows.
    pub fn dropped(&self) -> u64 {
        locked(&self.state).dropped
    }

    /// An empty queue takes any message, however large: it must go somewhere.
    fn has_room_for(&self, message: &Message) -> Result<bool, Broken> {
        let state = locked(&self.state);
        if let Some(trouble) = &state.broken {
            return Err(Broken(trouble.clone()));
        }
        let fits = state.waiting.len() < self.bounds.rows
            && state.waiting_bytes.saturating_add(message.len()) <= self.bounds.bytes;
        Ok(fits || state.waiting.is_empty())
    }

    fn drop_oldest(&self) {
        let mut state = locked(&self.state);
        if let Some(Placed { message, .. }) = state.waiting.pop_front() {
            state.waiting_bytes -= message.len();
            state.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(overflow: Overflow) -> MessageQueue {
        MessageQueue::new(Bounds {
            rows: 2,
            bytes: 10,
            overflow,
        })
    }

    #[tokio::test]
    async fn no_more_is_unconfirmed_than_may_wait() {
        let queue = queue(Overflow::DropOldest);
        for text in ["1", "2"] {
            queue.push(Message::text(text)).await.expect("room");
            queue.try_take().expect("it waits");
        }
        queue.push(Message::text("3")).await.expect("room");
        assert_eq!(queue.try_take(), None, "two are on their way");
        queue.confirm(1);
        assert_eq!(queue.try_take(), Some((3, Message::text("3"))));
        queue.confirm(3);
        assert_eq!(queue.unconfirmed(), 0);
    }

    fn keyed(text: &str) -> Outgoing {
        let key = Some(AckKey::of(text));
        let message = Message::text(text);
        Outgoing { message, key }
    }

    #[tokio::test]
    async fn a_key_confirms_what_was_sent_up_to_the_first_message_that_has_it() {
        let queue = MessageQueue::new(Bounds {
            rows: 9,
            bytes: 99,
            overflow: Overflow::Block,
        });
        for text in ["a", "b", "a", "c", "d"] {
            queue.push(keyed(text)).await.expect("room");
        }
        assert!(!queue.confirm_key(AckKey::of("a")), "nothing was sent yet");
        for _ in 0..4 {
            queue.try_take().expect("it waits");
        }
        assert!(queue.confirm_key(AckKey::of("a")));
        assert_eq!(
            queue.unsent(),
            4,
            "the second of this key may not have come"
        );
        for wrong in ["d", "x", ""] {
            assert!(!queue.confirm_key(AckKey::of(wrong)), "{wrong}");
        }
        assert_eq!(queue.unsent(), 4);
        assert!(queue.confirm_key(AckKey::of("c")));
        assert_eq!((queue.unsent(), queue.awaits()), (1, false));
        queue.confirmed_below(2).await;
        queue.break_off(Trouble::lasting("gone"));
        queue.confirmed_below(1).await;
    }

    #[tokio::test]
    async fn what_was_lost_goes_first_and_in_order() {
        let queue = queue(Overflow::Block);
        for text in ["1", "2"] {
            queue.push(Message::text(text)).await.expect("room");
            queue.try_take().expect("it waits");
        }
        queue.push(Message::text("3")).await.expect("room");
        queue.requeue();
        for text in ["1", "2"] {
            assert_eq!(queue.take().await.1, Message::text(text));
        }
        // A late pong of the connection before confirms nothing of this one.
        queue.confirm(2);
        assert_eq!(queue.unconfirmed(), 3);
    }

    /// What was dropped behind an unconfirmed message does not make that one look confirmed.
    #[tokio::test]
    async fn unsent_is_a_tail_of_what_was_pushed() {
        let queue = queue(Overflow::DropOldest);
        assert_eq!(queue.unsent(), 0);
        for text in ["1", "2", "3", "4"] {
            queue.push(Message::text(text)).await.expect("room");
            if text == "1" {
                queue.try_take().expect("it waits");
            }
        }
        assert_eq!((queue.unsent(), queue.dropped()), (4, 1));
        queue.confirm(1);
        assert_eq!(queue.unsent(), 2, "the second was dropped");
        queue.try_take().expect("it waits");
        queue.requeue();
        assert_eq!(queue.unsent(), 2);
        for _ in 0..2 {
            queue.try_take().expect("it waits");
        }
        queue.confirm(4);
        assert_eq!(queue.unsent(), 0);
    }

    #[tokio::test]
    async fn a_message_larger_than_the_queue_passes_when_it_is_alone() {
        let queue = queue(Overflow::Reject);
        queue
            .push(Message::text("more than ten bytes"))
            .await
            .expect("it is alone");
        queue.push(Message::text("x")).await.expect("it is dropped");
        assert_eq!((queue.unconfirmed(), queue.dropped()), (1, 1));
    }

    #[tokio::test]
    async fn what_is_taken_back_is_told_by_place() {
        let queue = queue(Overflow::DropOldest);
        for text in ["1", "2", "3", "4"] {
            queue.push(Message::text(text)).await.expect("room");
            if text == "1" {
                queue.try_take().expect("it waits");
            }
        }
        assert_eq!(queue.take_back(), [3, 1, 0], "the second was dropped");
        assert_eq!((queue.unsent(), queue.unconfirmed()), (0, 0));
        queue.push(Message::text("5")).await.expect("room");
        queue.break_off(Trouble::lasting("gone"));
        queue.repair(None);
        let end = queue.end();
        queue.push(Message::text("6")).await.expect("room");
        queue.break_off(Trouble::lasting("gone"));
        queue.rewind(end);
        assert_eq!(queue.take_back(), [0], "the sixth was never there");
    }

    #[tokio::test]
    async fn a_broken_queue_says_why_until_it_is_mended() {
        let queue = queue(Overflow::Block);
        queue.push(Message::text("x")).await.expect("room");
        queue.break_off(Trouble::lasting("first"));
        queue.break_off(Trouble::lasting("second"));
        let reason = |broken: Broken| broken.0.reason;
        assert_eq!(
            queue.drained(true).await.map_err(reason),
            Err("first".to_owned())
        );
        let pushed = queue.push(Message::text("y")).await;
        assert_eq!(pushed.map_err(reason), Err("first".to_owned()));
        queue.repair(None);
        assert_eq!(queue.try_take(), Some((1, Message::text("x"))));
    }
}
