//! Metadata columns, which a query can name though `*` leaves them out.
//!
//! A table has them by [`TableLookup::metadata_columns`](super::TableLookup::metadata_columns). A name
//! without another match is one of these, and [`NamedMetadataColumns`] collects those that a query
//! names. The planner then appends these columns to the table, and every `*` over it excludes them.
use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Ident, ObjectName, ObjectNamePart, Select, SelectItem,
    SelectItemQualifiedWildcardKind, WildcardAdditionalOptions,
};

use super::scope::{FromItem, Scope, same_but_case};
use super::tree::{joined, named_in};
use crate::dataflow::MetadataColumn;
use crate::sql::error::{Result, SqlError};

/// The metadata columns that a query names, by the declared names of their tables.
pub type NamedMetadataColumns = BTreeMap<String, BTreeSet<MetadataColumn>>;

/// The metadata column that `ident` names, with the declared name of its table.
pub(super) fn metadata_column<'a>(
    ident: &Ident,
    items: &'a [FromItem],
) -> Option<(&'a str, MetadataColumn)> {
    let is_named = |column: &&MetadataColumn| match ident.quote_style {
        Some(_) => column.name() == ident.value,
        None => same_but_case(column.name(), &ident.value),
    };
    items.iter().find_map(|item| {
        let (table, columns) = item.metadata_columns.as_ref()?;
        Some((table.as_str(), *columns.iter().find(is_named)?))
    })
}

/// Excludes the metadata columns that the query names from every `*` of a select list.
pub(super) fn exclude_from_wildcards(
    select: &mut Select,
    scope: &Scope,
    named: &NamedMetadataColumns,
) -> Result<()> {
    for item in &mut select.projection {
        let (options, items) = match item {
            SelectItem::Wildcard(options) => (options, scope.items.iter().collect()),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                let (_, item) = scope.item(&joined(name));
                (options, Vec::from_iter(item))
            }
            _ => continue,
        };
        let tables = items
            .iter()
            .filter_map(|item| item.metadata_columns.as_ref());
        let columns = tables.filter_map(|(table, _)| named.get(table)).flatten();
        let columns: BTreeSet<MetadataColumn> = columns.copied().collect();
        if columns.is_empty() {
            continue;
        }
        if items.len() > 1 {
            let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
            let what = format!(
                "* over several tables, one of which shows {},",
                names.join(", ")
            );
            return Err(SqlError::not_built(what).hint("Name the columns."));
        }
        exclude(options, &columns);
    }
    Ok(())
}

fn exclude(options: &mut WildcardAdditionalOptions, columns: &BTreeSet<MetadataColumn>) {
    let known: BTreeSet<String> = named_in(options)
        .iter()
        .map(|it| it.value.clone())
        .collect();
    let new = columns
        .iter()
        .filter(|column| !known.contains(column.name()));
    let new = new.map(|column| {
        let ident = Ident::new(column.name());
        ObjectName(vec![ObjectNamePart::Identifier(ident)])
    });
    let mut names = match options.opt_exclude.take() {
        Some(ExcludeSelectItem::Single(name)) => vec![name],
        Some(ExcludeSelectItem::Multiple(names)) => names,
        None => Vec::new(),
    };
    names.extend(new);
    options.opt_exclude = Some(ExcludeSelectItem::Multiple(names));
}
