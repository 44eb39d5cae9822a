//! Which options of statements are secrets, so that nothing shows them.

use headwater_connect::Connectors;
use headwater_connect::options::OptionSet;

use super::IngestOptions;
use crate::error::Error;
use crate::sql::{ShownSql, SqlError};

/// Options of statements that no connector declares; none of them is a secret.
const OTHERS: [&str; 6] = [
    "connector",
    "type",
    "format",
    "start",
    "on_error",
    "description",
];

/// SQL as people are shown it: without the secrets of its options and URLs. The options are those of
/// `connectors`.
pub fn shown_sql(connectors: &Connectors, sql: &str) -> ShownSql {
    let declared = connectors.declared_options(OptionSet::of::<IngestOptions>().rows());
    let is_other = |key: &str| OTHERS.iter().any(|other| key.eq_ignore_ascii_case(other));
    ShownSql::new(sql, &|key| match is_other(key) {
        true => Some(false),
        false => declared.is_secret(key),
    })
}

/// An error of a script without the secrets of the script.
pub(crate) fn shown_error(connectors: &Connectors, sql: &str, error: Error) -> Error {
    let shown = shown_sql(connectors, sql);
    let of_sql = |error: SqlError| SqlError {
        message: shown.message(&error.message),
        detail: error.detail.map(|detail| shown.message(&detail)),
        hint: error.hint.map(|hint| shown.message(&hint)),
        ..error
    };
    match error {
        Error::Sql(error) => Error::Sql(of_sql(error)),
        Error::Statement(errors) => Error::Statement(errors.into_iter().map(of_sql).collect()),
        Error::Config { what } => Error::config(shown.message(&what)),
        Error::Data(reason) => Error::Data(shown.message(&reason)),
        other => other,
    }
}
