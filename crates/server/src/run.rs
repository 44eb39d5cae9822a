//! `headwater run`: a pipeline from its start to its end.
//!
//! ```text
//!   load the file -> subscribe -> start sinks, then sources -> wait -> drain -> close
//!                                                               |
//!                            all sources ended, Ctrl-C, SIGTERM, or the output is closed
//! ```
//!
//! No external system is touched before the whole file is right, and the program subscribes before the
//! first row. Separate threads show the rows, so that a full pipe never delays a signal.

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
use tokio::signal::unix::SignalKind;

use crate::error::{self, CliError};
use crate::lines::{JsonLines, SharedOutput};
use crate::screen::Screen;
use crate::script::{LoadedScript, SqlScript};
use crate::signals::{Signals, exit_code, no_thread, on_thread, runtime};
use crate::{DatabaseArguments, SqlFile, script, show, terminal, trial};

/// The name of the data folder beside a file.
const DATA_FOLDER: &str = "headwater-data";
/// Time between two checks whether all sources have ended.
const POLL: Duration = Duration::from_millis(50);
/// The longest shutdown: the library gives sources and sinks 5 s each.
const SHUTDOWN_MAX: Duration = Duration::from_secs(12);

#[derive(clap::Args)]
pub struct RunArguments {
    #[command(flatten)]
    file: SqlFile,
    #[command(flatten)]
    database: DatabaseArguments,
}

/// Runs the pipeline of a file until it ends.
pub fn run(arguments: &RunArguments) -> Result<(), CliError> {
    let script = SqlScript::read(&arguments.file.path)?;
    // Tries all statements first, so that a wrong file leaves nothing behind.
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

/// Warns of what an earlier file created: it goes on running until it is dropped.
fn warn_of_others(
    db: &Db,
    loaded: &LoadedScript,
    file: &str,
    folder: &Path,
) -> Result<(), CliError> {
    let named = || loaded.names.iter().chain(&loaded.dead_letters);
    let is_known = |name: &str| named().any(|it| it.eq_ignore_ascii_case(name));
    for (kind, name) in others(db, is_known).map_err(CliError::runtime)? {
        let drop = format!("DROP {} {name}", kind.to_uppercase());
        let folder = folder.display();
        error::print_error(&format!(
            "warning: {kind} {name} is not in {file} and goes on running; \
             {drop} in `headwater sql --data {folder}` ends it"
        ));
    }
    Ok(())
}

/// Kind and name of all that exists and is not known, readers before what they read: the order in which
/// they can be dropped.
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
    // A sink's own query is dropped with it.
    let of_sinks: Vec<String> = found
        .iter()
        .filter(|(kind, _)| kind == "sink")
        .map(|(_, sink)| format!("{sink}__query"))
        .collect();
    found.retain(|(_, name)| !is_known(name) && !of_sinks.contains(name));
    Ok(found)
}

/// The default data folder of a pipeline: beside its file, so that pipelines in different folders do not
/// share one. None for the standard input, which runs in memory.
pub fn data_folder(file: &Path) -> Option<PathBuf> {
    (file != Path::new("-")).then(|| file.with_file_name(DATA_FOLDER))
}

/// A pipeline, and the threads that show its results.
struct Pipeline {
    db: Db,
    loaded: LoadedScript,
    shows: Vec<JoinHandle<io::Result<()>>>,
    shutdown: Arc<ShutdownFlags>,
    /// The number of bad rows of each source before this run.
    bad_before: BTreeMap<String, u64>,
}

/// Flags that the main thread and the threads that show rows set for each other.
#[derive(Default)]
struct ShutdownFlags {
    /// The output is closed: no more results can be shown.
    unread: AtomicBool,
    /// The database is closed: no more rows come.
    closed: AtomicBool,
}

impl Pipeline {
    fn prepare(db: Db, loaded: LoadedScript) -> Result<Self, CliError> {
        let mut pipeline = Self {
            db,
            loaded,
            shows: Vec::new(),
            shutdown: Arc::default(),
            bad_before: BTreeMap::new(),
        };
        pipeline.bad_before = pipeline.bad();
        match pipeline.has_screen() {
            true => pipeline.show_on_screen()?,
            false => pipeline.show_lines()?,
        }
        Ok(pipeline)
    }

    /// Whether results are redrawn in place: not if a sink writes to the same terminal.
    fn has_screen(&self) -> bool {
        let shown = self.loaded.shown.len() + self.loaded.selects.len();
        terminal::redraws(&io::stdout()) && !self.loaded.prints && shown > 0
    }

    fn show_on_screen(&mut self) -> Result<(), CliError> {
        let mut screen = Screen::new(self.db.clone());
        for name in &self.loaded.shown {
            let rows = self.db.subscribe_batches(name).map_err(CliError::runtime)?;
            screen.subscription(name, rows);
        }
        for select in &self.loaded.selects {
            screen.query(select).map_err(CliError::runtime)?;
        }
        let shutdown = Arc::clone(&self.shutdown);
        self.spawn(move || screen.run(|| shutdown.closed.load(Ordering::Acquire)))
    }

