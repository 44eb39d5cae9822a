//! A sink that fails as a test wants it to, and what becomes of the rows.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use headwater_connect::options::{Given, read};
use headwater_connect::{Result, Retry};
use serde_json::json;
use tokio::task::JoinHandle;

use super::sink_status::SinkHealth;
use super::*;
use crate::subscription::{
    Delivered, DeliveryTracker, Gate, QUEUE_LIMIT, QueueSize, SubscriberQueue,
};

/// The external system, and how it behaves.
#[derive(Default)]
struct Outside {
    received: Vec<i64>,
    opened: Vec<Option<Receipt>>,
    /// So many of the next opens, writes, flushes and syncs fail.
    open_failures: u32,
    write_failures: u32,
    flush_failures: u32,
    sync_failures: u32,
    /// Rows that cannot be encoded.
    poison: BTreeSet<i64>,
    /// Writes that were tried.
    tried: u32,
    hangs: bool,
    /// `None`: it gives receipts. Else the rows that are still in the sink's hands.
    unsent: Option<u64>,
    /// It lets go of those.
    lets_go: bool,
    outage: watch::Sender<Option<String>>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Outside>>);

impl Scripted {
    fn with<T>(&self, act: impl FnOnce(&mut Outside) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn received(&self) -> Vec<i64> {
        self.with(|outside| outside.received.clone())
    }
}

fn down(failures: &mut u32) -> Result<()> {
    if *failures == 0 {
        return Ok(());
    }
    *failures -= 1;
    Err(Error::Unreachable {
        target: "the external system".to_owned(),
        reason: "it is down".to_owned(),
        retry: Retry::Backoff,
    })
}

#[async_trait]
impl Sink for Scripted {
    async fn validate(&self) -> Result<()> {
        Ok(())
    }

    async fn open(&mut self, from: Option<Receipt>) -> Result<()> {
        self.with(|outside| {
            outside.opened.push(from);
            down(&mut outside.open_failures)
        })
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.with(|outside| outside.hangs) {
            std::future::pending::<()>().await;
        }
        let numbers = rows.column(0).as_primitive::<Int64Type>().values();
        self.with(|outside| {
            outside.tried += 1;
            down(&mut outside.write_failures)?;
            if let Some(poison) = numbers.iter().find(|it| outside.poison.contains(it)) {
                let reason = format!("{} is poison", poison % 10);
                return Err(Error::Encode {
                    format: "json",
                    reason,
                });
            }
            outside.received.extend(numbers);
            Ok(())
        })
    }

    async fn flush(&mut self) -> Result<()> {
        self.with(|outside| down(&mut outside.flush_failures))
    }

    fn receipt(&self) -> Option<Receipt> {
        self.with(|outside| match outside.unsent {
            None => Some(Receipt(json!(outside.received.len()))),
            Some(_) => None,
        })
    }

    fn unsent(&self) -> u64 {
        self.with(|outside| outside.unsent.unwrap_or(0))
    }

    async fn sync(&mut self) -> Result<()> {
        self.with(|outside| down(&mut outside.sync_failures))
    }

    fn take_back(&mut self) -> Option<Vec<u64>> {
        self.with(|outside| {
            let unsent = outside.unsent.filter(|_| outside.lets_go)?;
            let left = outside.received.len() - unsent as usize;
            outside.received.truncate(left);
            outside.unsent = Some(0);
            Some((0..unsent).rev().collect())
        })
    }

    fn outage(&self) -> Option<watch::Receiver<Option<String>>> {
        self.with(|outside| Some(outside.outage.subscribe()))
    }

    async fn close(&mut self) -> Result<()> {
        self.flush().await
    }
}

/// Dead letters that arrive, after some that do not.
#[derive(Default)]
struct FullThenTaking {
    refusals: Mutex<u32>,
    taken: Mutex<Vec<DeadLetter>>,
}

#[async_trait]
impl DeadLetters for FullThenTaking {
    async fn take(&self, letters: &[DeadLetter]) -> Result<(), String> {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return Err("the stream is full".to_owned());
        }
        self.taken.lock().unwrap().extend_from_slice(letters);
        Ok(())
    }
}

