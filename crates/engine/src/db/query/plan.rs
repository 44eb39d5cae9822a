//! Plans a continuous query over what exists.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{Query, visit_relations};

use super::undefined::{refuse_undefined, with_fields};
use crate::db::catalog::SystemTable;
use crate::db::engine::Engine;
use crate::error::{Error, Result};
use crate::sql::plan::Planned;
use crate::sql::{SqlError, SqlQuery, output_names, resolve_identifiers, windows};
use crate::topic::TopicFailure;

/// # Errors
/// If the query is refused, or an input of it has failed.
pub(crate) fn plan(engine: &Engine, mut query: SqlQuery) -> Result<Planned> {
    let catalog = engine.catalog();
    windows::rewrite(&mut query)?;
    let named = resolve_identifiers(&mut query, &*catalog)?;
    refuse_undefined(&query, &catalog)?;
    refuse_system_tables(&query)?;
    output_names::refuse_repeated(&query)?;
    let (relations, text) = (catalog.relations(&named), query.clone());
    let planned = engine.planner.plan(query, &relations).map_err(|error| {
        let tables: Vec<_> = relations.iter().map(|it| Arc::clone(&it.schema)).collect();
        with_fields(error, &text, &tables)
    })?;
    for input in &planned.inputs {
        if let Some(TopicFailure { reason, .. }) = catalog.topic(input)?.failure()
            && !engine.persistence.is_restoring()
        {
            return Err(Error::QueryFailed {
                reason: format!("{input:?} has failed: {reason}"),
            });
        }
    }
    Ok(planned)
}

/// The columns that subscribers of a planned query get.
pub(crate) fn published_schema(planned: &Planned) -> SchemaRef {
    match planned.plan.changes {
        true => crate::dataflow::with_diff(&planned.plan.schema),
        false => Arc::clone(&planned.plan.schema),
    }
}

/// The names after FROM and JOIN.
pub(super) fn relation_names(query: &Query) -> Vec<String> {
    let mut names = Vec::new();
    let _ = visit_relations(query, |relation| {
        let parts = relation.0.iter();
        let parts = parts.filter_map(|part| part.as_ident().map(|ident| ident.value.as_str()));
        names.push(parts.collect::<Vec<_>>().join("."));
        std::ops::ControlFlow::<()>::Continue(())
    });
    names
}

fn refuse_system_tables(query: &SqlQuery) -> Result<(), SqlError> {
    let tables = relation_names(&query.ast);
    let Some(table) = tables.iter().find_map(|name| SystemTable::find(name)) else {
        return Ok(());
    };
    let message = format!("a continuous query over {}", table.full_name());
    Err(SqlError::not_built(message)
        .hint("SELECT from it: it shows how things are at that moment.")
        .at(query.span.clone()))
}