    fn show_lines(&mut self) -> Result<(), CliError> {
        let out: SharedOutput = Arc::new(Mutex::new(io::BufWriter::new(io::stdout())));
        let several = self.loaded.shown.len() > 1;
        for name in self.loaded.shown.clone() {
            let rows = self
                .db
                .subscribe_lossless(&name)
                .map_err(CliError::runtime)?;
            let mut lines = JsonLines::new(Arc::clone(&out), several.then_some(name.as_str()))?;
            self.spawn(move || lines.follow(rows))?;
        }
        Ok(())
    }

    /// Runs `show` on its own thread, which sets `unread` when the output is closed.
    fn spawn(
        &mut self,
        show: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), CliError> {
        let shutdown = Arc::clone(&self.shutdown);
        let thread = std::thread::Builder::new().spawn(move || {
            let shown = show();
            if shown.is_err() {
                shutdown.unread.store(true, Ordering::Release);
            }
            shown
        });
        self.shows.push(thread.map_err(|error| no_thread(&error))?);
        Ok(())
    }

    async fn run(self) -> Result<(), CliError> {
        let mut signals = Signals::listen()?;
        self.db.start_connectors().map_err(CliError::runtime)?;
        let signal = tokio::select! {
            () = self.over() => None,
            signal = signals.next() => Some(signal),
        };
        let ended = tokio::select! {
            ended = on_thread(move || self.end()) => ended?,
            signal = signals.next() => std::process::exit(exit_code(signal).into()),
            () = tokio::time::sleep(SHUTDOWN_MAX) => {
                let seconds = SHUTDOWN_MAX.as_secs();
                // Not by returning: a thread that still blocks would block the return too.
                error::print_error(&format!("error: the pipeline did not end within {seconds} s; results may be missing"));
                std::process::exit(3);
            }
        };
        // Who asks for the end gets it; a terminal that hangs up asks for nothing.
        match signal {
            Some(signal) if signal == SignalKind::hangup().as_raw_value() => {
                ended.and(Err(CliError::HungUp))
            }
            _ => ended,
        }
    }

    /// Returns when all sources have ended, or the output is closed.
    async fn over(&self) {
        while !self.db.sources_ended() && !self.shutdown.unread.load(Ordering::Acquire) {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Processes the rows that have arrived, runs the SELECTs, and closes everything. Blocks.
    fn end(self) -> Result<(), CliError> {
        let drained = self.db.drain();
        let answered = match self.has_screen() {
            true => Ok(()),
            false => self.answer_selects(),
        };
        let warnings = self.bad_row_warnings();
        self.db.close();
        self.shutdown.closed.store(true, Ordering::Release);
        for show in self.shows {
            show.thread().unpark();
            match show.join() {
                Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(CliError::runtime(format!(
                        "cannot show the results: {error}"
                    )));
                }
                _ => {}
            }
        }
        warnings.iter().for_each(|line| error::print_error(line));
        drained.map_err(CliError::runtime)?;
        answered?;
        script::check_failures(&self.db)
    }

    /// The number of rows in each source's `__bad` stream.
    fn bad(&self) -> BTreeMap<String, u64> {
        let sources = "SELECT name, CAST(bad - dead_letters AS BIGINT) FROM system.sources";
        // A closed database has no sources.
        let batches = self.db.query(sources).unwrap_or_default();
        let rows = batches.iter().flat_map(|rows| {
            let bad = rows.column(1).as_primitive::<Int64Type>().values();
            let names = rows.column(0).as_string::<i32>().iter();
            names.zip(bad.iter().copied())
        });
        let known = rows.filter_map(|(name, bad)| Some((name?.to_owned(), bad.max(0) as u64)));
        known.collect()
    }

    /// A warning for each source that had bad rows in this run.
    fn bad_row_warnings(&self) -> Vec<String> {
        let warnings = self.bad().into_iter().filter_map(|(source, bad)| {
            let before = self.bad_before.get(&source).copied().unwrap_or(0);
            let rows = bad.saturating_sub(before);
            let line = format!(
                "warning: {rows} rows of {source} could not be decoded: they are in {source}__bad"
            );
            (rows > 0).then_some(line)
        });
        warnings.collect()
    }

    fn answer_selects(&self) -> Result<(), CliError> {
        for select in &self.loaded.selects {
            let outcomes = self.db.execute(select).map_err(CliError::runtime)?;
            for outcome in outcomes {
                if let headwater::Outcome::Rows {
                    schema, batches, ..
                } = outcome
                {
                    show::print(&schema, &batches)?;
                }
            }
        }
        Ok(())
    }
}
