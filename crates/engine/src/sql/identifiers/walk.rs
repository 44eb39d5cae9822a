//! The walk over a query that gives every name its declared spelling.
//!
//! Queries, their `FROM` and their clauses are walked here by hand, because each clause sees other
//! names; within an expression `sqlparser`'s visitor finds the names. A subquery of an expression is
//! walked when the visitor enters it, and the visitor then skips the names in it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, OrderBy, Query, Select, SetExpr, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use super::TableLookup;
use super::metadata_columns::{NamedMetadataColumns, exclude_from_wildcards};
use super::scope::{Columns, Ctes, FromItem, Scope, Site};
use super::spelling::Spelling;
use super::tree::{alias_of, aliases, output, owned, renamed};
use crate::sql::error::{Result, SqlError, VisitFlow, stop_at_error, visited};
use crate::sql::stack::deep;
use crate::sql::statement::SqlQuery;

/// Gives every name in the query and in its subqueries its declared spelling, and returns the
/// metadata columns that it names.
///
/// # Errors
///
/// A name that differs in case from several names and equals none; `*` over several tables of which
/// one has a metadata column that the query names.
pub fn resolve_identifiers(
    query: &mut SqlQuery,
    tables: &dyn TableLookup,
) -> Result<NamedMetadataColumns> {
    let (ast, text) = query.tree_and_text();
    let mut resolver = IdentifierResolver {
        spelling: Spelling::new(tables, text),
        excludes: false,
    };
    deep(|| {
        resolver.query(ast, &[], &Ctes::default())?;
        if !resolver.spelling.named.borrow().is_empty() {
            // Only after the first walk all columns are known that every `*` excludes.
            resolver.excludes = true;
            resolver.query(ast, &[], &Ctes::default())?;
        }
        Ok(resolver.spelling.named.take())
    })
}

struct IdentifierResolver<'a> {
    spelling: Spelling<'a>,
    /// Whether `*` is to exclude the metadata columns that are named: all of them are known.
    excludes: bool,
}

