//! A websocket sink whose server is not there, or goes: what each strategy makes of its rows.
//!
//! The port is bound all the time, so that nobody else gets it, and refuses connections until a test
//! listens on it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use headwater::arrow::array::AsArray;
use headwater::{Db, Event, Subscription};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

use super::{COUNTERS, DLQ, in_memory, numbers, push, shown, until};

/// What all servers of a test have received.
type Received = Arc<Mutex<Vec<String>>>;

/// A port that refuses connections.
struct Port(TcpSocket);

impl Port {
    fn bind(address: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        Self(socket)
    }

    fn closed() -> Self {
        Self::bind("127.0.0.1:0")
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Lets a server listen, until what is returned is dropped.
    fn serve(self, received: &Received) -> Runtime {
        let runtime = Runtime::new().unwrap();
        let received = Arc::clone(received);
        let listener = {
            let _within = runtime.enter();
            self.0.listen(8).unwrap()
        };
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, Arc::clone(&received)));
            }
        });
        runtime
    }
}

async fn talk(stream: TcpStream, received: Received) {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() {
            received.lock().unwrap().push(message.to_string());
        }
    }
}

fn rows(numbers: std::ops::RangeInclusive<i64>) -> Vec<String> {
    numbers.map(|n| format!("{{\"n\":{n}}}")).collect()
}

fn sink(db: &Db, port: &Port, options: &str) {
    db.execute(&format!(
        "CREATE SOURCE s (n BIGINT NOT NULL);
         CREATE SINK k FROM s WITH (connector = 'websocket', url = 'ws://{}/x', {options})",
        port.address()
    ))
    .unwrap();
}

fn sinks(db: &Db) -> String {
    shown(db, "SELECT state, reason FROM system.sinks")
}

/// How a sink may reconnect by itself: without end, once, never.
const RECONNECTS: [&str; 3] = [
    "reconnect.delay.ms = 20, reconnect.max.delay.ms = 20",
    "reconnect.delay.ms = 20, reconnect.max.attempts = 1",
    "reconnect = false",
];

/// Tries again longer than any test lasts.
const PATIENT: &str = "error.strategy = 'retry', error.retry.max-attempts = 100000,
    error.retry.backoff = 'fixed', error.retry.initial-delay = '10 ms'";

#[test]
fn rows_are_dropped_and_counted_and_later_ones_arrive() {
    for reconnects in RECONNECTS {
        let (db, port, received) = (in_memory(1), Port::closed(), Received::default());
        let options = format!("error.strategy = 'drop', {reconnects}");
        sink(&db, &port, &options);
        push(&db, 1..=2);
        push(&db, 3..=3);
        until("the drop", || numbers(&db, COUNTERS) == [300]);
        until("the state", || sinks(&db).contains("degraded"));
        let sinks = sinks(&db);
        assert!(sinks.contains("cannot reach ws://127.0.0.1"), "{sinks}");
        let _server = port.serve(&received);
        push(&db, 4..=5);
        until("the rest", || numbers(&db, COUNTERS) == [2_300]);
        assert_eq!(*received.lock().unwrap(), rows(4..=5));
        assert_eq!(db.failures(), []);
    }
}

#[test]
fn rows_become_dead_letters_in_order_and_later_ones_arrive() {
    let retries = ", error.retry.max-attempts = 2, error.retry.initial-delay = '10 ms'";
    for retries in ["", retries] {
        for reconnects in RECONNECTS {
            let (db, port, received) = (in_memory(1), Port::closed(), Received::default());
            sink(&db, &port, &format!("{DLQ}, {reconnects}{retries}"));
            let letters = db.subscribe_batches("dead").unwrap();
            push(&db, 1..=2);
            push(&db, 3..=4);
            until("the letters", || numbers(&db, COUNTERS) == [40]);
            db.settle().unwrap();
            assert_eq!(originals(letters), rows(1..=4), "{reconnects}{retries}");
            let _server = port.serve(&received);
            push(&db, 5..=6);
            until("the rest", || numbers(&db, COUNTERS) == [2_040]);
            assert_eq!(*received.lock().unwrap(), rows(5..=6));
        }
    }
}

