//! A file of SQL: runs its statements in a database, and finds which results to show.
//!
//! It tries every statement, so that the user sees all errors at once. It leaves out errors that only
//! follow from another: an unknown name that an earlier wrong statement would have created.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use headwater::sql::{OptionEntry, Spanned, SqlError, Statement, parse_each, sqlstate};
use headwater::{Db, Outcome};

use crate::draw::draw_for_stderr;
use crate::error::CliError;

/// SQLSTATE: an error that has no code of its own.
const OTHER: &str = "XX000";

pub struct SqlScript {
    /// The file name shown in errors.
    pub name: String,
    pub text: String,
}

/// What a script created in a database, and what it asks to see.
#[derive(Default)]
pub struct LoadedScript {
    /// Names of the sources that have a connector.
    pub sources: Vec<String>,
    /// The names to subscribe to.
    pub shown: Vec<String>,
    /// SELECT statements, to be run when all sources have ended.
    pub selects: Vec<String>,
    /// Results of SHOW, DESCRIBE and EXPLAIN.
    pub answers: Vec<(SchemaRef, Vec<RecordBatch>)>,
    /// Whether a sink writes to the standard output.
    pub prints: bool,
    /// Kind and name of what was created, as text.
    pub created: Vec<String>,
    /// The names in all CREATE statements, also those that existed before.
    pub names: Vec<String>,
    /// The dead-letter streams that options name; they are created if they do not exist.
    pub dead_letters: Vec<String>,
    queries: Vec<String>,
    all_sources: Vec<String>,
    sinks: usize,
}

impl SqlScript {
    /// Reads a file, or the standard input if the path is `-`.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let name = path.display().to_string();
        let (name, bytes) = if path == Path::new("-") {
            let mut bytes = Vec::new();
            let read = std::io::stdin().read_to_end(&mut bytes);
            ("<stdin>".to_owned(), read.map(|_| bytes))
        } else {
            (name, std::fs::read(path))
        };
        let bytes =
            bytes.map_err(|error| CliError::input(format!("cannot read {name}: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            CliError::input(format!("{name} is not UTF-8 from byte {at} on"))
        })?;
        let text = without_bom(&text).to_owned();
        Ok(Self { name, text })
    }

    /// The errors of this script, drawn for the user.
    pub fn failure(&self, errors: &[SqlError]) -> CliError {
        CliError::Drawn(draw_for_stderr(&self.name, &self.text, errors))
    }

    /// Runs the statements in `db`, whose connectors must not start by themselves.
    ///
    /// # Errors
    /// All errors, drawn.
    pub fn load(&self, db: &Db) -> Result<LoadedScript, CliError> {
        self.try_load(db).map_err(|errors| self.failure(&errors))
    }

