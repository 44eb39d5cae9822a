//! Columns that a query may name though `*` does not give them.
//!
//! A table may have some ([`Tables::hidden`](super::Tables::hidden)). A name that fits nothing else means one of
//! those, and [`Named`] tells which a query names. The planner then gives the table these columns, and
//! every `*` over it is made to leave them out.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Ident, ObjectName, ObjectNamePart, Select, SelectItem,
    SelectItemQualifiedWildcardKind, WildcardAdditionalOptions,
};

use super::scope::{Relation, Scope, same_but_case};
use super::tree::{joined, named_in};
use crate::dataflow::MetadataColumn;
use crate::sql::error::{Result, SqlError};

/// The hidden columns that a query names, by the declared names of their tables.
pub type Named = BTreeMap<String, BTreeSet<MetadataColumn>>;

/// The hidden column that `ident` means, and of which table.
pub(super) fn meant<'a>(
    ident: &Ident,
    relations: &'a [Relation],
) -> Option<(&'a str, MetadataColumn)> {
    let is_meant = |metadata: &&MetadataColumn| match ident.quote_style {
        Some(_) => metadata.name() == ident.value,
        None => same_but_case(metadata.name(), &ident.value),
    };
    relations.iter().find_map(|relation| {
        let (table, metadata) = relation.metadata.as_ref()?;
        Some((table.as_str(), *metadata.iter().find(is_meant)?))
    })
}

/// Makes every `*` of a select list leave out the hidden columns that its tables have.
pub(super) fn leave_out(select: &mut Select, scope: &Scope, named: &Named) -> Result<()> {
    for item in &mut select.projection {
        let (options, relations) = match item {
            SelectItem::Wildcard(options) => (options, scope.relations.iter().collect()),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                let (_, relation) = scope.relation(&joined(name));
                (options, Vec::from_iter(relation))
            }
            _ => continue,
        };
        let tables = relations
            .iter()
            .filter_map(|relation| relation.metadata.as_ref());
        let metadata = tables.filter_map(|(table, _)| named.get(table)).flatten();
        let metadata: BTreeSet<MetadataColumn> = metadata.copied().collect();
        if metadata.is_empty() {
            continue;
        }
        if relations.len() > 1 {
            let names: Vec<_> = metadata.iter().map(|column| column.name()).collect();
            let what = format!(
                "* over several tables, one of which shows {},",
                names.join(", ")
            );
            return Err(SqlError::not_built(what).hint("Name the columns."));
        }
        exclude(options, &metadata);
    }
    Ok(())
}

fn exclude(options: &mut WildcardAdditionalOptions, metadata: &BTreeSet<MetadataColumn>) {
    let known: BTreeSet<String> = named_in(options)
        .iter()
        .map(|it| it.value.clone())
        .collect();
    let new = metadata
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
