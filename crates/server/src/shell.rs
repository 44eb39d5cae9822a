//! `headwater sql`: statements one by one, typed at a prompt or read from a pipe.
//!
//! A statement ends with a semicolon. All run in one database that stays open until the shell ends; with
//! `--data` the database is that folder, in which nothing runs with `--stopped`. SUBSCRIBE prints until
//! Ctrl-C, in a pipe until its sources end. At a prompt the shell prints an error and goes on, and Ctrl-C
//! ends a SELECT; in a pipe the first error, or Ctrl-C, ends the shell.
//!
//! What comes through a pipe is one script, and so is a file: a source starts with the first
//! SELECT or SUBSCRIBE that reads it, or at the end of the script. At a prompt, which has no end, a sink
//! starts it too.

use std::future::pending;
use std::io::{self, BufRead, IsTerminal};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use headwater::sql::{SqlError, Statement, parse_each, sqlstate};
use headwater::{Db, Event, Outcome, Subscription};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::signal::unix::{SignalKind, signal};

use crate::draw::draw_for_stderr;
use crate::error::{self, CliError};
use crate::lines::JsonLines;
use crate::script::{self, SqlScript};
use crate::signals::{Signals, close_at_signals, on_thread, runtime};
use crate::{DatabaseArguments, show};

const HELP: &str = "\
A statement ends with a semicolon and may have several lines.

  CREATE SOURCE | STREAM | VIEW | SINK ...    DROP ...    INSERT INTO sink SELECT ...
  SELECT ... FROM view;                       the current result of a view
  SUBSCRIBE TO name;                          new rows, until Ctrl-C; in a pipe until its sources end
  START | PAUSE | RESUME | STOP STREAM name;  ATTACH SOURCE name TO STREAM name;    DETACH ...
  SHOW SOURCES | STREAMS | VIEWS | SINKS | CONNECTORS;    DESCRIBE name;    EXPLAIN ...;
  SELECT * FROM system.sources;               also streams, sinks, gaps, errors, connectors

A source starts with the first SELECT, SUBSCRIBE or sink.

  \\d         list everything        \\d NAME    the columns of one
  \\q         quit                   help       this text
";

#[derive(clap::Args)]
pub struct SqlArguments {
    /// A file whose statements run first
    #[arg(value_name = "FILE.sql")]
    path: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArguments,
    /// Run nothing of the data folder: look with SHOW, DESCRIBE and EXPLAIN, repair with ALTER and DROP
    #[arg(long, requires = "data")]
    stopped: bool,
}

impl SqlArguments {
    fn open(&self) -> Result<Db, CliError> {
        let builder = Db::builder().script();
        match self.stopped {
            true => self.database.open_with(builder.stopped(), None),
            false => self.database.open_with(builder, None),
        }
    }
}

/// Runs the file, then the statements of the prompt or the pipe.
pub fn run(arguments: &SqlArguments) -> Result<(), CliError> {
    let shell = SqlShell {
        db: arguments.open()?,
        runtime: runtime()?,
        has_prompt: io::stdin().is_terminal(),
    };
    close_at_signals(&shell.db)?;
    if let Some(path) = &arguments.path {
        let script = SqlScript::read(path)?;
        shell.run_file(&script)?;
        if !arguments.stopped {
            shell.db.start_connectors().map_err(CliError::runtime)?;
        }
    }
    let done = match shell.has_prompt {
        true => shell.prompt(),
        false => shell.pipe().and_then(|()| shell.end_script()),
    };
    shell.db.close();
    done.and_then(|()| script::check_failures(&shell.db))
}

struct SqlShell {
    db: Db,
    runtime: tokio::runtime::Runtime,
    /// Whether the standard input is a terminal.
    has_prompt: bool,
}

/// Whether a signal has ended what was waited for.
fn is_cancelled(error: &headwater::Error) -> bool {
    let errors = error.sql_errors();
    errors
        .iter()
        .any(|error| error.sqlstate == sqlstate::QUERY_CANCELED)
}

/// Time between two checks whether what a SUBSCRIBE in a pipe follows has ended.
const END_POLL: Duration = Duration::from_millis(10);

