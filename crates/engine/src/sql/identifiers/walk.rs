//! The walk over a query that gives every name its declared spelling.
//!
//! Queries, their `FROM` and their clauses are walked here by hand, for the order in which names
//! come into sight is theirs; within an expression `sqlparser`'s visitor finds the names. A query
//! inside an expression is walked when the visitor meets it, and what the visitor then finds in it
//! is passed over.

use std::cell::RefCell;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, ObjectName, ObjectNamePart, OrderBy, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Spanned as _, TableFactor, TableWithJoins, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::Tables;
use super::metadata_columns::{Named, leave_out, meant};
use super::scope::{Ctes, Meaning, Relation, Scope, pick};
use super::tree::{
    Columns, alias_of, aliases, constraint, joined, named_in, output, owned, plain_parts, renamed,
    respell,
};
use crate::sql::error::{Result, SqlError, sqlstate};
use crate::sql::script::locate;
use crate::sql::stack::deep;
use crate::sql::statement::SqlQuery;

/// Gives every name in the query, and in the queries in it, the spelling of what it means; which hidden
/// columns it names.
///
/// # Errors
///
/// A name that fits several things by all but case, and none exactly; `*` over several tables of which
/// one has a hidden column that the query names.
pub fn resolve_identifiers(query: &mut SqlQuery, tables: &dyn Tables) -> Result<Named> {
    let SqlQuery {
        ast,
        text,
        span,
        origin,
    } = query;
    let names = tables.names();
    let mut walk = Walk {
        tables,
        names,
        text,
        start: span.start,
        origin: *origin,
        named: RefCell::default(),
        leaves_out: false,
    };
    deep(|| {
        walk.query(ast, &[], &Ctes::default())?;
        if !walk.named.borrow().is_empty() {
            // Only now it is known what every `*` has to leave out.
            walk.leaves_out = true;
            walk.query(ast, &[], &Ctes::default())?;
        }
        Ok(walk.named.take())
    })
}

struct Walk<'a> {
    tables: &'a dyn Tables,
    /// The names of all tables.
    names: Vec<String>,
    text: &'a str,
    start: usize,
    origin: Location,
    /// The hidden columns that were met.
    named: RefCell<Named>,
    /// Whether `*` is to leave them out: all have been met.
    leaves_out: bool,
}

/// Where an expression stands: what its names can mean.
#[derive(Clone, Copy)]
struct Site<'a> {
    /// The scopes of the queries around, outermost first; the innermost last.
    scopes: &'a [Scope],
    /// The aliases of the select list, where they are visible.
    aliases: &'a [String],
    /// Whether an alias goes before a column, as in `ORDER BY`.
    aliases_first: bool,
    ctes: &'a Ctes,
    /// Whether queries met here have been walked before.
    queries_done: bool,
}

