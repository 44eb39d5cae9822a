//! The script that the disk interrupts, how far it came, and what must be true after that.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use headwater::arrow::util::pretty::pretty_format_batches;
use headwater::{Builder, Db, Error, Record, Timestamp};
use headwater_log::lying::LyingDisk;

use crate::support::PATIENCE;

#[derive(Debug, Clone, PartialEq, Record)]
pub struct Trade {
    symbol: String,
    qty: i64,
    ts: Timestamp,
}

pub fn trade(number: i64) -> Trade {
    Trade {
        symbol: format!("s{}", number % 3),
        qty: number,
        ts: Timestamp::from_micros(number * 1_000_000),
    }
}

/// A source of trades with two views that start with its name.
pub fn source(name: &str, options: &str) -> String {
    format!(
        "CREATE SOURCE {name} (symbol VARCHAR NOT NULL, qty BIGINT NOT NULL, ts TIMESTAMP NOT NULL,
            WATERMARK FOR ts AS ts - INTERVAL '0 seconds') {options};
         CREATE VIEW {name}_totals AS SELECT symbol, COUNT(*) AS n, SUM(qty) AS qty FROM {name}
            GROUP BY symbol;
         CREATE VIEW {name}_minutes AS SELECT symbol, window_start, COUNT(*) AS n, SUM(qty) AS qty
            FROM {name} GROUP BY TUMBLE(ts, INTERVAL '20 seconds'), symbol"
    )
}

/// A builder whose logs have small files.
pub fn builder(workers: usize) -> Builder {
    Db::builder().workers(workers).segment_bytes(2_000)
}

/// Opens the database on this disk.
pub fn open(disk: &LyingDisk, workers: usize) -> Result<Db, Error> {
    builder(workers).open_on(Arc::new(disk.clone()), Path::new("/data"))
}

/// What is known of the rows of one source.
#[derive(Debug, Default)]
pub struct Rows {
    /// Whether creating it has returned.
    created: AtomicBool,
    pushed: AtomicI64,
    durable: AtomicI64,
}

type Done = Result<(), Box<dyn std::error::Error>>;

/// How far the script came.
#[derive(Debug, Default)]
pub struct Progress {
    /// Flushed now and then.
    pub trades: Rows,
    /// Each push is durable when it returns.
    pub ticks: Rows,
    /// Whether dropping `gone` and `old` has returned.
    dropped: AtomicBool,
    finished: AtomicBool,
    error: Mutex<Option<String>>,
}

