//! The options of streams and views: `start` and `on_error`; and the topic of dead letters that
//! `on_error = 'dead_letter'` brings with it.

use std::sync::Arc;

use headwater_connect::DeadLetter;

use crate::dataflow::OnError;
use crate::db::backfill::start_of;
use crate::db::catalog::Start;
use crate::db::engine::Engine;
use crate::db::options::refuse_all_but;
use crate::error::Result;
use crate::sql::plan::Relation;
use crate::sql::{OptionEntry, SqlError, sqlstate};
use crate::topic::Topic;

/// The name of the option that says what happens to a row whose expressions fail.
pub(super) const ON_ERROR: &str = "on_error";

/// The options of a stream or view with a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryOptions {
    pub start: Start,
    pub on_error: OnError,
}

impl QueryOptions {
    /// Spelt in two ways an option may be there twice, and the last one counts.
    pub fn of(start: Start, options: &[OptionEntry]) -> Result<Self> {
        refuse_all_but(&["start", ON_ERROR], "a stream or view", options)?;
        let mut found = Self {
            start,
            on_error: OnError::default(),
        };
        for option in options {
            match option.key.eq_ignore_ascii_case(ON_ERROR) {
                true => found.on_error = on_error(option)?,
                false => found.start = start_of(option)?,
            }
        }
        Ok(found)
    }
}

/// The value of the option `on_error`.
pub(super) fn on_error(option: &OptionEntry) -> Result<OnError> {
    let text = option.value.to_string();
    match text.to_ascii_lowercase().as_str() {
        "fail" => Ok(OnError::Fail),
        "dead_letter" => Ok(OnError::DeadLetter),
        _ => {
            let message = format!("on_error = {text:?} is neither 'fail' nor 'dead_letter'");
            Err(SqlError::new(sqlstate::INVALID_PARAMETER, message)
                .hint("'fail' ends the query at a row that fails; 'dead_letter' sends the row to <name>__dead.")
                .at(option.value_span.clone())
                .into())
        }
    }
}

/// A new topic for the dead letters of a query.
pub(super) fn dead_letter_topic(engine: &Engine, query: &str, home: usize) -> Result<Arc<Topic>> {
    let relation = Relation {
        in_order: false,
        ..Relation::new(&dead_letter_name(query), DeadLetter::schema())
    };
    engine.restored_topic(home, relation, false)
}

/// The name of the topic of its dead letters; the engine reserves the ending.
pub(super) fn dead_letter_name(query: &str) -> String {
    format!("{query}__dead")
}
