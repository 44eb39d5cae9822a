//! The name and the columns that a statement declares.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::db::catalog::Catalog;
use crate::db::engine::Engine;
use crate::durable::too_long;
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

/// Refuses the name of a source whose log could have no folder of its own.
pub(super) fn refuse_long_name(engine: &Engine, name: &Name) -> Result<(), SqlError> {
    // One that is there has a folder, or needs none.
    let why = too_long(&name.value).filter(|_| !engine.persistence.is_restoring());
    why.map_or(Ok(()), |why| {
        let message = format!("the name of a source is too long: {why}");
        let error = SqlError::new(sqlstate::NAME_TOO_LONG, message).at(name.span.clone());
        let hint = "Choose a shorter one: a letter of ASCII, a digit, _ and - have one byte, all others three and more.";
        Err(error.hint(hint))
    })
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
