//! `headwater sql`: statements one by one, typed at a prompt or read from a pipe.
//!
//! A statement ends with a semicolon. Each runs in one database that lives as long as the shell, so
//! connectors start as soon as they are created. With `--data` it goes on with what is in that folder.
//! SUBSCRIBE prints until Ctrl-C. At a prompt an error is drawn and the shell goes on, and Ctrl-C ends
//! a SELECT; in a pipe the first error, and Ctrl-C, ends the shell.

use std::io::{self, BufRead, IsTerminal};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use headwater::sql::{SqlError, Statement, parse_each};
use headwater::{Db, Event, Outcome, Subscription};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::signal::unix::{SignalKind, signal};

use crate::draw::draw_for_stderr;
use crate::failure::{self, Failure};
use crate::lines::Lines;
use crate::script::{self, Script};
use crate::signals::{Signals, runtime};
use crate::{Database, show};

const HELP: &str = "\
A statement ends with a semicolon and may have several lines.

  CREATE SOURCE | STREAM | VIEW | SINK ...    DROP ...    INSERT INTO sink SELECT ...
  SELECT ... FROM view;                       what a view holds now
  SUBSCRIBE TO name;                          rows as they come, until Ctrl-C
  START | PAUSE | RESUME | STOP STREAM name;  ATTACH SOURCE name TO STREAM name;    DETACH ...
  SHOW SOURCES | STREAMS | VIEWS | SINKS | CONNECTORS;    DESCRIBE name;    EXPLAIN ...;
  SELECT * FROM system.sources;               also streams, sinks, gaps, errors, connectors

  \\d         what there is          \\d NAME    the columns of one
  \\q         leave                  help       this
";

/// What `sql` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// A file whose statements are run first.
    #[arg(value_name = "FILE.sql")]
    path: Option<PathBuf>,
    #[command(flatten)]
    database: Database,
}

/// Runs the shell.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let shell = Shell {
        db: arguments.database.open(None, true)?,
        runtime: runtime()?,
        has_prompt: io::stdin().is_terminal(),
    };
    if let Some(path) = &arguments.path {
        let script = Script::read(path)?;
        shell.all_of(&script)?;
    }
    let done = match shell.has_prompt {
        true => shell.prompt(),
        false => shell.pipe(),
    };
    shell.db.close();
    done.and_then(|()| script::tell_failures(&shell.db))
}

struct Shell {
    db: Db,
    runtime: tokio::runtime::Runtime,
    /// Whether somebody types the statements.
    has_prompt: bool,
}

impl Shell {
    fn prompt(&self) -> Result<(), Failure> {
        let mut editor = DefaultEditor::new().map_err(Failure::runtime)?;
        let history = history_file();
        if let Some(history) = &history {
            // There is none before the first time.
            let _ = editor.load_history(history);
        }
        show::text(concat!(
            "headwater ",
            env!("CARGO_PKG_VERSION"),
            "; help explains, \\q leaves\n"
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
                Err(error) => return Err(Failure::runtime(error)),
            }
        }
        if let Some(history) = &history
            && let Err(error) = editor.save_history(history)
        {
            tracing::warn!(%error, file = %history.display(), "the history cannot be kept");
        }
        Ok(())
    }