impl Progress {
    pub fn finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap().clone()
    }

    fn sources(&self) -> [(&'static str, &Rows); 2] {
        [("trades", &self.trades), ("ticks", &self.ticks)]
    }

    fn push_trades(&self, db: &Db, count: i64) -> Done {
        let handle = db.source::<Trade>("trades")?;
        for _ in 0..count {
            let number = self.trades.pushed.fetch_add(1, Ordering::SeqCst);
            handle.push(trade(number))?;
        }
        Ok(db.settle()?)
    }

    fn flush(&self, db: &Db) -> Done {
        let pushed = self.trades.pushed.load(Ordering::SeqCst);
        db.flush()?;
        self.trades.durable.store(pushed, Ordering::SeqCst);
        Ok(())
    }

    fn push_ticks(&self, db: &Db, count: i64) -> Done {
        let handle = db.source::<Trade>("ticks")?;
        for _ in 0..count {
            let number = self.ticks.pushed.fetch_add(1, Ordering::SeqCst);
            handle.push(trade(number))?;
            self.ticks.durable.store(number + 1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn run(&self, db: &Db) -> Done {
        let small = "retention_bytes = '3KB'";
        db.execute(&source("trades", &format!("WITH ({small})")))?;
        self.trades.created.store(true, Ordering::SeqCst);
        self.push_trades(db, 10)?;
        self.flush(db)?;
        db.execute(&source(
            "ticks",
            &format!("WITH (wal_mode = 'sync', {small})"),
        ))?;
        self.ticks.created.store(true, Ordering::SeqCst);
        db.execute(
            "CREATE VIEW gone AS SELECT symbol, MAX(qty) AS qty FROM trades GROUP BY symbol",
        )?;
        self.push_ticks(db, 5)?;
        db.checkpoint()?;
        self.push_trades(db, 15)?;
        self.flush(db)?;
        db.execute(&source("old", ""))?;
        db.execute("DROP VIEW gone; DROP SOURCE old CASCADE")?;
        self.dropped.store(true, Ordering::SeqCst);
        for _ in 0..4 {
            self.push_trades(db, 20)?;
            self.push_ticks(db, 2)?;
            self.flush(db)?;
            db.checkpoint()?;
        }
        self.push_trades(db, 9)?;
        self.finished.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// Runs the script until it ends or the machine stops, and closes the database.
pub fn drive(disk: &LyingDisk, workers: usize) -> Arc<Progress> {
    let progress = Arc::new(Progress::default());
    let database = Arc::new(Mutex::new(None::<Db>));
    let (ended, end) = channel();
    let (disk_there, noted, slot) = (disk.clone(), Arc::clone(&progress), Arc::clone(&database));
    std::thread::spawn(move || {
        let opened = open(&disk_there, workers).map_err(Box::from);
        let done = opened.and_then(|db| {
            *slot.lock().unwrap() = Some(db.clone());
            let done = noted.run(&db);
            db.close();
            done
        });
        *noted.error.lock().unwrap() = done.err().map(|error| error.to_string());
        // The receiver may be gone.
        let _ = ended.send(());
    });
    while end.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
        let Some(db) = disk
            .is_down()
            .then(|| database.lock().unwrap().take())
            .flatten()
        else {
            continue;
        };
        db.close();
        end.recv_timeout(PATIENCE)
            .expect("the script ends when the database is closed");
        break;
    }
    progress
}

type Views = (String, String);

/// What the views of a source hold.
pub fn views(db: &Db, name: &str) -> Views {
    let totals = format!("SELECT symbol, n, qty FROM {name}_totals ORDER BY 1, 2, 3");
    let minutes =
        format!("SELECT window_start, symbol, n, qty FROM {name}_minutes ORDER BY 1, 2, 3, 4");
    let table = |sql: &str| {
        let rows = db.query(sql).unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    };
    (table(&totals), table(&minutes))
}

/// What they hold in a database that was given the first rows and never stopped.
pub fn truth(rows: i64) -> Views {
    static KNOWN: OnceLock<Mutex<HashMap<i64, Views>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap();
    let made = || {
        let db = Db::builder().workers(1).in_memory().unwrap();
        db.execute(&source("trades", "")).unwrap();
        push(&db, "trades", 0..rows);
        views(&db, "trades")
    };
    known.entry(rows).or_insert_with(made).clone()
}

pub fn push(db: &Db, name: &str, numbers: std::ops::Range<i64>) {
    let rows: Vec<Trade> = numbers.map(trade).collect();
    db.source::<Trade>(name).unwrap().push_batch(&rows).unwrap();
    db.settle().unwrap();
}

/// A number that a query answers; `None` for NULL.
pub fn numbers(db: &Db, sql: &str) -> Vec<Option<i64>> {
    use headwater::arrow::array::{Array, AsArray};
    use headwater::arrow::datatypes::Int64Type;
    let rows = db.query(sql).unwrap();
    let row = rows.iter().find(|batch| batch.num_rows() > 0).unwrap();
    let columns = row.columns().iter().map(|column| {
        let column = column.as_primitive::<Int64Type>();
        (!column.is_null(0)).then(|| column.value(0))
    });
    columns.collect()
}

/// Checks what a database knows after the script came this far, and that it goes on from there.
pub fn check(db: &Db, progress: &Progress) {
    check_views(db, progress);
    go_on(db);
}

/// Like [`check`], for a disk that may have lost what it had confirmed.
pub fn check_lied(db: &Db, progress: &Progress) {
    for (name, rows) in progress.sources() {
        if has(db, name) {
            check_rows(db, name, 0, rows.pushed.load(Ordering::SeqCst));
        }
    }
    go_on(db);
}

/// Checks what a database knows after the script came this far.
pub fn check_views(db: &Db, progress: &Progress) {
    if progress.dropped.load(Ordering::SeqCst) {
        assert!(
            !has(db, "old") && !names(db).contains("gone"),
            "{}",
            names(db)
        );
    }
    for (name, rows) in progress.sources() {
        let created = rows.created.load(Ordering::SeqCst);
        assert!(
            !created || has(db, name),
            "{name} was created, and is not there"
        );
        if has(db, name) {
            let (durable, pushed) = (&rows.durable, &rows.pushed);
            check_rows(
                db,
                name,
                durable.load(Ordering::SeqCst),
                pushed.load(Ordering::SeqCst),
            );
        }
    }
}

fn names(db: &Db) -> String {
    let names = db.query("SELECT name FROM system.streams").unwrap();
    pretty_format_batches(&names).unwrap().to_string()
}

/// Whether there is the second view of this source, and with it all of it.
fn has(db: &Db, source: &str) -> bool {
    names(db).contains(&format!("{source}_minutes"))
}

fn rows_of(db: &Db, name: &str) -> i64 {
    let n = format!("SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM {name}_totals");
    numbers(db, &n)[0].unwrap()
}

fn check_rows(db: &Db, name: &str, least: i64, most: i64) {
    let there = rows_of(db, name);
    let may_be = least..=most;
    assert!(
        may_be.contains(&there),
        "{name}: {there} rows of {may_be:?}"
    );
    assert_eq!(views(db, name), truth(there), "{name} with {there} rows");
}

/// Each source takes more rows, and is as if it had never stopped.
fn go_on(db: &Db) {
    for name in ["trades", "ticks"] {
        if has(db, name) {
            let there = rows_of(db, name);
            check_history(db, name, there);
            push(db, name, there..there + 7);
            assert_eq!(
                views(db, name),
                truth(there + 7),
                "{name} goes on after {there} rows"
            );
            check_history(db, name, there + 7);
        }
    }
}

/// The log holds the last rows without a hole.
fn check_history(db: &Db, name: &str, there: i64) {
    let kept = numbers(
        db,
        &format!("SELECT COUNT(*), MIN(qty), MAX(qty) FROM {name}"),
    );
    if let [Some(count), Some(least), Some(most)] = kept[..] {
        assert_eq!(
            (most, count),
            (there - 1, most - least + 1),
            "{name}: {kept:?}"
        );
    }
}
