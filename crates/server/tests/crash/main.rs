//! Nothing is lost and nothing comes twice, whenever the program is killed.
//!
//! ```text
//!   rows with numbers ─► file ─► headwater run ─┬► rows.ndjson      each row as it came
//!          (or made by generate)       ▲        └► windows.ndjson   count and sum of each second
//!                                   SIGKILL
//! ```
//!
//! A round starts the program, kills it at a random moment (while it starts, while it catches up with
//! its log, or while it writes results) and looks at both files: the rows must be the first so many of
//! the truth, byte by byte, and each window must be there once and be right. The last round is left
//! alone until everything has come. Sinks and checkpoints are under way all the time, and the number of
//! workers changes from round to round.
//!
//! `just crash` runs 200 rounds; `HEADWATER_CRASH_ROUNDS` and `HEADWATER_CRASH_SEED` say how many and
//! which. After a failure the folder with everything in it stays, and its name is told.

mod program;
mod truth;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use program::Program;
use truth::{Input, Truth};

/// Rounds where nobody says how many.
const ROUNDS: u64 = 5;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// A pipeline that is killed again and again.
struct Scene {
    folder: PathBuf,
    input: Input,
    dice: Dice,
    truth: Truth,
    tally: Tally,
}

/// What the rounds were like: a test in which nothing happens must not pass.
#[derive(Default)]
struct Tally {
    rounds: u64,
    /// Rounds after which there were more rows than ever before.
    progressed: u64,
    /// Starts that had something to do again.
    recovered: u64,
    /// Kills before anything new was written.
    early: u64,
    most_rows: u64,
}

/// When the program is killed.
enum Moment {
    /// So long after it was started.
    AfterStart(Duration),
    /// So long after it went on where it was.
    AfterRecovery(Duration),
    /// So long after new rows were written.
    AfterRows(Duration),
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
        match dice.range(0, 10) {
            0..3 => Moment::AfterStart(Duration::from_millis(dice.range(10, 400))),
            3..5 => Moment::AfterRecovery(short(dice, 40)),
            _ => Moment::AfterRows(short(dice, 400)),
        }
    }

    /// Starts the program, kills it, and looks at what it left.
    fn round(&mut self) {
        let (moment, workers) = (self.moment(), self.dice.range(1, 3));
        let mut program = Program::start(&self.folder, workers);
        let more = self.tally.most_rows;
        let rest = match moment {
            Moment::AfterStart(rest) => rest,
            Moment::AfterRecovery(rest) => {
                self.wait(&mut program, |it, program| {
                    program.has_recovered() || it.rows_written() > more
                });
                rest
            }
            Moment::AfterRows(rest) => {
                self.wait(&mut program, |it, _| it.rows_written() > more);
                rest
            }
        };
        std::thread::sleep(rest);
        program.kill();
        let recovered = program.has_recovered();
        self.tally.rounds += 1;
        self.tally.recovered += u64::from(recovered);
        self.look();
    }

    /// Waits for something that must happen while the program runs.
    fn wait(&self, program: &mut Program, done: impl Fn(&Self, &Program) -> bool) {
        let began = Instant::now();
        while !done(self, program) {
            let told = || format!("{}\nin {}", program.told(), self.folder.display());
            assert!(began.elapsed() < PATIENCE, "nothing happens: {}", told());
            if let Some(status) = program.ended() {
                panic!("it ended by itself, {status}: {}", program.told());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// About how many rows have been written.
    fn rows_written(&self) -> u64 {
        let bytes = std::fs::metadata(self.path("rows.ndjson")).map_or(0, |file| file.len());
        self.truth.rows_in(bytes)
    }

    /// Both files are what they should be at any time.
    fn look(&mut self) {
        let read = |name| std::fs::read(self.path(name)).unwrap_or_default();
        let check = || {
            self.truth.check_windows(&read("windows.ndjson"))?;
            self.truth.check_bad(&read("bad.ndjson"))?;
            self.truth.check_rows(&read("rows.ndjson"))
        };
        let rows = check().unwrap_or_else(|wrong| {
            let round = self.tally.rounds;
            panic!("round {round}: {wrong}, in {}", self.folder.display())
        });
        match rows > self.tally.most_rows {
            true => self.tally.progressed += 1,
            false => self.tally.early += 1,
        }
        self.tally.most_rows = self.tally.most_rows.max(rows);
    }

    /// Lets the program do all there is to do; then everything must be there.
    fn last_round(&mut self, total: Option<u64>) -> u64 {
        let mut program = Program::start(&self.folder, 1);
        let total = total.unwrap_or(self.tally.most_rows + 2_000);
        let lines = |file: PathBuf| {
            let text = std::fs::read(file).unwrap_or_default();
            text.iter().filter(|byte| **byte == b'\n').count() as u64
        };
        let done = |it: &Self, _: &Program| {
            it.rows_written() >= total
                && lines(it.path("windows.ndjson")) >= it.truth.windows_of(total)
                && lines(it.path("bad.ndjson")) >= it.truth.bad_of(total)
        };
        self.wait(&mut program, done);
        program.end();
        self.look();
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
            tally.progressed * 3 >= tally.rounds && tally.recovered * 4 >= tally.rounds,
            "too little happened for this to prove anything"
        );
        // What a view kept over all this; rows may be made meanwhile.
        self.truth.check_totals(&self.folder, rows);
        self.look();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Adds lines to the input all the time, a line often in several pieces.
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

    /// Writes what is begun; how many rows there are.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.rows.load(Ordering::Relaxed)
    }
}

/// A file that is added to all the time; with `wal_mode` saying whether there is a log.
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

/// Nothing is fed again then: the file itself is read again from the cursor of the checkpoint.
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