impl SqlShell {
    fn prompt(&self) -> Result<(), CliError> {
        let mut editor = DefaultEditor::new().map_err(CliError::runtime)?;
        let history = history_file();
        if let Some(history) = &history {
            // At the first start the file does not exist.
            let _ = editor.load_history(history);
        }
        show::text(concat!(
            "headwater ",
            env!("CARGO_PKG_VERSION"),
            "; type help for help, \\q to quit\n"
        ))?;
        let mut text = String::new();
        loop {
            let prompt = if text.is_empty() {
                "headwater> "
            } else {
                "        -> "
            };
            match editor.readline(prompt) {
                Ok(line) => {
                    if self.line(&mut text, &line, &mut editor).is_break() {
                        break;
                    }
                }
                Err(ReadlineError::Interrupted) => text.clear(),
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(CliError::runtime(error)),
            }
        }
        if let Some(history) = &history
            && let Err(error) = editor.save_history(history)
        {
            tracing::warn!(%error, file = %history.display(), "cannot save the history");
        }
        Ok(())
    }

    /// Handles one line of the prompt: a shell command, or part of a statement.
    fn line(
        &self,
        text: &mut String,
        line: &str,
        editor: &mut DefaultEditor,
    ) -> std::ops::ControlFlow<()> {
        if text.is_empty() {
            match command(line) {
                Some(ShellCommand::Quit) => return std::ops::ControlFlow::Break(()),
                Some(ShellCommand::Help) => report(show::text(HELP)),
                Some(ShellCommand::Sql(sql)) => report(self.statements("<shell>", &sql)),
                None => {}
            }
            if command(line).is_some() || line.trim().is_empty() {
                return std::ops::ControlFlow::Continue(());
            }
        }
        text.push_str(line);
        text.push('\n');
        if is_complete(text) {
            let statement = std::mem::take(text);
            // The history may refuse an entry, such as a repeated one.
            let _ = editor.add_history_entry(statement.trim());
            report(self.statements("<shell>", &statement));
            if creates_sink(&statement) {
                report(self.db.start_connectors().map_err(CliError::runtime));
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn pipe(&self) -> Result<(), CliError> {
        let mut text = String::new();
        for (number, line) in io::stdin().lock().lines().enumerate() {
            let line = line.map_err(|error| CliError::input(format!("cannot read: {error}")))?;
            text.push_str(match number {
                0 => script::without_bom(&line),
                _ => &line,
            });
            text.push('\n');
            if is_complete(&text) {
                self.statements("<stdin>", &std::mem::take(&mut text))?;
            }
        }
        self.statements("<stdin>", &text)
    }

    /// Starts what still waits, and gives finite sources the time to fill the sinks that read them.
    fn end_script(&self) -> Result<(), CliError> {
        let db = self.db.clone();
        self.runtime.block_on(async {
            let mut signals = Signals::listen()?;
            let mut ended = std::pin::pin!(on_thread(move || db.end_script()));
            loop {
                tokio::select! {
                    ended = &mut ended => match ended? {
                        // A signal has ended the wait.
                        Err(error) if is_cancelled(&error) => return Ok(()),
                        ended => return ended.map_err(CliError::runtime),
                    },
                    _ = signals.next() => self.db.cancel_queries(),
                }
            }
        })
    }

    /// Runs the statements of a text and shows each result before the next statement runs.
    fn statements(&self, name: &str, text: &str) -> Result<(), CliError> {
        for part in parts(text) {
            let wrong = |errors: &[SqlError]| CliError::Drawn(draw_for_stderr(name, text, errors));
            let range = part.map_err(|error| wrong(&[error]))?;
            let (outcomes, done) = self.execute(&text[range.clone()])?;
            self.show_all(outcomes)?;
            done.map_err(|error| wrong(&script::in_script(&error, range.start)))?;
        }
        Ok(())
    }

    /// Runs a file as a whole: its connectors start after its last statement.
    fn run_file(&self, script: &SqlScript) -> Result<(), CliError> {
        let (outcomes, done) = self.execute(&script.text)?;
        self.show_all(outcomes)?;
        done.map_err(|error| script.failure(&script::in_script(&error, 0)))
    }

    /// Runs statements together. At a prompt Ctrl-C cancels a SELECT; in a pipe it ends the program, unless
    /// an earlier SUBSCRIBE has installed its signal handler.
    fn execute(&self, text: &str) -> Result<Executed, CliError> {
        if !self.has_prompt {
            return Ok(self.db.execute_until_error(text));
        }
        self.runtime.block_on(async {
            let mut interrupts = signal(SignalKind::interrupt()).map_err(CliError::runtime)?;
            let interrupt = async || {
                interrupts.recv().await;
            };
            interruptible(&self.db, text, interrupt).await
        })
    }

    fn show_all(&self, outcomes: Vec<Outcome>) -> Result<(), CliError> {
        outcomes
            .into_iter()
            .try_for_each(|outcome| self.show(outcome))
    }

    fn show(&self, outcome: Outcome) -> Result<(), CliError> {
        // A pipe gets rows and nothing else.
        let notice = |text: String| match io::stdout().is_terminal() {
            true => show::text(&(text + "\n")),
            false => Ok(()),
        };
        match outcome {
            Outcome::Created { kind, name } => notice(format!("created {kind} {name}")),
            Outcome::Unchanged { name } => notice(format!("{name} is unchanged")),
            Outcome::Lifecycle { name, status } => notice(format!("stream {name} is {status}")),
            Outcome::Started { name } => notice(format!("sink {name} started again")),
            Outcome::Altered { kind, name } => notice(format!("altered {kind} {name}")),
            Outcome::Dropped { names } => notice(format!("dropped {}", names.join(", "))),
            Outcome::Rows {
                schema, batches, ..
            } => show::print(&schema, &batches),
            Outcome::Subscribed { name, rows } => {
                self.runtime.block_on(follow(rows, self.end_of(name)))
            }
            Outcome::Replayed(rows) => self.runtime.block_on(follow(rows, pending())),
        }
    }

    /// Returns when a stream has all rows that it will have, which at a prompt nobody waits for.
    async fn end_of(&self, name: String) {
        if self.has_prompt {
            pending::<()>().await;
        }
        while !self.db.inputs_ended(&name) {
            tokio::time::sleep(END_POLL).await;
        }
        let db = self.db.clone();
        // Without an answer the rows so far are all there are.
        let _ = on_thread(move || db.settle()).await;
    }
}

/// The outcomes of the statements before the first error, and that error.
type Executed = (Vec<Outcome>, headwater::Result<()>);

/// Runs statements, and cancels their SELECTs at each interrupt. Always waits for the end: other
/// statements cannot be cancelled.
async fn interruptible(
    db: &Db,
    text: &str,
    mut interrupt: impl AsyncFnMut(),
) -> Result<Executed, CliError> {
    let (running, text) = (db.clone(), text.to_owned());
    let work = move || running.execute_until_error(&text);
    let mut running = std::pin::pin!(on_thread(work));
    loop {
        tokio::select! {
            done = &mut running => return done,
            () = interrupt() => db.cancel_queries(),
        }
    }
}

/// Splits a text into the ranges to run one after the other. A statement that returns rows is a range of
/// its own; consecutive others are one, so that a source does not start before its readers exist.
fn parts(text: &str) -> Vec<Result<Range<usize>, SqlError>> {
    let mut parts: Vec<Result<Range<usize>, SqlError>> = Vec::new();
    let mut is_open = false;
    for statement in parse_each(text) {
        let returns_rows = matches!(&statement, Ok(it) if returns_rows(&it.node));
        let range = statement.map(|it| it.span);
        match (parts.last_mut(), range) {
            (Some(Ok(part)), Ok(range)) if is_open && !returns_rows => part.end = range.end,
            (_, range) => parts.push(range),
        }
        is_open = !returns_rows;
    }
    parts
}

/// Whether rows flow because of a statement, without a SELECT or SUBSCRIBE.
fn creates_sink(text: &str) -> bool {
    let is_sink = |node| {
        matches!(
            node,
            Statement::CreateSink(_) | Statement::InsertInto { .. }
        )
    };
    let mut statements = parse_each(text).into_iter().flatten();
    statements.any(|statement| is_sink(statement.node))
}

fn returns_rows(statement: &Statement) -> bool {
    use Statement::{Describe, Explain, Query, Show, Subscribe};
    matches!(
        statement,
        Query(_) | Show(_) | Describe(_) | Explain(_) | Subscribe(_)
    )
}

/// Prints a failure and drops its exit code: the shell goes on.
fn report(done: Result<(), CliError>) {
    if let Err(failure) = done {
        let _ = failure.report();
    }
}

/// Prints rows until Ctrl-C or the end of the subscription; after `end`, those that are there.
async fn follow(mut rows: Subscription, end: impl Future<Output = ()>) -> Result<(), CliError> {
    let mut signals = Signals::listen()?;
    let mut lines = JsonLines::new(Arc::new(Mutex::new(io::stdout())), None)?;
    let (mut end, mut ended) = (std::pin::pin!(end), false);
    loop {
        let event = match ended {
            true => rows.try_next().transpose(),
            false => tokio::select! {
                event = StreamExt::next(&mut rows) => event,
                _ = signals.next() => None,
                () = &mut end => {
                    ended = true;
                    continue;
                }
            },
        };
        let written = match event {
            None => return Ok(()),
            Some(Ok(Event::Rows(batch))) => lines.write(&batch).and_then(|()| lines.flush()),
            Some(Ok(Event::Missed { rows })) => {
                error::print_error(&format!("the output is too slow: {rows} rows were missed"));
                Ok(())
            }
            Some(Ok(Event::Gap { rows, reason })) => {
                error::print_error(&format!("{rows} rows are missing: {reason}"));
                Ok(())
            }
            Some(Err(error)) => return Err(CliError::runtime(error)),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(CliError::runtime)?,
        }
    }
}

/// A line at the prompt that is not SQL.
#[derive(Debug, PartialEq)]
enum ShellCommand {
    Quit,
    Help,
    /// Short for these statements.
    Sql(String),
}

fn command(line: &str) -> Option<ShellCommand> {
    let line = line.trim().trim_end_matches(';').trim_end();
    match line.split_once(' ').unwrap_or((line, "")) {
        ("\\q" | "quit" | "exit", "") => Some(ShellCommand::Quit),
        ("\\?" | "help", "") => Some(ShellCommand::Help),
        ("\\d", "") => {
            let all = "SHOW SOURCES; SHOW STREAMS; SHOW VIEWS; SHOW SINKS;";
            Some(ShellCommand::Sql(all.to_owned()))
        }
        ("\\d", name) => Some(ShellCommand::Sql(format!("DESCRIBE {name}"))),
        _ => None,
    }
}

/// Whether the text ends with a semicolon that is not in quotes or in a comment.
fn is_complete(text: &str) -> bool {
    let mut rest = text;
    let mut complete = false;
    while let Some(letter) = rest.chars().next() {
        let (skip, closing) = match letter {
            _ if rest.starts_with("--") => (2, "\n"),
            _ if rest.starts_with("/*") => (2, "*/"),
            '\'' => (1, "'"),
            '"' => (1, "\""),
            other => {
                complete = other == ';' || complete && other.is_whitespace();
                rest = &rest[other.len_utf8()..];
                continue;
            }
        };
        let comment = skip == 2;
        complete = complete && comment;
        match rest[skip..].find(closing) {
            Some(end) => rest = &rest[skip + end + closing.len()..],
            None => return complete && closing == "\n",
        }
    }
    complete
}

fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".headwater_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_a_semicolon_of_its_own() {
        for complete in [
            "SELECT 1;",
            "SELECT ';' ; \n",
            "SELECT 1; -- done",
            "SELECT 1; /* done */\n",
            "SELECT 'it''s';",
            "SELECT \"a;b\";",
        ] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in [
            "",
            "SELECT 1",
            "SELECT ';",
            "SELECT ';'",
            "SELECT 1 -- ;",
            "SELECT 1 /* ; */",
            "SELECT 1; SELECT 'ü",
            "SELECT 1; /* ;",
        ] {
            assert!(!is_complete(open), "{open}");
        }
    }

    #[test]
    fn what_answers_is_run_alone() {
        let text = "CREATE SOURCE s (n INT); CREATE VIEW v AS SELECT n FROM s;
            SELECT 1; SHOW SINKS; DROP VIEW v; DROP SOURCE s";
        let parts: Vec<&str> = parts(text)
            .into_iter()
            .map(|it| &text[it.unwrap()])
            .collect();
        let expected = [
            "CREATE SOURCE s (n INT); CREATE VIEW v AS SELECT n FROM s",
            "SELECT 1",
            "SHOW SINKS",
            "DROP VIEW v; DROP SOURCE s",
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn an_interrupt_ends_a_select_and_the_shell_goes_on() {
        let db = Db::in_memory().unwrap();
        let endless = "SELECT count(*) FROM generate_series(1, 1000000000000000)";
        let runtime = runtime().unwrap();
        let run = |text: &str, interrupt: bool| {
            // Repeated: the first may come before the query has begun.
            let interrupt = async || match interrupt {
                true => tokio::task::yield_now().await,
                false => std::future::pending().await,
            };
            let done = runtime.block_on(interruptible(&db, text, interrupt));
            done.unwrap()
        };
        let (_, done) = run(endless, true);
        let error = done.unwrap_err();
        assert_eq!(error.sql_errors()[0].sqlstate, "57014");
        let (outcomes, done) = run("SELECT 1", false);
        assert!(done.is_ok() && matches!(&outcomes[..], [Outcome::Rows { .. }]));
    }

    #[test]
    fn shell_commands_are_recognized() {
        assert_eq!(command(" \\q "), Some(ShellCommand::Quit));
        assert_eq!(command("help;"), Some(ShellCommand::Help));
        assert_eq!(
            command("\\d t"),
            Some(ShellCommand::Sql("DESCRIBE t".to_owned()))
        );
        assert_eq!(command("SELECT 1;"), None);
        assert_eq!(command("quit trades"), None);
    }
}
