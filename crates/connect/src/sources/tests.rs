//! The flows of the event sources: register, create, read, save, continue. What goes wrong is in
//! `failures.rs`.

mod failures;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::conform::within;
use crate::options::{ByteSize, OptionSet, Options, Secret, Value};
use crate::{Delivery, End, Gap, Lifecycle, Output, Retry, Source, SourceKind, State};

/// A folder with an event log, and a factory that keeps its cursors beside it.
struct Bench {
    folder: tempfile::TempDir,
    sources: Sources,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sources = Self::factory(&folder);
        Self { folder, sources }
    }

    fn factory(folder: &tempfile::TempDir) -> Sources {
        let cursors = FolderCursors::open(folder.path().join("cursors")).unwrap();
        Sources::new(Connectors::builtin(), cursors)
    }

    /// As after a restart of the program.
    fn restart(&mut self) {
        self.sources = Self::factory(&self.folder);
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("events")
    }

    fn append(&self, text: &str) {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.log());
        log.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn config(&self) -> SourceConfig {
        let path = self.log().display().to_string();
        SourceConfig::new()
            .option("path", path.as_str())
            .option("follow", false)
    }

    async fn create(&self, config: SourceConfig) -> Result<ActiveSource> {
        self.sources
            .create("file", "repo", Credentials::new(), config)
            .await
    }

    /// Everything that is new, saved.
    async fn sync(&self) -> Vec<String> {
        let mut source = self.create(self.config()).await.unwrap();
        let events = all(&mut source).await;
        self.sources.save_cursor("repo").await.unwrap();
        assert!(self.sources.close("repo").await);
        events
    }
}

fn lines(delivery: &Delivery) -> Vec<String> {
    let rows = delivery.rows.column(0).as_string::<i32>().iter().flatten();
    rows.map(str::to_owned).collect()
}

async fn all(source: &mut ActiveSource) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(delivery) = source.next().await {
        events.extend(lines(&delivery.unwrap()));
    }
    events
}

fn numbers(rows: u64) -> SourceConfig {
    let config =
        json!({ "kind": "nexmark", "table": "person", "rows": rows, "rows_per_second": 0 });
    SourceConfig::from_json(config).unwrap()
}

/// Emits `hello` with its token; its `mood` decides the rest.
struct Greeter(GreeterOptions);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GreeterOptions {
    /// The token that it greets with.
    token: Secret,
    /// `well`, `away`, `refused` or `ill`.
    #[serde(default)]
    mood: String,
}

impl Options for GreeterOptions {}

/// Whether the greeters that are away have come back.
static BACK: AtomicBool = AtomicBool::new(false);

#[async_trait]
impl Source for Greeter {
    async fn validate(&self) -> Result<()> {
        let target = "the greeter".to_owned();
        let reason = "nobody there".to_owned();
        let retry = Retry::Backoff;
        match self.0.mood.as_str() {
            "away" if !BACK.load(Relaxed) => Err(Error::Unreachable {
                target,
                reason,
                retry,
            }),
            "refused" => Err(Error::Refused {
                target,
                reason,
                retry,
            }),
            _ => Ok(()),
        }
    }

    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> Result<End> {
        out.lifecycle(Lifecycle::Connected { to: "you".into() })
            .await?;
        let hello = format!("hello {}", self.0.token.expose().len());
        out.frame(hello.as_bytes()).await?;
        let reason = "it yawned".to_owned();
        out.gap(Gap {
            reason,
            from: None,
            to: None,
        })
        .await?;
        match self.0.mood.as_str() {
            "ill" => Err(Error::Generate {
                reason: "it is ill".into(),
            }),
            _ => {
                stop.cancelled().await;
                Ok(End::Stopped)
            }
        }
    }
}

const GREETER: Connector = Connector {
    name: "greeter",
    summary: "somebody who says hello",
    source: Some(SourceKind {
        options: OptionSet::of::<GreeterOptions>(),
        formats: &["text"],
        max_frame: ByteSize::mib(1),
        columns: SourceKind::declared_columns,
        create: |args| Ok(Box::new(Greeter(args.options.get()?))),
    }),
    sink: None,
};

