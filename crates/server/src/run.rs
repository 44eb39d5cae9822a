//! `headwater run`: a pipeline from its start to its end.
//!
//! ```text
//!   load the file -> subscribe -> start sinks, then sources -> wait -> drain -> close
//!                                                               |
//!                            all sources ended, Ctrl-C, SIGTERM, or nobody reads any more
//! ```
//!
//! Nothing outside is touched before the whole file is right, and what is shown is subscribed to
//! before the first row. Rows are shown by threads of their own, so that a pipe nobody reads never
//! keeps a signal from being heard.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use headwater::Db;

use crate::failure::{self, Failure};
use crate::lines::{Lines, Out};
use crate::screen::Screen;
use crate::script::{Loaded, Script};
use crate::signals::{Signals, runtime};
use crate::{Database, File, script, show, terminal, trial};

/// The folder beside a file that keeps its data.
const DATA_FOLDER: &str = "headwater-data";
/// How often it looks whether all sources have ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long ending may take: the library gives sources and sinks 5 s each.
const ENDING_MAX: Duration = Duration::from_secs(12);
/// The exit code of a program that Ctrl-C killed.
const KILLED: i32 = 130;

/// What `run` is told.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    database: Database,
}

/// Runs the file.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let script = Script::read(&arguments.file.path)?;
    // All of it is tried first, so that a wrong file leaves nothing behind.
    script.load(&trial()?)?;
    let folder = data_folder(&arguments.file.path);
    let db = arguments.database.open(folder.clone(), false)?;
    let loaded = script.load(&db)?;
    if let Some(folder) = arguments.database.folder(folder) {
        warn_of_others(&db, &loaded, &script.name, &folder)?;
    }
    for (schema, batches) in &loaded.answers {
        show::print(schema, batches)?;
    }
    if loaded.sources.is_empty() {
        tracing::warn!(
            "no source of {} has a connector: nothing will arrive",
            script.name
        );
    }
    let pipeline = Pipeline::prepare(db, loaded)?;
    runtime()?.block_on(pipeline.run())
}

/// What an earlier file created goes on running until it is dropped: says so.
fn warn_of_others(db: &Db, loaded: &Loaded, file: &str, folder: &Path) -> Result<(), Failure> {
    let named = || loaded.names.iter().chain(&loaded.letters);
    let is_known = |name: &str| named().any(|it| it.eq_ignore_ascii_case(name));
    for (kind, name) in others(db, is_known).map_err(Failure::runtime)? {
        let drop = format!("DROP {} {name}", kind.to_uppercase());
        let folder = folder.display();
        failure::say(&format!(
            "warning: {kind} {name} is not in {file} and goes on running; \
             {drop} in `headwater sql --data {folder}` ends it"
        ));
    }
    Ok(())
}

/// Kind and name of what exists and is not known, those that read before those that are read.
fn others(db: &Db, is_known: impl Fn(&str) -> bool) -> headwater::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for table in [
        "SELECT 'sink', name FROM system.sinks",
        "SELECT kind, name FROM system.streams",
        "SELECT 'source', name FROM system.sources",
    ] {
        for batch in db.query(table)? {
            let (kinds, names) = (batch.column(0), batch.column(1));
            let rows = kinds
                .as_string::<i32>()
                .iter()
                .zip(names.as_string::<i32>());
            for (kind, name) in rows {
                if let (Some(kind), Some(name)) = (kind, name) {
                    found.push((kind.to_owned(), name.to_owned()));
                }
            }
        }
    }
    // The query of a sink goes with it.
    let of_sinks: Vec<String> = found
        .iter()
        .filter(|(kind, _)| kind == "sink")
        .map(|(_, sink)| format!("{sink}__query"))
        .collect();
    found.retain(|(_, name)| !is_known(name) && !of_sinks.contains(name));
    Ok(found)
}

/// Where the data of a file's pipeline is unless told: beside the file, so that pipelines in different
/// folders do not meet. What comes from the standard input is kept in memory.
pub fn data_folder(file: &Path) -> Option<PathBuf> {
    (file != Path::new("-")).then(|| file.with_file_name(DATA_FOLDER))
}

/// A pipeline and those who show its results.
struct Pipeline {
    db: Db,
    loaded: Loaded,
    shows: Vec<JoinHandle<io::Result<()>>>,
    ending: Arc<Ending>,
    /// How many rows of each source were bad before this run.
    bad_before: BTreeMap<String, u64>,
}

/// What those who wait for each other tell each other.
#[derive(Default)]
struct Ending {
    /// Nobody reads the results any more.
    unread: AtomicBool,
    /// The database is closed: nothing more comes.
    closed: AtomicBool,
}

impl Pipeline {
    fn prepare(db: Db, loaded: Loaded) -> Result<Self, Failure> {
        let mut pipeline = Self {
            db,
            loaded,
            shows: Vec::new(),
            ending: Arc::default(),
            bad_before: BTreeMap::new(),
        };
        pipeline.bad_before = pipeline.bad();
        match pipeline.has_screen() {
            true => pipeline.show_on_screen()?,
            false => pipeline.show_lines()?,
        }
        Ok(pipeline)
    }