impl Walk<'_> {
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
                let of_all = Relation {
                    name: None,
                    columns: columns.clone(),
                    metadata: None,
                };
                let scopes = [Scope {
                    relations: vec![of_all],
                }];
                if let Some(order_by) = &mut query.order_by {
                    self.visit(order_by, Site::plain(&scopes, &ctes))?;
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
                self.visit(values, Site::plain(outer, ctes))?;
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
        let plain = Site::plain(&scopes, ctes);
        self.visit(
            &mut select.from,
            Site {
                queries_done: true,
                ..plain
            },
        )?;
        for tables in &mut select.from {
            self.using(tables, &scope)?;
        }
        self.visit(&mut select.projection, plain)?;
        for item in &mut select.projection {
            self.wildcard(item, &scope)?;
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
        if self.leaves_out {
            leave_out(select, &scope, &self.named.borrow())?;
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
        self.relation(&mut tables.relation, scope, outer, ctes)?;
        for join in &mut tables.joins {
            self.relation(&mut join.relation, scope, outer, ctes)?;
        }
        Ok(())
    }

    /// Adds what a part of `FROM` gives to the scope.
    fn relation(
        &self,
        factor: &mut TableFactor,
        scope: &mut Scope,
        outer: &[Scope],
        ctes: &Ctes,
    ) -> Result<()> {
        let mut metadata = None;
        let (name, columns, alias) = match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                let columns = self.table(name, ctes)?;
                let name = joined(name);
                if ctes.columns(&name).is_none() {
                    metadata = Some((name.clone(), self.tables.metadata(&name)));
                }
                (Some(name), columns, alias.as_ref())
            }
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                ..
            } => {
                let columns = if *lateral {
                    let around = [outer, std::slice::from_ref(scope)].concat();
                    self.query(subquery, &around, ctes)?
                } else {
                    self.query(subquery, outer, ctes)?
                };
                (None, columns, alias.as_ref())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let mut inner = Scope::default();
                self.from(table_with_joins, &mut inner, outer, ctes)?;
                let Some(alias) = alias else {
                    scope.relations.extend(inner.relations);
                    return Ok(());
                };
                let columns = inner.is_complete().then(|| owned(&inner.columns()));
                (None, columns, Some(&*alias))
            }
            TableFactor::Pivot { table, alias, .. }
            | TableFactor::Unpivot { table, alias, .. }
            | TableFactor::MatchRecognize { table, alias, .. } => {
                self.relation(table, &mut Scope::default(), outer, ctes)?;
                (None, None, alias.as_ref())
            }
            other => (None, None, alias_of(other)),
        };
        let relation = match alias {
            None => Relation {
                name,
                columns,
                metadata,
            },
            Some(alias) => Relation {
                name: Some(alias.name.value.clone()),
                columns: renamed(columns, alias),
                metadata,
            },
        };
        scope.relations.push(relation);
        Ok(())
    }

    /// Spells the name of a table as it is declared and gives its columns.
    fn table(&self, name: &mut ObjectName, ctes: &Ctes) -> Result<Columns> {
        let Some(written) = plain_parts(name) else {
            return Ok(None);
        };
        let quoted = written.iter().any(|part| part.quote_style.is_some());
        let full = joined(name);
        let bare = written.len() == 1;
        let tiers = [
            if bare { ctes.names() } else { Vec::new() },
            self.names.iter().map(String::as_str).collect(),
        ];
        let found = if quoted {
            full
        } else {
            self.unambiguous(
                pick(&full, &tiers),
                sqlstate::AMBIGUOUS_TABLE,
                &full,
                name.span(),
            )?
            .unwrap_or(full)
        };
        respell(name, &found);
        if bare && let Some(columns) = ctes.columns(&found) {
            return Ok(columns);
        }
        Ok(self.tables.columns(&found))
    }

    /// The columns of `USING (...)`.
    fn using(&self, tables: &mut TableWithJoins, scope: &Scope) -> Result<()> {
        if let TableFactor::NestedJoin {
            table_with_joins, ..
        } = &mut tables.relation
        {
            self.using(table_with_joins, scope)?;
        }
        for join in &mut tables.joins {
            if let TableFactor::NestedJoin {
                table_with_joins, ..
            } = &mut join.relation
            {
                self.using(table_with_joins, scope)?;
            }
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

    /// The names in and behind `*`.
    fn wildcard(&self, item: &mut SelectItem, scope: &Scope) -> Result<()> {
        let (options, columns) = match item {
            SelectItem::Wildcard(options) => (options, scope.columns()),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                let full = joined(name);
                let (meaning, relation) = scope.relation(&full);
                let columns = relation.and_then(|relation| relation.columns.as_ref());
                let columns = columns.into_iter().flatten().map(String::as_str).collect();
                let quoted = name.0.iter().filter_map(ObjectNamePart::as_ident);
                if quoted.clone().all(|part| part.quote_style.is_none()) {
                    let span = name.span();
                    let found =
                        self.unambiguous(meaning, sqlstate::AMBIGUOUS_TABLE, &full, span)?;
                    respell(name, &found.unwrap_or(full));
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

    /// Spells a column as it is declared, if it is among the candidates. Says whether it is.
    fn column(&self, ident: &mut Ident, tiers: &[Vec<&str>]) -> Result<bool> {
        if ident.quote_style.is_some() {
            return Ok(tiers
                .iter()
                .flatten()
                .any(|candidate| *candidate == ident.value));
        }
        let meaning = pick(&ident.value, tiers);
        let code = sqlstate::AMBIGUOUS_COLUMN;
        match self.unambiguous(meaning, code, &ident.value, ident.span)? {
            None => Ok(false),
            Some(spelling) => {
                ident.value = spelling;
                Ok(true)
            }
        }
    }

    fn unambiguous(
        &self,
        meaning: Meaning,
        code: &'static str,
        name: &str,
        span: Span,
    ) -> Result<Option<String>> {
        match meaning {
            Meaning::Unknown => Ok(None),
            Meaning::Is(spelling) => Ok(Some(spelling)),
            Meaning::Ambiguous(candidates) => {
                let message = format!("name {name:?} is ambiguous: {}", candidates.join(", "));
                Err(SqlError::new(code, message)
                    .hint("Write the name in the case in which it is declared.")
                    .at(locate(self.text, self.start, self.origin, span)))
            }
        }
    }

    /// `name`, looked for from the inside out.
    fn identifier(&self, ident: &mut Ident, site: Site) -> Result<()> {
        let Some((inner, around)) = site.scopes.split_last() else {
            return Ok(());
        };
        let aliases: Vec<&str> = site.aliases.iter().map(String::as_str).collect();
        let mut tiers = [inner.columns(), aliases];
        if site.aliases_first {
            tiers.reverse();
        }
        let known = self.column(ident, &tiers)? || self.metadata(ident, &inner.relations);
        if known || !inner.is_complete() {
            return Ok(());
        }
        for scope in around.iter().rev() {
            let known = self.column(ident, &[scope.columns()])?;
            if known || self.metadata(ident, &scope.relations) || !scope.is_complete() {
                break;
            }
        }
        Ok(())
    }

    /// Spells a hidden column as it is declared, if it is one of these relations. Says whether it is.
    fn metadata(&self, ident: &mut Ident, relations: &[Relation]) -> bool {
        let Some((table, metadata)) = meant(ident, relations) else {
            return false;
        };
        ident.value = metadata.name().to_owned();
        let mut named = self.named.borrow_mut();
        named.entry(table.to_owned()).or_default().insert(metadata);
        true
    }

    /// `relation.column`, `schema.table.column`, or a column and a field of it.
    fn compound(&self, parts: &mut [Ident], site: Site) -> Result<()> {
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

    /// Takes the first `count` parts for the name of a relation of the scope, if they are.
    fn qualified(&self, parts: &mut [Ident], count: usize, scope: &Scope) -> Result<bool> {
        let (qualifier, columns) = parts.split_at_mut(count);
        let written: Vec<&str> = qualifier.iter().map(|part| part.value.as_str()).collect();
        let written = written.join(".");
        let (meaning, _) = scope.relation(&written);
        let quoted = qualifier.iter().any(|part| part.quote_style.is_some());
        let span = Span::union_iter(qualifier.iter().map(|part| part.span));
        let spelling = match meaning {
            Meaning::Is(spelling) if !quoted || spelling == written => spelling,
            _ if quoted => return Ok(false),
            other => {
                let code = sqlstate::AMBIGUOUS_TABLE;
                match self.unambiguous(other, code, &written, span)? {
                    Some(spelling) => spelling,
                    None => return Ok(false),
                }
            }
        };
        let (_, relation) = scope.relation(&spelling);
        let known = relation
            .and_then(|relation| relation.columns.as_deref())
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
            && let Some(relation) = relation
        {
            self.metadata(column, std::slice::from_ref(relation));
        }
        Ok(true)
    }

    fn visit(&self, node: &mut impl VisitMut, site: Site) -> Result<()> {
        match node.visit(&mut Names {
            walk: self,
            site,
            inside: 0,
        }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

impl<'a> Site<'a> {
    /// Where the aliases of the select list are not visible.
    fn plain(scopes: &'a [Scope], ctes: &'a Ctes) -> Self {
        Self {
            scopes,
            aliases: &[],
            aliases_first: false,
            ctes,
            queries_done: false,
        }
    }
}

/// Finds the names in an expression.
struct Names<'a> {
    walk: &'a Walk<'a>,
    site: Site<'a>,
    /// How many queries deep the visitor is.
    inside: usize,
}

type Found = ControlFlow<Box<SqlError>>;

impl VisitorMut for Names<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Found {
        self.inside += 1;
        if self.inside > 1 || self.site.queries_done {
            return ControlFlow::Continue(());
        }
        match self.walk.query(query, self.site.scopes, self.site.ctes) {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> Found {
        self.inside -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Found {
        if self.inside > 0 {
            return ControlFlow::Continue(());
        }
        let done = match expr {
            Expr::Identifier(ident) => self.walk.identifier(ident, self.site),
            Expr::CompoundIdentifier(parts) => self.walk.compound(parts, self.site),
            _ => Ok(()),
        };
        match done {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}