fn with_greeter() -> Sources {
    let sources = Sources::new(Connectors::builtin(), MemoryCursors::default());
    sources.register(GREETER).unwrap();
    sources
}

async fn greeter(sources: &Sources, id: &str, mood: &str) -> Result<ActiveSource> {
    let credentials = Credentials::new().with("token", "hunter2");
    let config = SourceConfig::new().option("mood", mood);
    sources.create("greeter", id, credentials, config).await
}

#[tokio::test]
async fn kinds_are_registered_under_the_rules_of_every_connector() {
    let sources = Sources::new(Connectors::builtin(), MemoryCursors::default());
    assert_eq!(
        sources.registered(),
        ["file", "generate", "process", "websocket"]
    );
    assert!(!sources.is_available("greeter"));
    sources.register(GREETER).unwrap();
    assert!(sources.is_available("greeter") && sources.is_available("GREETER"));
    assert!(sources.registered().contains(&"greeter".to_owned()));
    let again = sources.register(GREETER).unwrap_err();
    assert!(matches!(again, Error::DuplicateConnector { .. }));
    let bad = sources
        .register(Connector {
            name: "Bad Name",
            ..GREETER
        })
        .unwrap_err();
    assert!(matches!(bad, Error::BadConnector { .. }));
    let none = sources
        .register(Connector {
            name: "mute",
            source: None,
            ..GREETER
        })
        .unwrap_err();
    assert_eq!(none.to_string(), "connector mute is not a source");
    assert!(!sources.is_available("stdout"), "it is only a sink");
}

#[tokio::test]
async fn a_source_is_created_read_and_its_cursor_saved() {
    let bench = Bench::new();
    bench.append("c1\nc2\n");
    let mut source = bench.create(bench.config()).await.unwrap();
    assert_eq!((source.id(), source.kind()), ("repo", "file"));
    assert!(source.supports_incremental());
    source.validate().await.unwrap();
    assert_eq!(source.get_cursor(), None);
    let active = bench.sources.active();
    assert_eq!(active["repo"].status.state, State::Initial);
    assert_eq!(bench.sources.save_cursor("repo").await.unwrap(), None);

    assert_eq!(all(&mut source).await, ["c1", "c2"]);
    assert!(source.next().await.is_none(), "it has ended");
    let saved = bench.sources.save_cursor("repo").await.unwrap();
    assert!(saved.is_some());
    assert_eq!(saved, source.get_cursor());
    assert_eq!(saved, bench.sources.load_cursor("repo").await.unwrap());
    let stats = bench.sources.stats();
    assert_eq!(
        (stats.created, stats.closed, stats.cursors_saved, stats.rows),
        (1, 0, 1, 2)
    );
    let of_one = &stats.active["repo"];
    assert_eq!(
        (of_one.kind, of_one.batches, of_one.rows, of_one.bad),
        ("file", 1, 2, 0)
    );
    assert_eq!(of_one.status.state, State::Stopped);
    assert!(of_one.created_us > 0 && of_one.status.started_us.is_some());
}

#[tokio::test]
async fn the_next_sync_yields_only_what_is_new() {
    let mut bench = Bench::new();
    bench.append("c1\nc2\n");
    assert_eq!(bench.sync().await, ["c1", "c2"]);
    bench.append("c3\n");
    bench.restart();
    assert_eq!(bench.sync().await, ["c3"]);
    bench.restart();
    assert_eq!(bench.sync().await.len(), 0);
    bench.append("c4\n");
    assert_eq!(bench.sync().await, ["c4"]);
}

