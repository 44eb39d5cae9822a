//! Gives one name the declared spelling of what it matches, and remembers the metadata columns that
//! are named.

use std::cell::RefCell;

use datafusion::sql::sqlparser::ast::{
    Ident, JoinConstraint, ObjectName, ObjectNamePart, SelectItem, SelectItemQualifiedWildcardKind,
    Spanned as _, TableFactor, TableWithJoins,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::TableLookup;
use super::metadata_columns::{NamedMetadataColumns, metadata_column};
use super::scope::{Ctes, FromItem, NameMatch, Scope, Site, find};
use super::tree::{constraint, joined, named_in, plain_parts, respell};
use crate::sql::error::{Result, SqlError, sqlstate};
use crate::sql::script::QueryText;

pub(super) struct Spelling<'a> {
    tables: &'a dyn TableLookup,
    /// The names of all tables.
    names: Vec<String>,
    text: QueryText<'a>,
    /// The metadata columns that were named so far.
    pub named: RefCell<NamedMetadataColumns>,
}

impl<'a> Spelling<'a> {
    pub fn new(tables: &'a dyn TableLookup, text: QueryText<'a>) -> Self {
        Self {
            names: tables.names(),
            tables,
            text,
            named: RefCell::default(),
        }
    }

    /// Spells the name of a table as it is declared, and returns its columns.
    pub fn table(&self, name: &mut ObjectName, ctes: &Ctes) -> Result<FromItem> {
        let Some(written) = plain_parts(name) else {
            return Ok(FromItem {
                name: Some(joined(name)),
                ..FromItem::default()
            });
        };
        let quoted = written.iter().any(|part| part.quote_style.is_some());
        let bare = written.len() == 1;
        let mut full = joined(name);
        if !quoted {
            let tiers = [
                if bare { ctes.names() } else { Vec::new() },
                self.names.iter().map(String::as_str).collect(),
            ];
            let found = find(&full, &tiers);
            let code = sqlstate::AMBIGUOUS_TABLE;
            if let Some(spelling) = self.unambiguous(found, code, &full, name.span())? {
                full = spelling;
            }
        }
        respell(name, &full);
        let cte = ctes.columns(&full);
        let columns = match &cte {
            Some(columns) if bare => columns.clone(),
            _ => self.tables.columns(&full),
        };
        let metadata_columns = match cte {
            Some(_) => None,
            None => Some((full.clone(), self.tables.metadata_columns(&full))),
        };
        Ok(FromItem {
            name: Some(full),
            columns,
            metadata_columns,
        })
    }

    /// Spells the columns of `USING (...)`.
    pub fn using(&self, tables: &mut TableWithJoins, scope: &Scope) -> Result<()> {
        let relations = std::iter::once(&mut tables.relation);
        for factor in relations.chain(tables.joins.iter_mut().map(|join| &mut join.relation)) {
            if let TableFactor::NestedJoin {
                table_with_joins, ..
            } = factor
            {
                self.using(table_with_joins, scope)?;
            }
        }
        for join in &mut tables.joins {
            let Some(JoinConstraint::Using(names)) = constraint(&mut join.join_operator) else {
                continue;
            };
            for name in names {
                if let [ObjectNamePart::Identifier(ident)] = &mut name.0[..] {
                    self.column(ident, &[scope.columns()])?;
                }
            }
        }
        Ok(())
    }