struct Noon;

impl Clock for Noon {
    fn now_us(&self) -> i64 {
        12
    }
}

/// A sink task at work.
struct Fed {
    queue: Arc<SubscriberQueue>,
    sink: Scripted,
    status: Arc<SinkStatus>,
    stop: CancellationToken,
    dead_letters: Arc<FullThenTaking>,
    task: JoinHandle<()>,
}

fn rows(numbers: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

fn feed(sink: &Scripted, options: &[(&str, &str)]) -> Fed {
    feed_from(sink, options, None)
}

fn feed_from(sink: &Scripted, options: &[(&str, &str)], receipt: Option<Receipt>) -> Fed {
    let given: Vec<_> = options
        .iter()
        .map(|(key, it)| Given::new(key, *it))
        .collect();
    let queue = SubscriberQueue::new(QUEUE_LIMIT, None);
    let (status, stop) = (Arc::<SinkStatus>::default(), CancellationToken::new());
    let dead_letters = Arc::<FullThenTaking>::default();
    status.begin(receipt.clone());
    let sink_task = SinkTask::new(SinkTaskParts {
        rows: Subscription::new(Arc::clone(&queue), rows([]).schema()),
        stop: stop.clone(),
        status: Arc::clone(&status),
        seed: 7,
        errors: read("sink", &given).unwrap(),
        receipt,
        stream: "trades".to_owned(),
        dead_letters: Some(dead_letters.clone()),
        clock: Arc::new(Noon),
    });
    let task = tokio::spawn(sink_task.run(Box::new(sink.clone())));
    Fed {
        queue,
        sink: sink.clone(),
        status,
        stop,
        dead_letters,
        task,
    }
}

impl Fed {
    fn push(&self, numbers: std::ops::Range<i64>) {
        self.queue.push(rows(numbers));
    }

    fn delivered(&self) -> (Option<u64>, u64) {
        let Delivered { receipt, items } = self.status.delivered();
        (receipt.and_then(|receipt| receipt.0.as_u64()), items)
    }

    /// Lets everything happen that happens by itself within an hour of paused time.
    async fn idle(&self) {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }

    async fn end(self) -> SinkHealth {
        self.queue.end(None);
        self.task.await.unwrap();
        self.status.get()
    }
}

const RETRY: [(&str, &str); 4] = [
    ("error.strategy", "retry"),
    ("error.retry.max-attempts", "3"),
    ("error.retry.backoff", "fixed"),
    ("error.retry.initial-delay", "100ms"),
];

const DLQ: [(&str, &str); 2] = [("error.strategy", "dlq"), ("error.dlq.stream", "dead")];

#[tokio::test(start_paused = true)]
async fn without_a_strategy_it_tries_again_without_end() {
    let sink = Scripted::default();
    sink.with(|outside| (outside.open_failures, outside.write_failures) = (2, 100));
    let fed = feed(&sink, &[]);
    fed.push(0..3);
    fed.push(3..4);
    fed.idle().await;
    assert_eq!(fed.sink.received(), [0, 1, 2, 3]);
    assert_eq!(fed.delivered(), (Some(4), 2));
    assert_eq!(fed.end().await.name, "stopped");
}

#[tokio::test(start_paused = true)]
async fn it_tries_again_as_said_and_then_fails() {
    let sink = Scripted::default();
    sink.with(|outside| outside.write_failures = 3);
    let fed = feed(&sink, &RETRY);
    let began = Instant::now();
    fed.push(0..2);
    while fed.delivered().1 == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        began.elapsed().as_millis() / 10,
        30,
        "three waits of 100 ms"
    );
    assert_eq!(fed.status.get().name, "running");
    // Each batch has its own attempts.
    sink.with(|outside| outside.write_failures = 4);
    fed.push(2..3);
    fed.idle().await;
    assert_eq!(fed.delivered(), (Some(2), 1), "the second batch is kept");
    let state = fed.end().await;
    assert_eq!(state.name, "failed");
    let reason = state.reason.unwrap();
    assert_eq!(reason, "cannot reach the external system: it is down");
}