#[tokio::test]
async fn a_cursor_in_the_config_counts_more_than_the_saved_one() {
    let bench = Bench::new();
    bench.append("c1\n");
    let mut source = bench.create(bench.config()).await.unwrap();
    all(&mut source).await;
    let first = source.get_cursor().unwrap();
    bench.append("c2\n");
    bench.sources.close("repo").await;
    let mut source = bench
        .create(bench.config().cursor(first.clone()))
        .await
        .unwrap();
    assert_eq!(all(&mut source).await, ["c2"]);
    bench.sources.save_cursor("repo").await.unwrap();
    bench.sources.close("repo").await;
    // As JSON, the way a program in another language would give it.
    let path = bench.log().display().to_string();
    let config = json!({ "path": [path], "follow": false, "cursor": first.0 });
    let config = SourceConfig::from_json(config).unwrap();
    let mut source = bench.create(config).await.unwrap();
    assert_eq!(all(&mut source).await, ["c2"]);
}

#[tokio::test]
async fn a_cursor_covers_what_was_yielded_and_not_what_was_read() {
    let sources = Sources::new(Connectors::builtin(), MemoryCursors::default());
    let create = || sources.create("generate", "g", Credentials::new(), numbers(100_000));
    let ids = |delivery: &Delivery| {
        let column = delivery.rows.column_by_name("id").unwrap();
        column.as_primitive::<Int64Type>().values().to_vec()
    };
    let mut seen = Vec::new();
    // Each reader takes two batches and goes; the source had read ahead.
    for _ in 0..10 {
        let mut source = create().await.unwrap();
        for _ in 0..2 {
            if let Some(delivery) = source.next().await {
                seen.extend(ids(&delivery.unwrap()));
            }
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        sources.save_cursor("g").await.unwrap();
        drop(source);
        assert!(sources.close("g").await);
    }
    assert!(seen.into_iter().eq(1_000..101_000));
}

#[tokio::test]
async fn a_reader_that_does_not_ask_keeps_the_source_from_reading_on() {
    let sources = Sources::new(Connectors::builtin(), MemoryCursors::default());
    let source = sources.create("generate", "g", Credentials::new(), numbers(u64::MAX >> 1));
    let mut source = source.await.unwrap();
    source.next().await.unwrap().unwrap();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let read = source.stats().status.rows;
    assert!(read <= 4 * 8_192, "{read}");
    let before = tokio::time::Instant::now();
    sources.close_all().await;
    assert!(
        before.elapsed() < Duration::from_secs(4),
        "it did not wait for its reader"
    );
    assert!(source.next().await.is_none());
}

#[tokio::test]
async fn set_cursor_goes_on_from_there() {
    let bench = Bench::new();
    bench.append("c1\n");
    let mut source = bench.create(bench.config()).await.unwrap();
    all(&mut source).await;
    let first = source.get_cursor().unwrap();
    bench.append("c2\n");
    source.set_cursor(first.clone()).await.unwrap();
    assert_eq!(source.get_cursor(), Some(first.clone()));
    assert_eq!(all(&mut source).await, ["c2"]);
    source.set_cursor(first).await.unwrap();
    assert_eq!(all(&mut source).await, ["c2"]);
    let covered = source.get_cursor();
    let error = source
        .set_cursor(Cursor(json!("elsewhere")))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::BadCursor { .. }));
    assert_eq!(source.get_cursor(), covered);
    let sources = with_greeter();
    let mut source = greeter(&sources, "g", "well").await.unwrap();
    let error = source.set_cursor(Cursor(json!(1))).await.unwrap_err();
    assert!(matches!(error, Error::NotIncremental { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_one_factory() {
    let sources = Arc::new(Sources::new(
        Connectors::builtin(),
        MemoryCursors::default(),
    ));
    let tasks: Vec<_> = (0..20_u64)
        .map(|at| {
            let sources = sources.clone();
            tokio::spawn(async move {
                let id = format!("source {at}");
                let source =
                    sources.create("generate", &id, Credentials::new(), numbers(1_000 + at));
                let mut source = source.await.unwrap();
                let mut rows = 0;
                while let Some(delivery) = source.next().await {
                    rows += delivery.unwrap().rows.num_rows() as u64;
                }
                sources.save_cursor(&id).await.unwrap();
                rows
            })
        })
        .collect();
    for (at, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), 1_000 + at as u64);
    }
    let racing =
        join_all((0..8).map(|_| sources.create("generate", "one", Credentials::new(), numbers(1))));
    let made = racing.await.into_iter().filter(Result::is_ok).count();
    assert_eq!((made, sources.stats().created), (1, 21));
    assert_eq!(sources.close_all().await, 21);
    assert!(sources.active().is_empty());
    assert_eq!(sources.stats().closed, 21);
}

#[tokio::test]
async fn closing_ends_the_stream_of_a_source_that_would_never_end() {
    let sources = Arc::new(with_greeter());
    let mut source = greeter(&sources, "a", "well").await.unwrap();
    source.next().await.unwrap().unwrap();
    let reader = tokio::spawn(async move { source.next().await.is_none() });
    assert!(sources.close("a").await);
    assert!(reader.await.unwrap());
    let mut never = greeter(&sources, "a", "well").await.unwrap();
    sources.close("a").await;
    assert!(
        never.next().await.is_none(),
        "nor does one start that was closed before"
    );
}

#[tokio::test]
async fn dropping_a_stream_stops_its_source() {
    let sources = with_greeter();
    let mut source = greeter(&sources, "a", "well").await.unwrap();
    source.next().await.unwrap().unwrap();
    let mut status = source.tracked_status();
    drop(source);
    let stopped = status.wait_for(|status| status.state == State::Stopped);
    within("the state stopped", stopped).await.unwrap();
    assert!(sources.active().contains_key("a"));
}

#[test]
fn a_config_may_be_json() {
    let config = json!({ "n": 1, "x": 0.5, "t": "a", "b": true, "l": ["a"], "m": { "A": "b" } });
    let read = SourceConfig::from_json(config).unwrap().given;
    let read: Vec<_> = read.into_iter().map(|it| (it.key, it.value)).collect();
    let text = |text: &str| Value::Text(text.to_owned());
    let expected = [
        ("b", Value::Bool(true)),
        ("l", Value::List(vec![text("a")])),
        ("m.A", text("b")),
        ("n", Value::Integer(1)),
        ("t", text("a")),
        ("x", Value::Number(0.5)),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value));
    assert_eq!(read, expected);
    for bad in [json!([]), json!({ "a": null }), json!({ "a": [{}] })] {
        assert!(SourceConfig::from_json(bad).is_err());
    }
}

