//! No row is lost or duplicated, whenever the program is killed.
//!
//! ```text
//!   rows with numbers ─► file ─► headwater run ─┬► rows.ndjson      each row as it came
//!          (or made by generate)       ▲        └► windows.ndjson   count and sum of each second
//!                                   SIGKILL
//! ```
//!
//! A round starts the program, kills it at a random moment (while it starts, while it replays its log,
//! or while it writes results) and checks both files: the rows must be a prefix of the expected text,
//! byte by byte, and each window must be there once with the right values. The last round runs until
//! everything has been written. Sinks write and checkpoints are saved all the time, and the number of
//! workers changes from round to round.
//!
//! `just crash` runs 200 rounds; `HEADWATER_CRASH_ROUNDS` and `HEADWATER_CRASH_SEED` set their number and
//! the seed. A failed test keeps its folder and prints its name.

mod pipeline;
#[path = "../support/mod.rs"]
mod support;
mod truth;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pipeline::Pipeline;
use support::until;
use truth::{Input, Truth};

/// Default number of rounds.
const ROUNDS: u64 = 5;

/// Random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    fn one_in(&mut self, several: u64) -> bool {
        self.range(0, several) == 0
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |given| {
        given.parse().unwrap_or_else(|_| panic!("{name}={given:?}"))
    })
}

/// A pipeline that is killed in each round.
struct Scene {
    folder: PathBuf,
    input: Input,
    dice: Dice,
    truth: Truth,
    tally: Tally,
}

/// What happened in the rounds: a test in which nothing happens must not pass.
#[derive(Default)]
struct Tally {
    rounds: u64,
    /// Rounds that wrote new rows.
    progressed: u64,
    /// Rounds that recovered from the log or truncated a file.
    recovered: u64,
    /// Rounds killed before a new row was written.
    early: u64,
    most_rows: u64,
}

/// When the program is killed.
enum Moment {
    /// This long after the start.
    Start(Duration),
    /// This long after recovery.
    Recovery(Duration),
    /// This long after new rows were written.
    Rows(Duration),
}