#[tokio::test(start_paused = true)]
async fn it_fails_at_once() {
    for (options, poison) in [(&[("error.strategy", "fail")][..], None), (&[], Some(1))] {
        let sink = Scripted::default();
        sink.with(|outside| {
            outside.poison.extend(poison);
            outside.write_failures = u32::from(poison.is_none());
        });
        let fed = feed(&sink, options);
        fed.push(0..3);
        fed.idle().await;
        assert_eq!(sink.with(|outside| outside.tried), 1);
        assert_eq!(fed.delivered(), (Some(0), 0));
        assert_eq!(fed.end().await.name, "failed");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_cannot_be_encoded_do_not_take_others_with_them() {
    let sink = Scripted::default();
    sink.with(|outside| outside.poison.extend([0, 41, 42, 99]));
    let fed = feed(&sink, &[("error.strategy", "drop")]);
    fed.push(0..100);
    fed.idle().await;
    let expected: Vec<i64> = (0..100)
        .filter(|it| ![0, 41, 42, 99].contains(it))
        .collect();
    assert_eq!(fed.sink.received(), expected, "in order");
    assert!(sink.with(|outside| outside.tried) < 60, "halves, not rows");
    let reason = |last: u32| format!("cannot write rows as json: {last} is poison");
    let counts: Vec<_> = [0, 1, 2, 9].map(|last| (reason(last), 1)).into();
    assert_eq!(fed.status.dropped.counts(), counts);
    assert_eq!(fed.status.rows.load(Ordering::Relaxed), 96);
    assert_eq!(fed.delivered(), (Some(96), 1));
    assert_eq!(fed.status.get().name, "degraded");
    fed.push(100..101);
    fed.idle().await;
    assert_eq!(fed.status.get().name, "running");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_drops_whole_batches_at_once() {
    let sink = Scripted::default();
    sink.with(|outside| outside.write_failures = 1);
    let fed = feed(&sink, &[("error.strategy", "drop")]);
    fed.push(0..50);
    fed.push(50..52);
    fed.idle().await;
    assert_eq!(fed.sink.received(), [50, 51]);
    assert_eq!(sink.with(|outside| outside.tried), 2);
    let reason = "cannot reach the external system: it is down".to_owned();
    assert_eq!(fed.status.dropped.counts(), [(reason, 50)]);
    assert_eq!(fed.delivered(), (Some(2), 2));
}

#[tokio::test(start_paused = true)]
async fn rows_go_to_the_dead_letters() {
    let sink = Scripted::default();
    sink.with(|outside| outside.poison.insert(1));
    let fed = feed(&sink, &[&DLQ[..], &RETRY[1..]].concat());
    *fed.dead_letters.refusals.lock().unwrap() = DEAD_LETTER_ATTEMPTS - 1;
    fed.push(0..3);
    fed.idle().await;
    sink.with(|outside| outside.write_failures = 4);
    fed.push(3..4);
    fed.idle().await;
    assert_eq!(fed.sink.received(), [0, 2]);
    let letter = |number: i64, kind: &str, message: &str, attempts| DeadLetter {
        original_event: format!("{{\"n\":{number}}}").into_bytes(),
        error_message: message.to_owned(),
        error_type: kind.to_owned(),
        timestamp_us: 12,
        attempt_count: attempts,
        stream_name: "trades".to_owned(),
    };
    let expected = [
        letter(1, "encode", "cannot write rows as json: 1 is poison", 1),
        letter(
            3,
            "unreachable",
            "cannot reach the external system: it is down",
            4,
        ),
    ];
    assert_eq!(*fed.dead_letters.taken.lock().unwrap(), expected);
    assert_eq!(fed.status.dead_letters.load(Ordering::Relaxed), 2);
    assert_eq!(fed.status.dropped.total(), 0);
    assert_eq!(fed.delivered(), (Some(2), 2));
}

/// Nothing waits for a dead-letter stream that is broken: the rows are logged and counted.
#[tokio::test(start_paused = true)]
async fn dead_letters_that_are_not_taken_are_counted() {
    let sink = Scripted::default();
    sink.with(|outside| outside.poison.extend([1, 2]));
    let fed = feed(&sink, &DLQ);
    *fed.dead_letters.refusals.lock().unwrap() = u32::MAX;
    fed.push(0..4);
    fed.idle().await;
    assert_eq!(fed.sink.received(), [0, 3]);
    let reason = "dead letters were not delivered: the stream is full".to_owned();
    assert_eq!(fed.status.dropped.counts(), [(reason, 2)]);
    assert_eq!(fed.status.dead_letters.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_left_and_its_rows_are_not_delivered() {
    let sink = Scripted::default();
    let fed = feed(&sink, &[]);
    fed.push(0..2);
    fed.idle().await;
    sink.with(|outside| outside.hangs = true);
    fed.push(2..4);
    fed.idle().await;
    let synced = fed.status.sync();
    let patience = tokio::time::timeout(Duration::from_secs(9), synced).await;
    assert!(patience.is_err(), "a write that hangs cannot be synced");
    assert_eq!(fed.delivered(), (Some(2), 1));
    fed.stop.cancel();
    assert_eq!(fed.end().await.name, "stopped");
}

/// What a sink holds itself is not delivered, however often a batch was in two.
#[tokio::test(start_paused = true)]
async fn what_the_sink_holds_is_not_delivered() {
    let sink = Scripted::default();
    sink.with(|outside| {
        outside.unsent = Some(0);
        outside.poison.extend([3, 4]);
    });
    let fed = feed(&sink, &[("error.strategy", "drop")]);
    fed.idle().await;
    // Ten rows, then three of five.
    for (unsent, from, to, items) in [(10, 10, 20, 0), (10, 0, 5, 0)] {
        sink.with(|outside| outside.unsent = Some(unsent));
        fed.push(from..to);
        fed.idle().await;
        assert_eq!(fed.delivered(), (None, items));
    }
    for (unsent, items) in [(4, 0), (3, 1), (1, 1)] {
        sink.with(|outside| outside.unsent = Some(unsent));
        fed.queue.push(rows([]));
        fed.idle().await;
        assert_eq!(fed.delivered().1, items, "{unsent} unsent");
    }
    sink.with(|outside| outside.unsent = Some(0));
    fed.queue.push(rows([]));
    fed.idle().await;
    assert_eq!(fed.delivered(), (None, 6));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_durable_when_asked_for() {
    let sink = Scripted::default();
    let fed = feed_from(&sink, &[], Some(Receipt(json!(0))));
    assert_eq!(fed.status.sync().await, Ok(Ok(())), "nothing was written");
    fed.push(0..2);
    fed.idle().await;
    assert_eq!(
        sink.with(|outside| outside.opened.clone()),
        [Some(Receipt(json!(0)))]
    );
    sink.with(|outside| outside.sync_failures = 1);
    let failed = fed.status.sync().await.unwrap();
    assert_eq!(
        failed,
        Err("cannot reach the external system: it is down".to_owned())
    );
    assert_eq!(fed.status.sync().await, Ok(Ok(())));
    // Asked again, it need not do anything.
    sink.with(|outside| outside.sync_failures = 1);
    assert_eq!(fed.status.sync().await, Ok(Ok(())));
    // While it waits to write again, it can sync.
    sink.with(|outside| outside.sync_failures = 0);
    fed.push(2..3);
    fed.idle().await;
    sink.with(|outside| outside.write_failures = u32::MAX);
    fed.push(3..4);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(fed.status.get().name, "backing_off");
    let synced = tokio::time::timeout(Duration::from_millis(10), fed.status.sync()).await;
    assert_eq!(synced, Ok(Ok(Ok(()))));
    fed.stop.cancel();
    let status = Arc::clone(&fed.status);
    assert_eq!(fed.end().await.name, "stopped");
    assert_eq!(status.sync().await, Ok(Ok(())), "it was closed");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_failed_answers_who_asks_for_a_sync() {
    let sink = Scripted::default();
    let fed = feed(&sink, &[("error.strategy", "fail")]);
    fed.push(0..2);
    fed.idle().await;
    sink.with(|outside| (outside.write_failures, outside.sync_failures) = (1, u32::MAX));
    let synced = fed.status.sync();
    fed.push(2..3);
    fed.idle().await;
    assert!(synced.await.unwrap().is_err());
    assert_eq!(fed.end().await.name, "failed");
}

/// What a sink could not flush while nothing comes is flushed again by and by.
#[tokio::test(start_paused = true)]
async fn a_flush_is_tried_again() {
    let sink = Scripted::default();
    let fed = feed(&sink, &[]);
    fed.idle().await;
    sink.with(|outside| outside.flush_failures = 3);
    fed.push(0..1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fed.status.get().name, "degraded");
    fed.idle().await;
    assert_eq!(sink.with(|outside| outside.flush_failures), 0);
    assert_eq!(fed.status.get().name, "running");
}

/// A sink that holds `unsent` of six rows, and whose next `failures` flushes fail.
async fn holding(unsent: u64, failures: u32, options: &[(&str, &str)]) -> Fed {
    let sink = Scripted::default();
    sink.with(|outside| (outside.unsent, outside.lets_go) = (Some(0), true));
    let fed = feed(&sink, options);
    fed.idle().await;
    sink.with(|outside| (outside.unsent, outside.flush_failures) = (Some(unsent), failures));
    fed.push(0..4);
    fed.push(4..6);
    fed
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_holds_is_dropped_when_it_cannot_flush() {
    let fed = holding(3, 1, &[("error.strategy", "drop")]).await;
    fed.idle().await;
    assert_eq!(fed.sink.received(), [0, 1, 2]);
    assert_eq!(fed.status.dropped.total(), 3);
    assert_eq!(fed.status.rows.load(Ordering::Relaxed), 3);
    assert_eq!(fed.delivered().1, 2, "nothing of them is written again");
    assert_eq!(fed.status.get().name, "degraded");
    fed.push(6..7);
    fed.idle().await;
    assert_eq!(fed.sink.received(), [0, 1, 2, 6]);
    assert_eq!(fed.status.get().name, "running");
}

/// What the sink holds was written before what it does not take, and its letters come before, too.
#[tokio::test(start_paused = true)]
async fn what_a_sink_holds_goes_to_the_dead_letters_in_order() {
    let fed = holding(3, 0, &DLQ).await;
    fed.idle().await;
    fed.sink.with(|outside| outside.write_failures = 1);
    fed.push(6..8);
    fed.idle().await;
    assert_eq!(fed.sink.received(), [0, 1, 2]);
    let letters = fed.dead_letters.taken.lock().unwrap().clone();
    let rows: Vec<_> = letters.iter().map(|it| it.original_event.clone()).collect();
    let expected = (3..8).map(|n| format!("{{\"n\":{n}}}").into_bytes());
    assert_eq!(rows, expected.collect::<Vec<_>>());
    assert_eq!(fed.delivered().1, 3);
    assert_eq!(fed.status.rows.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_holds_is_kept_when_it_fails() {
    let fed = holding(3, u32::MAX, &RETRY).await;
    fed.idle().await;
    let tried = u32::MAX - fed.sink.with(|outside| outside.flush_failures);
    assert_eq!(tried, 5, "three attempts more, and the close");
    assert_eq!(fed.status.get().name, "failed");
    assert_eq!(
        fed.delivered().1,
        0,
        "a batch of which half is outside is not"
    );
    assert_eq!(fed.status.rows.load(Ordering::Relaxed), 3);
}

/// Nobody takes back what the sink keeps.
#[tokio::test(start_paused = true)]
async fn what_a_sink_does_not_let_go_is_flushed_without_end() {
    let fed = holding(3, 5, &[("error.strategy", "drop")]).await;
    fed.sink.with(|outside| outside.lets_go = false);
    fed.idle().await;
    assert_eq!(fed.sink.with(|outside| outside.flush_failures), 0);
    assert_eq!(fed.status.dropped.total(), 0);
    assert_eq!(fed.status.get().name, "running");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_cannot_be_opened_cannot_write() {
    let sink = Scripted::default();
    sink.with(|outside| outside.open_failures = 2);
    let fed = feed(&sink, &[("error.strategy", "drop")]);
    fed.idle().await;
    assert_eq!(fed.status.get().name, "degraded");
    assert_eq!(fed.status.sync().await, Ok(Ok(())), "nothing was written");
    fed.push(0..2);
    fed.push(2..3);
    fed.idle().await;
    assert_eq!(fed.sink.received(), [2], "the second batch opens it");
    assert_eq!(fed.status.dropped.total(), 2);
    assert_eq!(fed.delivered(), (Some(1), 2));
    assert_eq!(fed.status.get().name, "running");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_seen_while_the_sink_does_nothing_or_hangs() {
    let sink = Scripted::default();
    let fed = feed(&sink, &[]);
    fed.idle().await;
    let outage = sink.with(|outside| outside.outage.clone());
    for hangs in [false, true] {
        sink.with(|outside| outside.hangs = hangs);
        fed.push(0..1);
        fed.idle().await;
        assert_eq!(fed.status.get().name, "running");
        outage.send_replace(Some("nobody is there".to_owned()));
        fed.idle().await;
        let SinkHealth { name, reason } = fed.status.get();
        assert_eq!(name, "backing_off");
        assert_eq!(reason.as_deref(), Some("nobody is there"));
        outage.send_replace(None);
        fed.idle().await;
    }
    assert_eq!(fed.status.get().name, "running");
    fed.stop.cancel();
    assert_eq!(fed.end().await.name, "stopped");
}

#[test]
fn a_failed_sink_keeps_as_many_rows_as_its_queue_holds() {
    let (status, gate) = (
        Arc::<SinkStatus>::default(),
        Arc::new(Gate::new(Vec::new())),
    );
    let progress = Arc::clone(&status) as _;
    let limit = QueueSize {
        rows: 4,
        ..QUEUE_LIMIT
    };
    let queue = SubscriberQueue::for_sink(
        limit,
        Arc::clone(&gate),
        "k".to_owned(),
        progress,
        Vec::new(),
    );
    let schema = rows([]).schema();
    let mut first = Subscription::new(Arc::clone(&queue), Arc::clone(&schema));
    queue.push(rows([1, 2]));
    assert!(
        first.try_next().unwrap().is_some(),
        "taken and not delivered"
    );
    queue.push(rows([3, 4, 5]));
    queue.push(rows([6, 7]));
    assert!(gate.is_closed());

    first.strand();
    drop(first);
    assert!(!gate.is_closed(), "the sources go on");
    assert!(queue.push(rows([8])), "and the queue is fed");
    assert_eq!(status.dropped.total(), 1);
    assert_eq!(queue.backlog().unwrap().1.waiting.len(), 3);

    let mut again = Subscription::take_up(Arc::clone(&queue), schema);
    assert!(gate.is_closed());
    let mut seen: Vec<i64> = Vec::new();
    while let Some(Event::Rows(batch)) = again.try_next().unwrap() {
        seen.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    assert_eq!(seen, (1..=7).collect::<Vec<_>>());
    assert!(!gate.is_closed());
}
