//! What PostgreSQL is on purpose not asked, or asked in other words; each with how often it was met.

use std::collections::BTreeMap;
use std::fmt;

/// The name of a [`Note`].
pub type Key = &'static str;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On purpose it differs, and PostgreSQL is asked so that it gives our answer.
    OtherWords,
    /// PostgreSQL has no answer to it that could be compared.
    NoAnswer,
}

pub struct Note {
    pub key: Key,
    pub kind: Kind,
    pub reason: &'static str,
}

const fn note(kind: Kind, key: Key, reason: &'static str) -> Note {
    Note { key, kind, reason }
}

use Kind::{NoAnswer, OtherWords};

/// The families; the key of a function begins with `fn:`, that of a value with `value:`.
pub const EVERYTHING: &[Note] = &[
    note(
        OtherWords,
        "literal:integer",
        "an integer literal is a BIGINT",
    ),
    note(
        OtherWords,
        "literal:point",
        "a literal with a point is a DOUBLE, no NUMERIC",
    ),
    note(
        OtherWords,
        "extract",
        "EXTRACT gives an INT, of SECOND and EPOCH a DOUBLE, no NUMERIC",
    ),
    note(
        OtherWords,
        "tinyint",
        "PostgreSQL has no TINYINT; a checked SMALLINT replaces it",
    ),
    note(
        OtherWords,
        "try_cast",
        "PostgreSQL has no TRY_CAST; a function that catches the error replaces it",
    ),
    note(
        OtherWords,
        "fn:avg",
        "AVG of integers is a DOUBLE rounded once, no NUMERIC",
    ),
    note(OtherWords, "fn:sum", "SUM(BIGINT) stays BIGINT"),
    note(
        OtherWords,
        "scale",
        "a DECIMAL has the scale of its type; the digits of a NUMERIC beyond it are rounded away",
    ),
    note(OtherWords, "late", "late rows are in no window"),
    note(
        NoAnswer,
        "unsigned",
        "PostgreSQL has no unsigned types; BIGINT UNSIGNED fits no type of it",
    ),
    note(
        NoAnswer,
        "nanoseconds",
        "PostgreSQL's timestamps are microseconds",
    ),
    note(
        NoAnswer,
        "calendar",
        "a time outside of the years 0001 to 9999",
    ),
    note(
        NoAnswer,
        "lists",
        "a column of lists is read by no later query",
    ),
    note(
        NoAnswer,
        "partly late",
        "a row that is late for some of its HOP windows",
    ),
    note(
        NoAnswer,
        "fn:median",
        "PostgreSQL has no MEDIAN; ours has the type of its argument, and cuts",
    ),
    note(
        NoAnswer,
        "fn:approx_distinct",
        "PostgreSQL has no APPROX_DISTINCT; ours may be wrong by some percent",
    ),
    note(
        NoAnswer,
        "refused",
        "PostgreSQL has no such function, operator or implicit cast",
    ),
];

fn find(key: &str) -> Option<&'static Note> {
    EVERYTHING.iter().find(|note| note.key == key)
}

/// Whether PostgreSQL is not asked about it.
pub fn is_off(key: &str) -> bool {
    find(key).is_some_and(|note| note.kind == NoAnswer)
}

/// The key as the list has it, if the list has it.
pub fn known(key: &str) -> Option<Key> {
    find(key).map(|note| note.key)
}

/// How often each was met, and how many queries PostgreSQL has answered.
#[derive(Default, Clone)]
pub struct Counts {
    met: BTreeMap<Key, usize>,
    /// What PostgreSQL says that it does not have.
    refused: BTreeMap<String, usize>,
    pub agreed: usize,
    pub failed_both: usize,
    pub not_asked: usize,
    pub columns_left_out: usize,
}

impl Counts {
    pub fn meet(&mut self, key: Key) {
        *self.met.entry(key).or_default() += 1;
    }

    pub fn refuse(&mut self, message: &str) {
        self.meet("refused");
        *self.refused.entry(message.into()).or_default() += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "PostgreSQL: {} queries agree, {} fail in both, {} were not asked; {} columns left out",
            self.agreed, self.failed_both, self.not_asked, self.columns_left_out
        )?;
        for (kind, title) in [
            (OtherWords, "on purpose, asked in other words"),
            (NoAnswer, "on purpose, not asked"),
        ] {
            writeln!(f, "{title}:")?;
            for note in EVERYTHING.iter().filter(|note| note.kind == kind) {
                let times = self.met.get(note.key).copied().unwrap_or_default();
                writeln!(f, "  {times:>7} {}: {}", note.key, note.reason)?;
            }
        }
        writeln!(f, "refused by PostgreSQL:")?;
        for (message, times) in &self.refused {
            writeln!(f, "  {times:>7} {message}")?;
        }
        Ok(())
    }
}
