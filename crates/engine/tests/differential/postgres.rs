//! PostgreSQL as a second oracle: one psql process that answers query after query.
//!
//! `.ci/postgres` starts the server and names it in `HEADWATER_POSTGRES`. What is sent is SQL; what
//! comes back are rows between control characters that no value has, then lines with the SQLSTATE and
//! the message.
//!
//! - `dialect`: a query in PostgreSQL's words
//! - `values`: rows there and back
//! - `notes`: what differs on purpose or is not right yet
//! - `second`: asks about one query of a case, and compares
//! - `compat.sql`: the functions that PostgreSQL lacks

pub mod dialect;
pub mod notes;
pub mod second;
pub mod values;

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use notes::Counts;

/// Rows as PostgreSQL writes them; `None` is NULL.
pub type TextRows = Vec<Vec<Option<String>>>;

/// The line after the rows, and after the message.
const MARK: &str = "----";

/// What psql writes for NULL.
const NULL: &str = "\\N";

/// Unit separators between fields, record separators between rows. COPY TO would escape its values, but
/// psql has no SQLSTATE when it fails half way.
const FORMAT: &str = r"\pset format unaligned
\pset tuples_only on
\pset fieldsep '\x1f'
\pset recordsep '\x1e'
\pset null '\\N'
SELECT 1;";

/// PostgreSQL's error to a query.
#[derive(Debug)]
pub struct Refusal {
    pub sqlstate: String,
    pub message: String,
}

impl Refusal {
    /// Whether it is about the query, not about a row.
    pub fn is_static(&self) -> bool {
        self.sqlstate.starts_with("42") || self.sqlstate == "0A000"
    }
}

/// A psql process, and what was noted while it was asked.
pub struct Postgres {
    psql: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    pub counts: Counts,
}

impl Postgres {
    /// Connects to the server that `.ci/postgres` has started.
    pub fn connect() -> Self {
        let server = std::env::var("HEADWATER_POSTGRES").unwrap_or_else(|_| {
            panic!("PostgreSQL is not there; run the command in `.ci/postgres COMMAND`")
        });
        let mut psql = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", &server])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql, which comes with PostgreSQL");
        let output = BufReader::new(psql.stdout.take().expect("a pipe")).lines();
        let mut postgres = Self {
            input: psql.stdin.take(),
            psql,
            output,
            counts: Counts::default(),
        };
        postgres.run(FORMAT).expect("commands of psql");
        // After an error within the transaction its last statement fails, too.
        let setup = postgres.run(include_str!("postgres/compat.sql"));
        assert!(setup.is_ok(), "compat.sql: {setup:?}");
        postgres.run("COMMIT;").expect("no error");
        postgres
    }

    /// The rows of a query.
    pub fn ask(&mut self, query: &str) -> Result<TextRows, Refusal> {
        self.run(&format!("{query};"))
    }

    /// Runs a statement, with its rows behind it if it is COPY FROM STDIN.
    pub fn run(&mut self, statement: &str) -> Result<TextRows, Refusal> {
        let input = self.input.as_mut().expect("open until it is dropped");
        let sent = writeln!(
            input,
            "{statement}\n\\echo '{MARK}'\n\\echo :SQLSTATE\n\\echo :LAST_ERROR_MESSAGE\n\\echo '{MARK}'"
        );
        sent.expect("psql reads");
        let rows = self.lines_to(MARK);
        let sqlstate = self.line();
        let message = self.lines_to(MARK);
        match sqlstate.as_str() {
            "00000" => Ok(rows.map_or_else(Vec::new, |rows| records(&rows))),
            _ => Err(Refusal {
                sqlstate,
                message: message.unwrap_or_default(),
            }),
        }
    }

    /// The lines up to one of its own; `None` if there is none before it.
    fn lines_to(&mut self, mark: &str) -> Option<String> {
        let lines: Vec<_> =
            std::iter::from_fn(|| Some(self.line()).filter(|it| it != mark)).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    fn line(&mut self) -> String {
        let line = self
            .output
            .next()
            .expect("psql has ended: is the server there?");
        line.expect("text in UTF-8")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Without input psql ends.
        drop(self.input.take());
        let _ = self.psql.wait();
    }
}

fn records(rows: &str) -> TextRows {
    let fields = |row: &str| {
        let fields = row.split('\u{1f}');
        fields
            .map(|it| (it != NULL).then(|| it.to_owned()))
            .collect()
    };
    rows.split('\u{1e}').map(fields).collect()
}