    /// Whether results are drawn in place: not if a sink writes to the same terminal.
    fn has_screen(&self) -> bool {
        let shown = self.loaded.shown.len() + self.loaded.selects.len();
        terminal::draws_over(&io::stdout()) && !self.loaded.prints && shown > 0
    }

    fn show_on_screen(&mut self) -> Result<(), Failure> {
        let mut screen = Screen::new(self.db.clone());
        for name in &self.loaded.shown {
            let rows = self.db.subscribe_batches(name).map_err(Failure::runtime)?;
            screen.subscription(name, rows);
        }
        for select in &self.loaded.selects {
            screen.query(select).map_err(Failure::runtime)?;
        }
        let ending = Arc::clone(&self.ending);
        self.spawn(move || screen.run(|| ending.closed.load(Ordering::Acquire)));
        Ok(())
    }

    fn show_lines(&mut self) -> Result<(), Failure> {
        let out: Out = Arc::new(Mutex::new(io::BufWriter::new(io::stdout())));
        let several = self.loaded.shown.len() > 1;
        for name in self.loaded.shown.clone() {
            let rows = self
                .db
                .subscribe_lossless(&name)
                .map_err(Failure::runtime)?;
            let mut lines = Lines::new(Arc::clone(&out), several.then_some(name.as_str()))?;
            self.spawn(move || lines.follow(rows));
        }
        Ok(())
    }

    /// Runs `show` on its own thread and notes when nobody reads any more.
    fn spawn(&mut self, show: impl FnOnce() -> io::Result<()> + Send + 'static) {
        let ending = Arc::clone(&self.ending);
        self.shows.push(std::thread::spawn(move || {
            let shown = show();
            if shown.is_err() {
                ending.unread.store(true, Ordering::Release);
            }
            shown
        }));
    }

    async fn run(self) -> Result<(), Failure> {
        let mut signals = Signals::listen()?;
        self.db.start_connectors().map_err(Failure::runtime)?;
        tokio::select! {
            () = self.over() => {}
            () = signals.next() => {}
        }
        let ended = tokio::task::spawn_blocking(move || self.end());
        tokio::select! {
            ended = ended => ended.map_err(Failure::runtime)?,
            () = signals.next() => std::process::exit(KILLED),
            () = tokio::time::sleep(ENDING_MAX) => {
                let seconds = ENDING_MAX.as_secs();
                // Whatever still blocks would keep an orderly exit from ending.
                failure::say(&format!("error: not ended after {seconds} s; results may be missing"));
                std::process::exit(3);
            }
        }
    }

    /// Until all sources have ended, or nobody reads any more.
    async fn over(&self) {
        while !self.db.sources_ended() && !self.ending.unread.load(Ordering::Acquire) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Processes what has arrived, answers the queries that end, and closes everything. Blocks.
    fn end(self) -> Result<(), Failure> {
        let drained = self.db.drain();
        let answered = match self.has_screen() {
            true => Ok(()),
            false => self.answer_selects(),
        };
        let bad = self.bad_rows_told();
        self.db.close();
        self.ending.closed.store(true, Ordering::Release);
        for show in self.shows {
            show.thread().unpark();
            match show.join() {
                Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(Failure::runtime(format!(
                        "cannot show the results: {error}"
                    )));
                }
                _ => {}
            }
        }
        bad.iter().for_each(|line| eprintln!("{line}"));
        drained.map_err(Failure::runtime)?;
        answered?;
        script::tell_failures(&self.db)
    }

    /// How many bad rows of each source are kept beside it.
    fn bad(&self) -> BTreeMap<String, u64> {
        let sources = "SELECT name, CAST(bad - dead_letters AS BIGINT) FROM system.sources";
        // A closed database has nothing to say.
        let batches = self.db.query(sources).unwrap_or_default();
        let rows = batches.iter().flat_map(|rows| {
            let bad = rows.column(1).as_primitive::<Int64Type>().values();
            let names = rows.column(0).as_string::<i32>().iter();
            names.zip(bad.iter().copied())
        });
        let known = rows.filter_map(|(name, bad)| Some((name?.to_owned(), bad.max(0) as u64)));
        known.collect()
    }

    /// What to say of sources that brought rows that could not be decoded.
    fn bad_rows_told(&self) -> Vec<String> {
        let told = self.bad().into_iter().filter_map(|(source, bad)| {
            let before = self.bad_before.get(&source).copied().unwrap_or(0);
            let rows = bad.saturating_sub(before);
            let line = format!(
                "warning: {rows} rows of {source} could not be decoded: they are in {source}__bad"
            );
            (rows > 0).then_some(line)
        });
        told.collect()
    }

    fn answer_selects(&self) -> Result<(), Failure> {
        for select in &self.loaded.selects {
            let outcomes = self.db.execute(select).map_err(Failure::runtime)?;
            for outcome in outcomes {
                if let headwater::Outcome::Rows { schema, batches } = outcome {
                    show::print(&schema, &batches)?;
                }
            }
        }
        Ok(())
    }
}