/// The rows in the letters that have come.
fn originals(mut letters: Subscription) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(event) = letters.try_next().unwrap() {
        let Event::Rows(batch) = event else {
            panic!("{event:?}")
        };
        let originals = batch.column_by_name("original_event").unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        all.extend(originals.as_binary::<i32>().iter().flatten().map(text));
    }
    all
}

#[test]
fn a_sink_that_gave_up_has_all_rows_when_it_is_started_again() {
    let retry = "error.strategy = 'retry', error.retry.max-attempts = 5,
        error.retry.backoff = 'fixed', error.retry.initial-delay = '10 ms'";
    for strategy in [retry, "error.strategy = 'fail'"] {
        for reconnects in RECONNECTS {
            let (db, port, received) = (in_memory(1), Port::closed(), Received::default());
            sink(&db, &port, &format!("{strategy}, {reconnects}"));
            push(&db, 1..=3);
            until("the failure", || !db.failures().is_empty());
            let why = db.failures()[0].2.clone();
            assert!(why.contains("cannot reach ws://127.0.0.1"), "{why}");
            push(&db, 4..=6);
            assert_eq!(numbers(&db, COUNTERS), [0], "nothing is lost");
            let _server = port.serve(&received);
            db.execute("START SINK k").unwrap();
            until("all rows", || numbers(&db, COUNTERS) == [6_000]);
            assert_eq!(*received.lock().unwrap(), rows(1..=6));
        }
    }
}

#[test]
fn a_sink_that_retries_goes_on_when_the_server_comes_in_time() {
    for reconnects in RECONNECTS {
        let (db, port, received) = (in_memory(1), Port::closed(), Received::default());
        sink(&db, &port, &format!("{PATIENT}, {reconnects}"));
        push(&db, 1..=3);
        until("the state", || sinks(&db).contains("cannot reach"));
        let _server = port.serve(&received);
        until("all rows", || numbers(&db, COUNTERS) == [3_000]);
        assert_eq!(*received.lock().unwrap(), rows(1..=3));
        until("the state", || sinks(&db).contains("running"));
    }
}

#[test]
fn without_a_strategy_a_sink_waits_for_its_server_and_reports_it() {
    for reconnects in RECONNECTS {
        let (db, port, received) = (in_memory(1), Port::closed(), Received::default());
        sink(&db, &port, reconnects);
        push(&db, 1..=2);
        push(&db, 3..=3);
        until("the state", || {
            let sinks = sinks(&db);
            !sinks.contains("running") && sinks.contains("cannot reach ws://")
        });
        assert_eq!(numbers(&db, COUNTERS), [0], "nothing was written");
        let _server = port.serve(&received);
        until("all rows", || numbers(&db, COUNTERS) == [3_000]);
        assert_eq!(*received.lock().unwrap(), rows(1..=3));
        until("the state", || sinks(&db).contains("running"));
    }
}

#[test]
fn a_server_that_dies_and_comes_back_gets_every_row() {
    let no_strategy = RECONNECTS[0].to_owned();
    let with_retries = RECONNECTS.map(|it| format!("{PATIENT}, {it}"));
    for options in with_retries.into_iter().chain([no_strategy]) {
        let (db, port, received) = (in_memory(1), Port::closed(), Received::default());
        sink(&db, &port, &options);
        let address = port.address().to_string();
        let server = port.serve(&received);
        push(&db, 1..=3);
        until("three rows", || numbers(&db, COUNTERS) == [3_000]);
        drop(server);
        let port = Port::bind(&address);
        until("the state", || !sinks(&db).contains("running"));
        push(&db, 4..=5);
        push(&db, 6..=6);
        assert_eq!(numbers(&db, COUNTERS), [3_000]);
        let _server = port.serve(&received);
        until("all rows", || numbers(&db, COUNTERS) == [6_000]);
        assert_eq!(*received.lock().unwrap(), rows(1..=6));
    }
}