/// Keeps the first cursor only when it is let go.
#[derive(Default)]
struct SlowAtFirst {
    cursors: MemoryCursors,
    called: AtomicBool,
    gate: tokio::sync::Notify,
}

#[async_trait]
impl CursorStore for SlowAtFirst {
    async fn save(&self, id: &str, cursor: &Cursor) -> std::result::Result<(), StoreError> {
        if !self.called.swap(true, Relaxed) {
            self.gate.notified().await;
        }
        self.cursors.save(id, cursor).await
    }

    async fn load(&self, id: &str) -> std::result::Result<Option<Cursor>, StoreError> {
        self.cursors.load(id).await
    }
}

#[tokio::test]
async fn an_older_cursor_never_follows_a_newer_one() {
    let store = Arc::new(SlowAtFirst::default());
    let sources = Sources::new(Connectors::builtin(), store.clone());
    let source = sources.create("generate", "g", Credentials::new(), numbers(100_000));
    let mut source = source.await.unwrap();
    source.next().await.unwrap().unwrap();
    let newer = async {
        source.next().await.unwrap().unwrap();
        let first = sources.save_cursor("g");
        tokio::pin!(first);
        let waits = tokio::time::timeout(Duration::from_millis(50), &mut first).await;
        store.gate.notify_one();
        assert!(waits.is_err(), "it waits for the one before");
        first.await.unwrap()
    };
    let (_, newer) = tokio::join!(sources.save_cursor("g"), newer);
    assert_eq!(sources.load_cursor("g").await.unwrap(), newer);
    assert_eq!(newer, source.get_cursor());
}
