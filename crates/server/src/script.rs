//! A file of SQL and what it says: its statements in a database, and what of them is to be shown.
//!
//! Every statement is tried, so that all errors are told at once; one that only names what an earlier
//! wrong statement was to create is not blamed for it.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater::sql::{OptionEntry, Spanned, SqlError, Statement, parse_each};
use headwater::{Db, Outcome};

use crate::draw::draw_for_stderr;
use crate::failure::Failure;

/// SQLSTATE: no table of this name.
const UNDEFINED_TABLE: &str = "42P01";
/// SQLSTATE: an error that has no code of its own.
const OTHER: &str = "XX000";

/// A text of SQL.
pub struct Script {
    /// What it is called in errors.
    pub name: String,
    /// The statements.
    pub text: String,
}

/// What a script put into a database.
#[derive(Default)]
pub struct Loaded {
    /// The sources that have a connector.
    pub sources: Vec<String>,
    /// The names to subscribe to.
    pub shown: Vec<String>,
    /// Queries that end, to be answered when the input has ended.
    pub selects: Vec<String>,
    /// Answers of SHOW, DESCRIBE and EXPLAIN.
    pub answers: Vec<(SchemaRef, Vec<RecordBatch>)>,
    /// Whether a sink writes to the standard output.
    pub prints: bool,
    /// What was created, for people.
    pub created: Vec<String>,
    /// The names of what it creates, whether or not that was there before.
    pub names: Vec<String>,
    /// The streams of dead letters that it names: they are made if they are not there.
    pub letters: Vec<String>,
    queries: Vec<String>,
    all_sources: Vec<String>,
    sinks: usize,
}

