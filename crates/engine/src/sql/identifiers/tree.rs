//! Names, aliases and columns as `sqlparser`'s tree holds them.
//!
//! The tree has many shapes for these: a name has one part or several, a dozen kinds of table factor
//! have an alias, a join has its constraint in one of fourteen variants. The functions here read
//! and write them; they look nothing up.

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart,
    SelectItem, SelectItemQualifiedWildcardKind, TableAlias, TableFactor,
    WildcardAdditionalOptions,
};

use super::scope::{Columns, Scope};

/// The names of the select list that another clause can use.
pub(super) fn aliases(projection: &[SelectItem]) -> Vec<String> {
    projection.iter().filter_map(item_name).collect()
}

/// The name of one item; none for an expression without an alias.
fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
            parts.last().map(|part| part.value.clone())
        }
        _ => None,
    }
}

/// The columns of a select list over a scope.
pub(super) fn output(projection: &[SelectItem], scope: &Scope) -> Columns {
    let mut columns = Vec::new();
    for item in projection {
        match item {
            SelectItem::Wildcard(_) if !scope.is_complete() => return None,
            SelectItem::Wildcard(_) => columns.extend(owned(&scope.columns())),
            SelectItem::QualifiedWildcard(kind, _) => {
                let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                    return None;
                };
                let (_, item) = scope.item(&joined(name));
                columns.extend(item?.columns.clone()?);
            }
            other => columns.extend(item_name(other)),
        }
    }
    Some(columns)
}

pub(super) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// The columns with the names that an alias gives them: `AS t (a, b)`.
pub(super) fn renamed(columns: Columns, alias: &TableAlias) -> Columns {
    if alias.columns.is_empty() {
        return columns;
    }
    Some(
        alias
            .columns
            .iter()
            .map(|column| column.name.value.clone())
            .collect(),
    )
}

pub(super) fn alias_of(factor: &TableFactor) -> Option<&TableAlias> {
    match factor {
        TableFactor::Table { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::JsonTable { alias, .. }
        | TableFactor::OpenJsonTable { alias, .. }
        | TableFactor::XmlTable { alias, .. }
        | TableFactor::SemanticView { alias, .. } => alias.as_ref(),
        _ => None,
    }
}

/// The columns named after `*`, as in `* EXCEPT (a, b)`.
pub(super) fn named_in(options: &mut WildcardAdditionalOptions) -> Vec<&mut Ident> {
    let mut named = Vec::new();
    if let Some(except) = &mut options.opt_except {
        named.push(&mut except.first_element);
        named.extend(&mut except.additional_elements);
    }
    let excluded = match &mut options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => std::slice::from_mut(name),
        Some(ExcludeSelectItem::Multiple(names)) => &mut names[..],
        None => &mut [],
    };
    for name in excluded {
        if let [ObjectNamePart::Identifier(ident)] = &mut name.0[..] {
            named.push(ident);
        }
    }
    if let Some(replace) = &mut options.opt_replace {
        named.extend(replace.items.iter_mut().map(|item| &mut item.column_name));
    }
    named
}

pub(super) fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        JoinOperator::AsOf { constraint, .. } => Some(constraint),
        _ => None,
    }
}

/// The parts of a name, if all of them are names.
pub(super) fn plain_parts(name: &ObjectName) -> Option<Vec<&Ident>> {
    name.0.iter().map(ObjectNamePart::as_ident).collect()
}

/// The parts joined by dots, without quotes: `schema.table`.
pub(super) fn joined(name: &ObjectName) -> String {
    let parts = name.0.iter().filter_map(ObjectNamePart::as_ident);
    parts
        .map(|part| part.value.as_str())
        .collect::<Vec<_>>()
        .join(".")
}

/// Writes a spelling into a name with the same number of parts.
pub(super) fn respell(name: &mut ObjectName, spelling: &str) {
    if let [ObjectNamePart::Identifier(ident)] = &mut name.0[..] {
        ident.value = spelling.to_owned();
        return;
    }
    for (part, spelling) in name.0.iter_mut().zip(spelling.split('.')) {
        if let ObjectNamePart::Identifier(ident) = part {
            ident.value = spelling.to_owned();
        }
    }
}
