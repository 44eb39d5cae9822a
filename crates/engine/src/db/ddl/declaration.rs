//! The name and the columns that a statement declares.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::db::catalog::Catalog;
use crate::sql::{ColumnDefinition, Name, SqlError, sqlstate};

/// Whether something of this name exists, which is an error without IF NOT EXISTS.
pub(super) fn is_taken(
    catalog: &Catalog,
    name: &Name,
    if_not_exists: bool,
) -> Result<bool, SqlError> {
    if let Some(ending) = reserved_ending(&name.value) {
        let message = format!(
            "{:?} ends with {ending:?}, which the engine reserves",
            name.value
        );
        let error = SqlError::new(sqlstate::RESERVED_NAME, message).hint("Choose another name.");
        return Err(error.at(name.span.clone()));
    }
    let is_topic = || catalog.topics().any(|it| it.relation.name == name.value);
    let is_taken = catalog.entries.contains_key(&name.value) || is_topic();
    if is_taken && !if_not_exists {
        let error = SqlError::new(
            sqlstate::DUPLICATE_TABLE,
            format!("{:?} already exists", name.value),
        )
        .hint("Choose another name, DROP it first, or use IF NOT EXISTS.");
        return Err(error.at(name.span.clone()));
    }
    Ok(is_taken)
}

/// The ending of a name that the engine reserves: for bad rows, late rows, dead
/// letters, the query of a sink.
fn reserved_ending(name: &str) -> Option<&str> {
    let (_, ending) = name.rsplit_once("__")?;
    let is_numbered = ending
        .strip_prefix("late_")
        .is_some_and(|number| number.parse::<u32>().is_ok());
    let is_reserved = matches!(ending, "bad" | "dead" | "late" | "query") || is_numbered;
    is_reserved.then(|| &name[name.len() - ending.len() - 2..])
}

/// The columns that arrive: all but the computed ones.
pub(super) fn payload_of(columns: &[ColumnDefinition]) -> SchemaRef {
    let arrive = columns.iter().filter(|column| column.computed.is_none());
    schema_of(&arrive.cloned().collect::<Vec<_>>())
}

pub(super) fn schema_of(columns: &[ColumnDefinition]) -> SchemaRef {
    let field = |column: &ColumnDefinition| {
        let (name, data_type) = (&column.name.value, column.data_type.clone());
        Field::new(name, data_type, column.nullable)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}