impl IdentifierResolver<'_> {
    fn query(&self, query: &mut Query, outer: &[Scope], ctes: &Ctes) -> Result<Columns> {
        let mut ctes = ctes.clone();
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                let name = cte.alias.name.value.clone();
                let mut within = ctes.clone();
                if with.recursive {
                    within.push(name.clone(), None);
                }
                let columns = self.query(&mut cte.query, outer, &within)?;
                ctes.push(name, renamed(columns, &cte.alias));
            }
        }
        match &mut *query.body {
            SetExpr::Select(select) => self.select(select, query.order_by.as_mut(), outer, &ctes),
            body => {
                let columns = self.set_expr(body, outer, &ctes)?;
                let scopes = [Scope {
                    items: vec![FromItem::unnamed(columns.clone())],
                }];
                if let Some(order_by) = &mut query.order_by {
                    self.visit(order_by, Site::without_aliases(&scopes, &ctes))?;
                }
                Ok(columns)
            }
        }
    }

    /// The columns of a set operation are those of its first arm.
    fn set_expr(&self, body: &mut SetExpr, outer: &[Scope], ctes: &Ctes) -> Result<Columns> {
        match body {
            SetExpr::Select(select) => self.select(select, None, outer, ctes),
            SetExpr::Query(query) => self.query(query, outer, ctes),
            SetExpr::SetOperation { left, right, .. } => {
                let columns = self.set_expr(left, outer, ctes)?;
                self.set_expr(right, outer, ctes)?;
                Ok(columns)
            }
            SetExpr::Values(values) => {
                let width = values.rows.first().map_or(0, |row| row.len());
                self.visit(values, Site::without_aliases(outer, ctes))?;
                Ok(Some((1..=width).map(|n| format!("column{n}")).collect()))
            }
            SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => Ok(None),
        }
    }

    fn select(
        &self,
        select: &mut Select,
        order_by: Option<&mut OrderBy>,
        outer: &[Scope],
        ctes: &Ctes,
    ) -> Result<Columns> {
        let mut scope = Scope::default();
        for tables in &mut select.from {
            self.from(tables, &mut scope, outer, ctes)?;
        }
        let scopes = [outer, std::slice::from_ref(&scope)].concat();
        let plain = Site::without_aliases(&scopes, ctes);
        self.visit(
            &mut select.from,
            Site {
                queries_done: true,
                ..plain
            },
        )?;
        for tables in &mut select.from {
            self.spelling.using(tables, &scope)?;
        }
        self.visit(&mut select.projection, plain)?;
        for item in &mut select.projection {
            self.spelling.wildcard(item, &scope)?;
        }
        self.visit(&mut select.selection, plain)?;
        self.visit(&mut select.lateral_views, plain)?;

        let aliases = aliases(&select.projection);
        let grouped = Site {
            aliases: &aliases,
            ..plain
        };
        self.visit(&mut select.group_by, grouped)?;
        self.visit(&mut select.having, grouped)?;
        self.visit(&mut select.named_window, grouped)?;
        self.visit(&mut select.qualify, grouped)?;
        let ordered = Site {
            aliases_first: true,
            ..grouped
        };
        self.visit(&mut select.distinct, ordered)?;
        self.visit(&mut select.sort_by, ordered)?;
        if let Some(order_by) = order_by {
            self.visit(order_by, ordered)?;
        }
        if self.excludes {
            exclude_from_wildcards(select, &scope, &self.spelling.named.borrow())?;
        }
        Ok(output(&select.projection, &scope))
    }

    fn from(
        &self,
        tables: &mut TableWithJoins,
        scope: &mut Scope,
        outer: &[Scope],
        ctes: &Ctes,
    ) -> Result<()> {
        self.add_item(&mut tables.relation, scope, outer, ctes)?;
        for join in &mut tables.joins {
            self.add_item(&mut join.relation, scope, outer, ctes)?;
        }
        Ok(())
    }

    /// Adds an item of `FROM` to the scope.
    fn add_item(
        &self,
        factor: &mut TableFactor,
        scope: &mut Scope,
        outer: &[Scope],
        ctes: &Ctes,
    ) -> Result<()> {
        let (item, alias) = match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => (self.spelling.table(name, ctes)?, alias.as_ref()),
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                ..
            } => {
                let beside: &[Scope] = if *lateral {
                    std::slice::from_ref(scope)
                } else {
                    &[]
                };
                let columns = self.query(subquery, &[outer, beside].concat(), ctes)?;
                (FromItem::unnamed(columns), alias.as_ref())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let mut inner = Scope::default();
                self.from(table_with_joins, &mut inner, outer, ctes)?;
                if alias.is_none() {
                    scope.items.extend(inner.items);
                    return Ok(());
                }
                let columns = inner.is_complete().then(|| owned(&inner.columns()));
                (FromItem::unnamed(columns), alias.as_ref())
            }
            TableFactor::Pivot { table, alias, .. }
            | TableFactor::Unpivot { table, alias, .. }
            | TableFactor::MatchRecognize { table, alias, .. } => {
                self.add_item(table, &mut Scope::default(), outer, ctes)?;
                (FromItem::default(), alias.as_ref())
            }
            other => (FromItem::default(), alias_of(other)),
        };
        scope.items.push(match alias {
            None => item,
            Some(alias) => FromItem {
                name: Some(alias.name.value.clone()),
                columns: renamed(item.columns, alias),
                ..item
            },
        });
        Ok(())
    }

    fn visit(&self, node: &mut impl VisitMut, site: Site) -> Result<()> {
        visited(node.visit(&mut ExpressionNames {
            resolver: self,
            site,
            inside: 0,
        }))
    }
}

/// Spells the names in an expression.
struct ExpressionNames<'a> {
    resolver: &'a IdentifierResolver<'a>,
    site: Site<'a>,
    /// The depth of the subquery that the visitor is in, 0 outside of any.
    inside: usize,
}

impl VisitorMut for ExpressionNames<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> VisitFlow {
        self.inside += 1;
        if self.inside > 1 || self.site.queries_done {
            return ControlFlow::Continue(());
        }
        stop_at_error(self.resolver.query(query, self.site.scopes, self.site.ctes))
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> VisitFlow {
        self.inside -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> VisitFlow {
        let spelling = &self.resolver.spelling;
        stop_at_error(match expr {
            _ if self.inside > 0 => Ok(()),
            Expr::Identifier(ident) => spelling.identifier(ident, self.site),
            Expr::CompoundIdentifier(parts) => spelling.compound(parts, self.site),
            _ => Ok(()),
        })
    }
}