    /// Spells the names in and after `*`.
    pub fn wildcard(&self, item: &mut SelectItem, scope: &Scope) -> Result<()> {
        let (options, columns) = match item {
            SelectItem::Wildcard(options) => (options, scope.columns()),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                let full = joined(name);
                let (found, item) = scope.item(&full);
                let columns = item.and_then(|item| item.columns.as_ref());
                let columns = columns.into_iter().flatten().map(String::as_str).collect();
                let mut parts = name.0.iter().filter_map(ObjectNamePart::as_ident);
                if parts.all(|part| part.quote_style.is_none()) {
                    let code = sqlstate::AMBIGUOUS_TABLE;
                    let spelling = self.unambiguous(found, code, &full, name.span())?;
                    respell(name, &spelling.unwrap_or(full));
                }
                (options, columns)
            }
            _ => return Ok(()),
        };
        for ident in named_in(options) {
            self.column(ident, std::slice::from_ref(&columns))?;
        }
        Ok(())
    }

    /// Spells a column as it is declared, and returns whether it is among the candidates.
    fn column(&self, ident: &mut Ident, tiers: &[Vec<&str>]) -> Result<bool> {
        if ident.quote_style.is_some() {
            return Ok(tiers
                .iter()
                .flatten()
                .any(|candidate| *candidate == ident.value));
        }
        let found = find(&ident.value, tiers);
        let code = sqlstate::AMBIGUOUS_COLUMN;
        match self.unambiguous(found, code, &ident.value, ident.span)? {
            None => Ok(false),
            Some(spelling) => {
                ident.value = spelling;
                Ok(true)
            }
        }
    }

    fn unambiguous(
        &self,
        found: NameMatch,
        code: &'static str,
        name: &str,
        span: Span,
    ) -> Result<Option<String>> {
        match found {
            NameMatch::None => Ok(None),
            NameMatch::One(spelling) => Ok(Some(spelling)),
            NameMatch::Ambiguous(candidates) => {
                let message = format!("name {name:?} is ambiguous: {}", candidates.join(", "));
                Err(SqlError::new(code, message)
                    .hint("Write the name in the case in which it is declared.")
                    .at(self.text.position(span)))
            }
        }
    }

    /// Spells `name`, searched from the innermost scope outwards.
    pub fn identifier(&self, ident: &mut Ident, site: Site) -> Result<()> {
        let Some((inner, around)) = site.scopes.split_last() else {
            return Ok(());
        };
        let aliases: Vec<&str> = site.aliases.iter().map(String::as_str).collect();
        let mut tiers = [inner.columns(), aliases];
        if site.aliases_first {
            tiers.reverse();
        }
        let known = self.column(ident, &tiers)? || self.metadata_column(ident, &inner.items);
        if known || !inner.is_complete() {
            return Ok(());
        }
        for scope in around.iter().rev() {
            let known = self.column(ident, &[scope.columns()])?;
            if known || self.metadata_column(ident, &scope.items) || !scope.is_complete() {
                break;
            }
        }
        Ok(())
    }

    /// Spells a metadata column as it is declared, and returns whether one of the items has it.
    fn metadata_column(&self, ident: &mut Ident, items: &[FromItem]) -> bool {
        let Some((table, column)) = metadata_column(ident, items) else {
            return false;
        };
        ident.value = column.name().to_owned();
        let mut named = self.named.borrow_mut();
        named.entry(table.to_owned()).or_default().insert(column);
        true
    }

    /// Spells `table.column`, `schema.table.column`, or a column and a field of it.
    pub fn compound(&self, parts: &mut [Ident], site: Site) -> Result<()> {
        for scope in site.scopes.iter().rev() {
            for qualifier in (1..parts.len()).rev() {
                if self.qualified(parts, qualifier, scope)? {
                    return Ok(());
                }
            }
        }
        match parts.first_mut() {
            Some(column) => self.identifier(column, site),
            None => Ok(()),
        }
    }

    /// Spells the parts if the first `count` of them qualify an item of the scope; returns whether
    /// they do.
    fn qualified(&self, parts: &mut [Ident], count: usize, scope: &Scope) -> Result<bool> {
        let (qualifier, columns) = parts.split_at_mut(count);
        let written: Vec<&str> = qualifier.iter().map(|part| part.value.as_str()).collect();
        let written = written.join(".");
        let (found, _) = scope.item(&written);
        let quoted = qualifier.iter().any(|part| part.quote_style.is_some());
        let span = Span::union_iter(qualifier.iter().map(|part| part.span));
        let spelling = match found {
            NameMatch::One(spelling) if !quoted || spelling == written => spelling,
            _ if quoted => return Ok(false),
            other => {
                let code = sqlstate::AMBIGUOUS_TABLE;
                match self.unambiguous(other, code, &written, span)? {
                    Some(spelling) => spelling,
                    None => return Ok(false),
                }
            }
        };
        let (_, item) = scope.item(&spelling);
        let known = item
            .and_then(|item| item.columns.as_deref())
            .unwrap_or_default();
        if let [part] = qualifier {
            part.value = spelling;
        } else {
            for (part, spelling) in qualifier.iter_mut().zip(spelling.split('.')) {
                part.value = spelling.into();
            }
        }
        if let Some(column) = columns.first_mut()
            && !self.column(column, &[known.iter().map(String::as_str).collect()])?
            && let Some(item) = item
        {
            self.metadata_column(column, std::slice::from_ref(item));
        }
        Ok(true)
    }
}
