//! The errors for names that nothing has, with what may be meant: of a table after FROM, and of a field.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Fields, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, Query, Spanned as _, TableFactor, Visit as _, Visitor,
    visit_expressions,
};

use crate::db::catalog::{Catalog, CatalogEntry, SYSTEM_SCHEMA, SystemTable};
use crate::sql::{SqlError, SqlQuery, TableLookup as _, did_you_mean, sqlstate};

/// Refuses a query over a table that is not there.
pub(super) fn refuse_undefined(query: &SqlQuery, catalog: &Catalog) -> Result<(), SqlError> {
    let mut tables = TablesOf::default();
    let _ = query.ast.visit(&mut tables);
    for table in tables.named {
        let parts = table.0.iter().filter_map(|part| part.as_ident());
        let name: Vec<&str> = parts.map(|part| part.value.as_str()).collect();
        let name = name.join(".");
        let is_there = tables.ctes.contains(&name)
            || SystemTable::find(&name).is_some()
            || catalog.topic(&name).is_ok();
        if !is_there {
            let message = format!("table '{name}' not found");
            let error = SqlError::new(sqlstate::UNDEFINED_TABLE, message);
            return Err(error
                .hint(hint(&name, catalog))
                .at(query.position(table.span())));
        }
    }
    Ok(())
}

/// The names after FROM and JOIN, but for table functions, and those that WITH defines.
#[derive(Default)]
struct TablesOf {
    named: Vec<ObjectName>,
    ctes: Vec<String>,
}

impl Visitor for TablesOf {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes
            .extend(ctes.map(|cte| cte.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table {
            name, args: None, ..
        } = factor
        {
            self.named.push(name.clone());
        }
        ControlFlow::Continue(())
    }
}

fn hint(name: &str, catalog: &Catalog) -> String {
    if let Some((owner, ending)) = name.rsplit_once("__")
        && let Some((owner, entry)) = catalog.spelling(owner).zip(catalog.get(owner))
    {
        let kind = entry.kind().to_string();
        match (entry, ending) {
            (CatalogEntry::Query(_), "dead") => {
                return format!(
                    "{owner:?} has no dead letters: its rows that fail end it. ALTER {} {owner} SET (on_error = 'dead_letter') \
                     changes that.",
                    kind.to_uppercase()
                );
            }
            (CatalogEntry::Query(_), "late") => {
                return format!("{owner:?} has no late rows: it has no window.");
            }
            (CatalogEntry::Query(_), "bad") => {
                return format!("{owner:?} is a {kind}, and only sources have bad rows.");
            }
            _ => {}
        }
    }
    let names = catalog.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(hint) = did_you_mean(name, &names) {
        return hint;
    }
    match name.split_once('.') {
        Some((schema, _)) if schema.eq_ignore_ascii_case(SYSTEM_SCHEMA) => {
            let tables = SystemTable::ALL.iter().map(SystemTable::full_name);
            format!("There are {}.", tables.collect::<Vec<_>>().join(", "))
        }
        _ => "SHOW SOURCES, SHOW STREAMS and SHOW VIEWS list what there is.".to_owned(),
    }
}

/// The error, if it is that about a field which a column of these tables does not have, with the fields that it has.
pub(super) fn with_fields(error: SqlError, query: &SqlQuery, tables: &[SchemaRef]) -> SqlError {
    let missing = error.message.strip_prefix("field ");
    let Some(missing) = missing.and_then(|it| it.strip_suffix(" not found in struct")) else {
        return error;
    };
    let mut explained = None;
    let _ = visit_expressions(&*query.ast, |expr| {
        if let Expr::CompoundIdentifier(parts) = expr {
            let mut places = (1..parts.len()).filter(|&place| parts[place].value == missing);
            explained = places.find_map(|place| {
                let mut tables = tables.iter();
                let fields = tables.find_map(|it| fields_of(&parts[..place], it.fields()))?;
                Some(without_field(&parts[..=place], &fields).at(query.position(parts[place].span)))
            });
        }
        match explained {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    });
    explained.unwrap_or(error)
}

/// The fields of `column.field.field`, perhaps behind the name of a table.
fn fields_of(parts: &[Ident], columns: &Fields) -> Option<Fields> {
    (0..parts.len()).find_map(|first| {
        parts[first..]
            .iter()
            .try_fold(columns.clone(), |fields, part| {
                let (_, field) = fields.find(&part.value)?;
                match field.data_type() {
                    DataType::Struct(fields) => Some(fields.clone()),
                    _ => None,
                }
            })
    })
}

fn without_field(path: &[Ident], fields: &Fields) -> SqlError {
    let path: Vec<&str> = path.iter().map(|part| part.value.as_str()).collect();
    let names: Vec<&str> = fields.iter().map(|it| it.name().as_str()).collect();
    let [column @ .., field] = path.as_slice() else {
        return SqlError::new(sqlstate::UNDEFINED_COLUMN, "no such field");
    };
    let message = format!("{} has no field {field:?}", column.join("."));
    let hint = did_you_mean(field, &names).unwrap_or_else(|| match names.as_slice() {
        [only] => format!("Its only field is {only}."),
        several => format!("Its fields are {}.", several.join(", ")),
    });
    SqlError::new(sqlstate::UNDEFINED_COLUMN, message).hint(hint)
}