    fn try_load(&self, db: &Db) -> Result<LoadedScript, Vec<SqlError>> {
        let mut loaded = LoadedScript::default();
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
                Err(error) => {
                    wrong.extend(created_at(&self.text, &error));
                    errors.push(error);
                }
            }
        }
        let follows = |error: &SqlError| {
            let marked = error.position.clone().and_then(|it| self.text.get(it));
            let name = marked.map(|it| it.trim_matches('"').to_lowercase());
            error.sqlstate == sqlstate::UNDEFINED_TABLE
                && name.is_some_and(|name| wrong.contains(&name))
        };
        // At least one error must be left.
        if errors.iter().any(|error| !follows(error)) {
            errors.retain(|error| !follows(error));
        }
        match errors.is_empty() {
            true => Ok(loaded.with_default_output()),
            false => Err(errors),
        }
    }

    fn run(
        &self,
        db: &Db,
        statement: &Spanned<Statement>,
        loaded: &mut LoadedScript,
    ) -> Result<(), Vec<SqlError>> {
        let text = &self.text[statement.span.clone()];
        let outcomes = db
            .execute(text)
            .map_err(|error| in_script(&error, statement.span.start))?;
        loaded.note(&statement.node, text);
        for outcome in outcomes {
            match outcome {
                Outcome::Created { kind, name } => {
                    loaded.created.push(format!("{kind} {name}"));
                }
                Outcome::Rows {
                    schema, batches, ..
                } if !matches!(statement.node, Statement::Query(_)) => {
                    loaded.answers.push((schema, batches));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl LoadedScript {
    fn note(&mut self, statement: &Statement, text: &str) {
        self.names.extend(created_by(statement).map(str::to_owned));
        self.dead_letters.extend(dead_letters(statement));
        match statement {
            Statement::CreateSource(create) => {
                let name = create.name.value.clone();
                if connector(&create.options).is_some() {
                    self.sources.push(name.clone());
                }
                self.all_sources.push(name);
            }
            Statement::CreateQuery(create) => self.queries.push(create.name.value.clone()),
            // Without columns nothing can read it before a source is attached.
            Statement::CreateSourceGroup(create) if create.columns.is_empty() => {}
            Statement::CreateSourceGroup(create) => self.queries.push(create.name.value.clone()),
            Statement::Attach(attach) => {
                let stream = &attach.stream.value;
                let is_it = |name: &String| name.eq_ignore_ascii_case(stream);
                if !self.queries.iter().any(is_it) {
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
            | Statement::AlterStream(_)
            | Statement::Reprocess(_)
            | Statement::Replay(_)
            | Statement::Show(_)
            | Statement::Describe(_)
            | Statement::Explain(_) => {}
        }
    }

    /// If the file has no SUBSCRIBE, SELECT or sink to the standard output, shows its last stream or
    /// view; without one, and without a sink, its last source.
    fn with_default_output(mut self) -> Self {
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

/// Removes the byte order mark that some programs put first.
pub fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn connector(options: &[OptionEntry]) -> Option<String> {
    let named = |option: &&OptionEntry| option.key.eq_ignore_ascii_case("connector");
    let option = options.iter().find(named)?;
    Some(option.value.to_string().to_lowercase())
}

/// The dead-letter stream that a statement's options name.
fn dead_letters(statement: &Statement) -> Option<String> {
    let options = match statement {
        Statement::CreateSource(create) => &create.options,
        Statement::CreateSink(create) => &create.options,
        Statement::AlterSource(alter) => &alter.options,
        _ => return None,
    };
    // With or without the connector's name in front.
    let names = |key: &str| key.to_lowercase().ends_with("error.dlq.stream");
    let option = options.iter().find(|option| names(&option.key))?;
    Some(option.value.to_string())
}

/// The name that a statement would have created.
fn created_by(statement: &Statement) -> Option<&str> {
    match statement {
        Statement::CreateSource(create) => Some(&create.name.value),
        Statement::CreateQuery(create) => Some(&create.name.value),
        Statement::CreateSourceGroup(create) => Some(&create.name.value),
        Statement::CreateSink(create) => Some(&create.name.value),
        _ => None,
    }
}

/// The name, in lower case, of what a statement would have created that cannot be read.
fn created_at(text: &str, error: &SqlError) -> Option<String> {
    const KINDS: &[&str] = &["SOURCE", "STREAM", "VIEW", "SINK"];
    let before = text.get(..error.position.as_ref()?.start)?;
    let statement = before.rsplit(';').next()?;
    let is = |word: &str, wanted: &[&str]| wanted.iter().any(|it| word.eq_ignore_ascii_case(it));
    let mut words = statement.split_whitespace();
    words.find(|word| is(word, &["CREATE"]))?;
    words.find(|word| is(word, KINDS))?;
    let name = words.find(|word| !is(word, &["IF", "NOT", "EXISTS"]))?;
    let name = name.split('(').next()?;
    Some(name.trim_matches('"').to_lowercase())
}

/// The errors of a statement that begins `offset` bytes into the script, with positions in the script.
pub fn in_script(error: &headwater::Error, offset: usize) -> Vec<SqlError> {
    if error.sql_errors().is_empty() {
        return vec![SqlError::new(OTHER, error.to_string()).at(offset..offset)];
    }
    let shift = |error: &SqlError| {
        let mut error = error.clone();
        error.position = error
            .position
            .map(|range| range.start + offset..range.end + offset);
        error
    };
    error.sql_errors().iter().map(shift).collect()
}

/// Fails if a source, stream or sink has failed for good. Works after the database was closed, too.
pub fn check_failures(db: &Db) -> Result<(), CliError> {
    let failures = db.failures();
    let lines = failures
        .iter()
        .map(|(kind, name, reason)| format!("error: {kind} {name} failed: {reason}"));
    let lines: Vec<String> = lines.collect();
    match lines.is_empty() {
        true => Ok(()),
        false => Err(CliError::Runtime(lines.join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<LoadedScript, Vec<String>> {
        let db = Db::builder().workers(1).start_connectors(false);
        let db = db.in_memory().unwrap();
        let script = SqlScript {
            name: "t.sql".to_owned(),
            text: text.to_owned(),
        };
        let describe = |error: &SqlError| {
            let marked = error.position.clone().and_then(|it| text.get(it));
            format!("{} at {:?}", error.message, marked.unwrap_or("nowhere"))
        };
        script
            .try_load(&db)
            .map_err(|errors| errors.iter().map(describe).collect())
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
    fn all_errors_are_reported_but_not_those_that_follow() {
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
        let text = "CREATE SOURCE IF NOT EXISTS \"s\"(a BIGIN) WITH (connector = 'generate');
            CREATE VIEW x AS SELECT a FROM s;
            CREATE SINK o FROM x WITH (connector = 'stdout');";
        let errors = load(text).map(|_| ()).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].contains("BIGIN"), "{}", errors[0]);
    }
}
