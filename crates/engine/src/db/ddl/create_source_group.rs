//! CREATE STREAM without a query: a source group without sources.

use std::sync::Arc;

use arrow::datatypes::Schema;

use super::declaration::{is_taken, schema_of};
use crate::clock::now_us;
use crate::db::catalog::{CatalogEntry, QueryEntry, StreamLifecycle};
use crate::db::engine::Engine;
use crate::db::lifecycle::new_topic;
use crate::db::options::refuse_all_but;
use crate::db::outcome::Outcome;
use crate::error::Result;
use crate::sql::plan::EventColumn;
use crate::sql::{CreateSourceGroup, Kind, OptionEntry, SqlError};

pub(crate) fn create_source_group(engine: &Engine, create: CreateSourceGroup) -> Result<Outcome> {
    let name = create.name.value.clone();
    if is_taken(&engine.catalog(), &create.name, create.if_not_exists)? {
        return Ok(Outcome::Unchanged { name });
    }
    let description = description(&create.options)?;
    let schema = match create.columns.is_empty() {
        true => Arc::new(Schema::empty()),
        false => schema_of(&create.columns),
    };
    let mut event_time = Vec::new();
    if let Some(watermark) = &create.watermark {
        if !watermark.delay.is_zero() {
            let error = SqlError::not_built("a delay in the watermark of a stream")
                .hint("Give each source a WATERMARK with the delay of its rows.");
            return Err(error.at(watermark.column.span.clone()).into());
        }
        let column = schema.index_of(&watermark.column.value);
        event_time.extend(column.map(|column| EventColumn::new(column, 0)));
    }
    let topic = new_topic(engine, &name, 0, schema, event_time)?;
    let mut lifecycle = StreamLifecycle::pending(!create.columns.is_empty(), now_us());
    lifecycle.description = description;
    let entry = QueryEntry {
        kind: Kind::Stream,
        topic,
        late: Vec::new(),
        dead_letters: None,
        inputs: Vec::new(),
        text: String::new(),
        logical: String::new(),
        lifecycle,
    };
    engine.catalog().insert(&name, CatalogEntry::Query(entry));
    Ok(Outcome::created(Kind::Stream, name))
}

fn description(options: &[OptionEntry]) -> Result<Option<String>> {
    refuse_all_but(&["description"], "a source group", options)?;
    if let [_, second, ..] = options {
        let error = SqlError::syntax("option \"description\" is given twice");
        return Err(error.at(second.key_span.clone()).into());
    }
    Ok(options.first().map(|option| option.value.to_string()))
}
