//! Tests of reading SQL: the statements, the errors, the windows, and text that is not SQL.
//!
//! Positions are checked as the text they cover: [`failure`] returns an error with the part of the
//! script that it points at, which is easier to read than two numbers.

mod errors;
mod robustness;
mod statements;
mod windows;

use super::{SqlError, SqlQuery, Statement, parse};

/// The only statement of a script, which must be right.
pub(super) fn one(script: &str) -> Statement {
    let mut statements = parse(script).unwrap_or_else(|error| panic!("{script}: {error:?}"));
    assert_eq!(statements.len(), 1, "{script}");
    statements.remove(0).node
}

/// The query that a script is.
pub(super) fn query(script: &str) -> SqlQuery {
    match one(script) {
        Statement::Query(query) => query,
        other => panic!("{script} is no query: {other:?}"),
    }
}

/// What is wrong with a script, and the text that the error points at.
pub(super) fn failure(script: &str) -> (SqlError, String) {
    match parse(script) {
        Ok(statements) => panic!("{script} was accepted: {statements:?}"),
        Err(error) => {
            let place = pointed_at(script, &error);
            (error, place)
        }
    }
}

/// The text that an error points at.
pub(super) fn pointed_at(script: &str, error: &SqlError) -> String {
    let place = error
        .position
        .clone()
        .unwrap_or_else(|| panic!("{error:?} has no place"));
    script
        .get(place.clone())
        .unwrap_or_else(|| panic!("{place:?} is no place"))
        .to_owned()
}