    /// One line at the prompt: a command, or a part of a statement.
    fn line(
        &self,
        text: &mut String,
        line: &str,
        editor: &mut DefaultEditor,
    ) -> std::ops::ControlFlow<()> {
        if text.is_empty() {
            match command(line) {
                Some(Command::Quit) => return std::ops::ControlFlow::Break(()),
                Some(Command::Help) => tell(show::text(HELP)),
                Some(Command::Sql(sql)) => tell(self.statements("<shell>", &sql)),
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
            // A history that is full or refuses a double is no trouble.
            let _ = editor.add_history_entry(statement.trim());
            tell(self.statements("<shell>", &statement));
        }
        std::ops::ControlFlow::Continue(())
    }

    fn pipe(&self) -> Result<(), Failure> {
        let mut text = String::new();
        for (number, line) in io::stdin().lock().lines().enumerate() {
            let line = line.map_err(|error| Failure::input(format!("cannot read: {error}")))?;
            text.push_str(match number {
                0 => script::unmarked(&line),
                _ => &line,
            });
            text.push('\n');
            if is_complete(&text) {
                self.statements("<stdin>", &std::mem::take(&mut text))?;
            }
        }
        self.statements("<stdin>", &text)
    }

    /// Runs statements and shows what each gave, as it comes.
    fn statements(&self, name: &str, text: &str) -> Result<(), Failure> {
        for part in parts(text) {
            let wrong = |errors: &[SqlError]| Failure::Input(draw_for_stderr(name, text, errors));
            let place = part.map_err(|error| wrong(&[error]))?;
            let (outcomes, done) = self.execute(&text[place.clone()])?;
            self.show_all(outcomes)?;
            done.map_err(|error| wrong(&script::moved(&error, place.start)))?;
        }
        Ok(())
    }

    /// Runs a file, whose connectors start once all of it is there.
    fn all_of(&self, script: &Script) -> Result<(), Failure> {
        let (outcomes, done) = self.execute(&script.text)?;
        self.show_all(outcomes)?;
        done.map_err(|error| {
            let errors = script::moved(&error, 0);
            Failure::Input(draw_for_stderr(&script.name, &script.text, &errors))
        })
    }

    /// Runs statements together; at a prompt Ctrl-C ends a SELECT. In a pipe it ends the program, as
    /// long as nobody listens to it.
    fn execute(&self, text: &str) -> Result<Done, Failure> {
        if !self.has_prompt {
            return Ok(self.db.execute_until_error(text));
        }
        self.runtime.block_on(async {
            let mut interrupts = signal(SignalKind::interrupt()).map_err(Failure::runtime)?;
            let interrupt = async || {
                interrupts.recv().await;
            };
            interruptible(&self.db, text, interrupt).await
        })
    }

    fn show_all(&self, outcomes: Vec<Outcome>) -> Result<(), Failure> {
        outcomes
            .into_iter()
            .try_for_each(|outcome| self.show(outcome))
    }

    fn show(&self, outcome: Outcome) -> Result<(), Failure> {
        // In a pipe there are rows and nothing else.
        let tell = |text: String| match io::stdout().is_terminal() {
            true => show::text(&(text + "\n")),
            false => Ok(()),
        };
        match outcome {
            Outcome::Created { kind, name } => tell(format!("created {kind} {name}")),
            Outcome::Unchanged { name } => tell(format!("{name} stays as it is")),
            Outcome::Lifecycle { name, status } => tell(format!("stream {name} is {status}")),
            Outcome::Started { name } => tell(format!("sink {name} is tried again")),
            Outcome::Altered { name } => tell(format!("altered source {name}")),
            Outcome::Dropped { names } => tell(format!("dropped {}", names.join(", "))),
            Outcome::Rows { schema, batches } => show::print(&schema, &batches),
            Outcome::Subscribed(rows) => self.runtime.block_on(follow(rows)),
        }
    }
}

/// What statements gave until the one that was wrong, and what that was.
type Done = (Vec<Outcome>, headwater::Result<()>);

/// Runs statements, and ends a SELECT whenever there is an interrupt. Waits for the end in any case:
/// other statements take their time.
async fn interruptible(
    db: &Db,
    text: &str,
    mut interrupt: impl AsyncFnMut(),
) -> Result<Done, Failure> {
    let (running, text) = (db.clone(), text.to_owned());
    let mut running = tokio::task::spawn_blocking(move || running.execute_until_error(&text));
    loop {
        tokio::select! {
            done = &mut running => return done.map_err(Failure::runtime),
            () = interrupt() => db.cancel_queries(),
        }
    }
}

/// Where the parts of a text are that are run one after the other: a statement that answers is run
/// alone, others together, so that a source does not run before there is what reads it.
fn parts(text: &str) -> Vec<Result<Range<usize>, SqlError>> {
    let mut parts: Vec<Result<Range<usize>, SqlError>> = Vec::new();
    let mut is_open = false;
    for statement in parse_each(text) {
        let answers = matches!(&statement, Ok(it) if answers(&it.node));
        let place = statement.map(|it| it.span);
        match (parts.last_mut(), place) {
            (Some(Ok(part)), Ok(place)) if is_open && !answers => part.end = place.end,
            (_, place) => parts.push(place),
        }
        is_open = !answers;
    }
    parts
}

fn answers(statement: &Statement) -> bool {
    use Statement::{Describe, Explain, Query, Show, Subscribe};
    matches!(
        statement,
        Query(_) | Show(_) | Describe(_) | Explain(_) | Subscribe(_)
    )
}

/// The shell goes on: only the text of a failure matters, not the exit code.
fn tell(done: Result<(), Failure>) {
    if let Err(failure) = done {
        let _ = failure.tell();
    }
}

/// Prints rows until Ctrl-C, or until nothing more can come.
async fn follow(mut rows: Subscription) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut lines = Lines::new(Arc::new(Mutex::new(io::stdout())), None)?;
    loop {
        let event = tokio::select! {
            event = StreamExt::next(&mut rows) => event,
            () = signals.next() => None,
        };
        let written = match event {
            None => return Ok(()),
            Some(Ok(Event::Rows(batch))) => lines.write(&batch).and_then(|()| lines.flush()),
            Some(Ok(Event::Missed { rows })) => {
                failure::say(&format!("{rows} rows were missed: the output is too slow"));
                Ok(())
            }
            Some(Ok(Event::Gap { rows, reason })) => {
                failure::say(&format!("{rows} rows are missing: {reason}"));
                Ok(())
            }
            Some(Err(error)) => return Err(Failure::runtime(error)),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(Failure::runtime)?,
        }
    }
}

/// What is no SQL.
#[derive(Debug, PartialEq)]
enum Command {
    Quit,
    Help,
    Sql(String),
}

fn command(line: &str) -> Option<Command> {
    let line = line.trim().trim_end_matches(';').trim_end();
    match line.split_once(' ').unwrap_or((line, "")) {
        ("\\q" | "quit" | "exit", "") => Some(Command::Quit),
        ("\\?" | "help", "") => Some(Command::Help),
        ("\\d", "") => {
            let all = "SHOW SOURCES; SHOW STREAMS; SHOW VIEWS; SHOW SINKS;";
            Some(Command::Sql(all.to_owned()))
        }
        ("\\d", name) => Some(Command::Sql(format!("DESCRIBE {name}"))),
        _ => None,
    }
}

/// Whether the text ends with a semicolon that ends a statement: not one in quotes or in a comment.
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
            // Again and again: the first may come before the query has begun.
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
    fn what_is_no_sql() {
        assert_eq!(command(" \\q "), Some(Command::Quit));
        assert_eq!(command("help;"), Some(Command::Help));
        assert_eq!(
            command("\\d t"),
            Some(Command::Sql("DESCRIBE t".to_owned()))
        );
        assert_eq!(command("SELECT 1;"), None);
        assert_eq!(command("quit trades"), None);
    }
}
