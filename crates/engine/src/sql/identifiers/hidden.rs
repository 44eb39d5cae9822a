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
use crate::dataflow::Hidden;
use crate::sql::error::{Result, SqlError};

/// The hidden columns that a query names, by the declared names of their tables.
pub type Named = BTreeMap<String, BTreeSet<Hidden>>;

/// The hidden column that `ident` means, and of which table.
pub(super) fn meant<'a>(ident: &Ident, relations: &'a [Relation]) -> Option<(&'a str, Hidden)> {
    let is_meant = |hidden: &&Hidden| match ident.quote_style {
        Some(_) => hidden.name() == ident.value,
        None => same_but_case(hidden.name(), &ident.value),
    };
    relations.iter().find_map(|relation| {
        let (table, hidden) = relation.hidden.as_ref()?;
        Some((table.as_str(), *hidden.iter().find(is_meant)?))
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
            .filter_map(|relation| relation.hidden.as_ref());
        let hidden = tables.filter_map(|(table, _)| named.get(table)).flatten();
        let hidden: BTreeSet<Hidden> = hidden.copied().collect();
        if hidden.is_empty() {
            continue;
        }
        if relations.len() > 1 {
            let names: Vec<_> = hidden.iter().map(|column| column.name()).collect();
            let what = format!(
                "* over several tables, one of which shows {},",
                names.join(", ")
            );
            return Err(SqlError::not_built(what).hint("Name the columns."));
        }
        exclude(options, &hidden);
    }
    Ok(())
}

fn exclude(options: &mut WildcardAdditionalOptions, hidden: &BTreeSet<Hidden>) {
    let known: BTreeSet<String> = named_in(options)
        .iter()
        .map(|it| it.value.clone())
        .collect();
    let new = hidden
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