impl Scene {
    fn new(input: Input, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let scene = Self {
            input,
            dice: Dice(seed),
            truth: Truth::new(input),
            tally: Tally::default(),
            folder,
        };
        std::fs::write(scene.path("pipeline.sql"), input.sql(&scene.folder)).unwrap();
        std::fs::write(scene.path("in.ndjson"), "").unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn moment(&mut self) -> Moment {
        let dice = &mut self.dice;
        let short = |dice: &mut Dice, most| Duration::from_millis(dice.range(0, most));
        // Every other round writes rows, which the next has to recover.
        match (self.tally.rounds.is_multiple_of(2), dice.one_in(2)) {
            (true, _) => Moment::Rows(short(dice, 400)),
            (false, true) => Moment::Recovery(short(dice, 40)),
            (false, false) => Moment::Start(Duration::from_millis(dice.range(10, 400))),
        }
    }

    /// Starts the program, kills it, and checks its files.
    fn round(&mut self) {
        let (moment, workers) = (self.moment(), self.dice.range(1, 3));
        let mut pipeline = Pipeline::start(&self.folder, workers);
        let more = self.tally.most_rows;
        let rest = match moment {
            Moment::Start(rest) => rest,
            Moment::Recovery(rest) => {
                self.wait(&mut pipeline, "recovery or a new row", |it, pipeline| {
                    pipeline.has_recovered() || it.rows_written() > more
                });
                rest
            }
            Moment::Rows(rest) => {
                self.wait(&mut pipeline, "a new row", |it, _| it.rows_written() > more);
                rest
            }
        };
        std::thread::sleep(rest);
        pipeline.kill();
        let recovered = pipeline.has_recovered();
        self.tally.rounds += 1;
        self.tally.recovered += u64::from(recovered);
        self.check();
    }

    /// Waits until `done` while the program runs.
    fn wait(
        &self,
        pipeline: &mut Pipeline,
        awaited: &str,
        done: impl Fn(&Self, &Pipeline) -> bool,
    ) {
        until(&format!("{awaited}, in {}", self.folder.display()), || {
            if let Some(status) = pipeline.ended() {
                panic!("it ended by itself, {status}: {}", pipeline.log());
            }
            done(self, pipeline)
        });
    }

    /// Number of rows written so far.
    fn rows_written(&self) -> u64 {
        let bytes = std::fs::metadata(self.path("rows.ndjson")).map_or(0, |file| file.len());
        self.truth.rows_in(bytes)
    }

    /// Checks the files, which must be right at any time.
    fn check(&mut self) {
        let read = |name| std::fs::read(self.path(name)).unwrap_or_default();
        let found = || {
            self.truth.check_windows(&read("windows.ndjson"))?;
            self.truth.check_bad(&read("bad.ndjson"))?;
            self.truth.check_rows(&read("rows.ndjson"))
        };
        let rows = found().unwrap_or_else(|wrong| {
            let round = self.tally.rounds;
            panic!("round {round}: {wrong}, in {}", self.folder.display())
        });
        match rows > self.tally.most_rows {
            true => self.tally.progressed += 1,
            false => self.tally.early += 1,
        }
        self.tally.most_rows = self.tally.most_rows.max(rows);
    }

    /// Lets the program write everything, then checks it; `total` rows unless they are made without end.
    fn last_round(&mut self, total: Option<u64>) -> u64 {
        let mut pipeline = Pipeline::start(&self.folder, 1);
        let total = total.unwrap_or(self.tally.most_rows + 2_000);
        let lines = |file: PathBuf| {
            let text = std::fs::read(file).unwrap_or_default();
            text.iter().filter(|byte| **byte == b'\n').count() as u64
        };
        let done = |it: &Self, _: &Pipeline| {
            it.rows_written() >= total
                && lines(it.path("windows.ndjson")) >= it.truth.windows_of(total)
                && lines(it.path("bad.ndjson")) >= it.truth.bad_of(total)
        };
        self.wait(&mut pipeline, "all rows", done);
        pipeline.end();
        self.check();
        self.tally.most_rows
    }

    fn finish(mut self, rows: u64) {
        let tally = &self.tally;
        let windows = std::fs::read(self.path("windows.ndjson")).unwrap();
        let windows = self.truth.check_windows(&windows).unwrap();
        let (lost, duplicated) = self.truth.count(&self.path("rows.ndjson"), rows);
        println!(
            "{:?}: rounds {}, rows {rows}, windows {windows}, lost {lost}, duplicated {duplicated} \
             ({} rounds wrote new rows, {} recovered, {} were killed before a new row)",
            self.input, tally.rounds, tally.progressed, tally.recovered, tally.early
        );
        assert_eq!((lost, duplicated), (0, 0));
        assert!(windows > 0, "no window closed");
        assert!(
            tally.progressed * 3 >= tally.rounds && tally.recovered * 5 >= tally.rounds,
            "too little happened for this to prove anything"
        );
        // This starts the pipeline once more, which may write more rows.
        self.truth.check_totals(&self.folder, rows);
        self.check();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// A thread that appends lines to the input, often in several pieces.
struct Writer {
    stop: Arc<AtomicBool>,
    rows: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(path: &Path, seed: u64) -> Self {
        let (stop, rows) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ended, written, path) = (Arc::clone(&stop), Arc::clone(&rows), path.to_owned());
        let thread = std::thread::spawn(move || {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            let (mut dice, mut waiting) = (Dice(seed), Vec::new());
            while !ended.load(Ordering::Relaxed) {
                let burst = if dice.one_in(50) { 300 } else { 12 };
                for _ in 0..dice.range(0, burst) {
                    let seq = written.fetch_add(1, Ordering::Relaxed);
                    waiting.extend(truth::line(seq).into_bytes());
                }
                let piece = dice.range(0, waiting.len() as u64 + 1) as usize;
                file.write_all(&waiting[..piece]).unwrap();
                waiting.drain(..piece);
                std::thread::sleep(Duration::from_millis(dice.range(1, 4)));
            }
            file.write_all(&waiting).unwrap();
        });
        Self { stop, rows, thread }
    }

    /// Completes the last line; returns the number of rows.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.rows.load(Ordering::Relaxed)
    }
}

/// A file that grows all the time, with this `wal_mode`.
fn file_into_files(wal_mode: &'static str, seed: u64) {
    let seed = setting("HEADWATER_CRASH_SEED", 1).wrapping_add(seed);
    let mut scene = Scene::new(Input::File(wal_mode), seed);
    let writer = Writer::start(&scene.path("in.ndjson"), seed);
    for _ in 0..setting("HEADWATER_CRASH_ROUNDS", ROUNDS) {
        scene.round();
    }
    let total = writer.end();
    let rows = scene.last_round(Some(total));
    assert_eq!(rows, total);
    scene.finish(rows);
}

#[test]
fn a_file_is_read_into_files() {
    file_into_files("async", 0);
}

#[test]
fn a_file_is_read_into_files_and_the_log_is_synced() {
    file_into_files("sync", 1_000);
}

/// Recovery then reads the file again from the cursor of the checkpoint.
#[test]
fn a_file_is_read_into_files_without_a_log() {
    file_into_files("off", 2_000);
}

#[test]
fn generated_rows_go_into_files() {
    let seed = setting("HEADWATER_CRASH_SEED", 1).wrapping_add(3_000);
    let mut scene = Scene::new(Input::Generate, seed);
    for _ in 0..setting("HEADWATER_CRASH_ROUNDS", ROUNDS) {
        scene.round();
    }
    let rows = scene.last_round(None);
    scene.finish(rows);
}