impl Script {
    /// Reads a file, or the standard input if the path is `-`.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let (name, bytes) = if path == Path::new("-") {
            let mut bytes = Vec::new();
            let read = std::io::stdin().read_to_end(&mut bytes);
            ("<stdin>".to_owned(), read.map(|_| bytes))
        } else {
            (name, std::fs::read(path))
        };
        let bytes =
            bytes.map_err(|error| Failure::input(format!("cannot read {name}: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Failure::input(format!("{name} is not UTF-8 from byte {at} on"))
        })?;
        let text = unmarked(&text).to_owned();
        Ok(Self { name, text })
    }

    /// Runs the statements in `db`, whose connectors must not start by themselves.
    ///
    /// # Errors
    /// All that is wrong, drawn.
    pub fn load(&self, db: &Db) -> Result<Loaded, Failure> {
        self.try_load(db)
            .map_err(|errors| Failure::Input(draw_for_stderr(&self.name, &self.text, &errors)))
    }

    fn try_load(&self, db: &Db) -> Result<Loaded, Vec<SqlError>> {
        let mut loaded = Loaded::default();
        let mut errors = Vec::new();
        let mut wrong = HashSet::new();
        for statement in parse_each(&self.text) {
            match statement {
                Ok(statement) => {
                    let found = self.run(db, &statement, &mut loaded);
                    if let Err(found) = found {
                        wrong.extend(created_by(&statement.node).map(str::to_lowercase));
                        errors.extend(found);
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        let blameless = |error: &SqlError| {
            let place = error.position.clone().and_then(|it| self.text.get(it));
            let name = place.map(|it| it.trim_matches('"').to_lowercase());
            error.sqlstate == UNDEFINED_TABLE && name.is_some_and(|name| wrong.contains(&name))
        };
        // If every error were excused there would be none to tell of.
        if errors.iter().any(|error| !blameless(error)) {
            errors.retain(|error| !blameless(error));
        }
        match errors.is_empty() {
            true => Ok(loaded.settled()),
            false => Err(errors),
        }
    }

    fn run(
        &self,
        db: &Db,
        statement: &Spanned<Statement>,
        loaded: &mut Loaded,
    ) -> Result<(), Vec<SqlError>> {
        let text = &self.text[statement.span.clone()];
        let outcomes = db
            .execute(text)
            .map_err(|error| moved(&error, statement.span.start))?;
        loaded.note(&statement.node, text);
        for outcome in outcomes {
            match outcome {
                Outcome::Created { kind, name } => {
                    loaded.created.push(format!("{kind} {name}"));
                }
                Outcome::Rows { schema, batches }
                    if !matches!(statement.node, Statement::Query(_)) =>
                {
                    loaded.answers.push((schema, batches));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Loaded {
    fn note(&mut self, statement: &Statement, text: &str) {
        self.names.extend(created_by(statement).map(str::to_owned));
        self.letters.extend(letters(statement));
        match statement {
            Statement::CreateSource(create) => {
                let name = create.name.value.clone();
                if connector(&create.options).is_some() {
                    self.sources.push(name.clone());
                }
                self.all_sources.push(name);
            }
            Statement::CreateStream(create) => self.queries.push(create.name.value.clone()),
            Statement::CreateView(create) => self.queries.push(create.name.value.clone()),
            // Without columns nothing can read it before a source is attached.
            Statement::CreateSourceGroup(create) if create.columns.is_empty() => {}
            Statement::CreateSourceGroup(create) => self.queries.push(create.name.value.clone()),
            Statement::Attach(attach) => {
                let stream = &attach.stream.value;
                if !self
                    .queries
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(stream))
                {
                    self.queries.push(stream.clone());
                }
            }
            Statement::CreateSink(create) => {
                self.sinks += 1;
                self.prints |= connector(&create.options).as_deref() == Some("stdout");
            }
            Statement::Subscribe(name) => self.shown.push(name.value.clone()),
            Statement::Query(_) => self.selects.push(text.to_owned()),
            Statement::Drop(drop) => {
                let gone = |name: &String| name.eq_ignore_ascii_case(&drop.name.value);
                self.names.retain(|name| !gone(name));
                self.queries.retain(|name| !gone(name));
                self.sources.retain(|name| !gone(name));
                self.all_sources.retain(|name| !gone(name));
            }
            Statement::InsertInto { .. }
            | Statement::Lifecycle { .. }
            | Statement::StartSink(_)
            | Statement::AlterSource(_)
            | Statement::Reprocess(_)
            | Statement::Replay(_)
            | Statement::Show(_)
            | Statement::Describe(_)
            | Statement::Explain(_) => {}
        }
    }

    /// Chooses what is shown when the file does not say: its last stream or view, or its last source
    /// if there is nothing else that would let anything be seen.
    fn settled(mut self) -> Self {
        if self.shown.is_empty() && !self.prints && self.selects.is_empty() {
            let source = match self.sinks {
                0 => self.all_sources.pop(),
                _ => None,
            };
            self.shown.extend(self.queries.pop().or(source));
        }
        self
    }
}

/// The text without the byte order mark that some programs put before it.
pub fn unmarked(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn connector(options: &[OptionEntry]) -> Option<String> {
    let named = |option: &&OptionEntry| option.key.eq_ignore_ascii_case("connector");
    let option = options.iter().find(named)?;
    Some(option.value.to_string().to_lowercase())
}

/// The stream that a statement wants dead letters in.
fn letters(statement: &Statement) -> Option<String> {
    let options = match statement {
        Statement::CreateSource(create) => &create.options,
        Statement::CreateSink(create) => &create.options,
        Statement::AlterSource(alter) => &alter.options,
        _ => return None,
    };
    // The connector's name may stand before it.
    let names = |key: &str| key.to_lowercase().ends_with("error.dlq.stream");
    let option = options.iter().find(|option| names(&option.key))?;
    Some(option.value.to_string())
}

/// The name that a statement would have created.
fn created_by(statement: &Statement) -> Option<&str> {
    match statement {
        Statement::CreateSource(create) => Some(&create.name.value),
        Statement::CreateStream(create) => Some(&create.name.value),
        Statement::CreateSourceGroup(create) => Some(&create.name.value),
        Statement::CreateView(create) => Some(&create.name.value),
        Statement::CreateSink(create) => Some(&create.name.value),
        _ => None,
    }
}

/// What is wrong with a statement that begins `offset` bytes into the script.
pub fn moved(error: &headwater::Error, offset: usize) -> Vec<SqlError> {
    if error.sql_errors().is_empty() {
        return vec![SqlError::new(OTHER, error.to_string()).at(offset..offset)];
    }
    let shift = |error: &SqlError| {
        let mut error = error.clone();
        error.position = error
            .position
            .map(|place| place.start + offset..place.end + offset);
        error
    };
    error.sql_errors().iter().map(shift).collect()
}

/// Whatever has failed for good in a database, also after it was closed.
pub fn tell_failures(db: &Db) -> Result<(), Failure> {
    let failures = db.failures();
    let lines = failures
        .iter()
        .map(|(kind, name, reason)| format!("error: {kind} {name} failed: {reason}"));
    let lines: Vec<String> = lines.collect();
    match lines.is_empty() {
        true => Ok(()),
        false => Err(Failure::Runtime(lines.join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Loaded, Vec<String>> {
        let db = Db::builder().workers(1).start_connectors(false);
        let db = db.in_memory().unwrap();
        let script = Script {
            name: "t.sql".to_owned(),
            text: text.to_owned(),
        };
        let tell = |error: &SqlError| {
            let place = error.position.clone().and_then(|it| text.get(it));
            format!("{} at {:?}", error.message, place.unwrap_or("nowhere"))
        };
        script
            .try_load(&db)
            .map_err(|errors| errors.iter().map(tell).collect())
    }

    const SOURCE: &str = "CREATE SOURCE s (a BIGINT, ts TIMESTAMP) WITH (connector = 'generate');";

    #[test]
    fn the_last_query_is_shown_unless_the_file_says_otherwise() {
        let shown = |rest: &str| {
            load(&format!("{SOURCE}{rest}"))
                .map_err(|_| ())
                .unwrap()
                .shown
        };
        assert_eq!(shown(""), ["s"]);
        assert_eq!(shown("CREATE STREAM x AS SELECT a FROM s"), ["x"]);
        let two = "CREATE STREAM x AS SELECT a FROM s; CREATE VIEW v AS SELECT a FROM x;";
        assert_eq!(shown(two), ["v"]);
        assert_eq!(
            shown(&format!("{two} SUBSCRIBE TO x; SUBSCRIBE TO v;")),
            ["x", "v"]
        );
        assert_eq!(shown(&format!("{two} SELECT a FROM v;")), [""; 0]);
        assert_eq!(
            shown("CREATE SINK o FROM s WITH (connector = 'stdout')"),
            [""; 0]
        );
        assert_eq!(shown(&format!("{two} DROP VIEW v;")), ["x"]);
    }

    #[test]
    fn all_errors_are_told_and_only_those() {
        let text = "CREATE SOURCE s (a BIGINT) WITH (connector = 'generate', sede = 1, rows = 'x');
            CREATE STREAM x AS SELECT a FROM s;
            CREATE SOURCE t (a BIGINT);
            CREATE STREAM y AS SELECT b FROM t;
            CREATE STREAM z AS SELECT a FROM y;
            SELEC 1;";
        let errors = load(text).map(|_| ()).unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:#?}");
        assert!(errors[0].contains("sede") && errors[1].contains("rows"));
        assert!(errors[2].ends_with("at \"b\""), "{}", errors[2]);
        assert!(errors[3].contains("SELEC"), "{}", errors[3]);
    }
}
