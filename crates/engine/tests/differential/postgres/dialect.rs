//! A query in PostgreSQL's words, without the columns that it is not asked about.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, DateTimeField, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, GroupByExpr, LimitClause, Offset, OffsetRows, Query,
    Select, SetExpr, Statement, Value, Visit, VisitMut, VisitorMut, visit_expressions,
    visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::notes::{Counts, Key, is_off, known};
use crate::data::per_second;
use crate::query::{Window, Windows};

/// What PostgreSQL is asked.
pub struct Asked {
    pub sql: String,
    /// The columns of our result that it has.
    pub kept: Vec<usize>,
    /// Whether that is all of them.
    pub is_whole: bool,
    /// The expressions of those columns.
    pub items: Vec<String>,
}

/// What is known of the columns of the tables that a query reads.
#[derive(Default, Clone)]
pub struct Columns {
    /// PostgreSQL must not be asked about these.
    pub blocked: Vec<(String, Key)>,
    pub unsigned: Vec<String>,
}

impl Columns {
    /// Adds those of another table.
    pub fn extend(&mut self, more: Self) {
        self.blocked.extend(more.blocked);
        self.unsigned.extend(more.unsigned);
    }
}

/// Translates a SELECT. The error is why nothing of it can be asked.
pub fn translate(
    sql: &str,
    columns: &Columns,
    counts: &mut Counts,
) -> Result<Asked, BTreeSet<Key>> {
    let parsed = Parser::parse_sql(&GenericDialect {}, sql).expect("DataFusion has parsed it");
    let Some(Statement::Query(mut query)) = parsed.into_iter().next() else {
        panic!("no query: {sql}")
    };
    let off = |found: BTreeSet<Key>| -> BTreeSet<Key> {
        found.into_iter().filter(|key| is_off(key)).collect()
    };
    let width = selects(&mut query.body)[0].projection.len();
    let mut kept: Vec<usize> = (0..width).collect();
    let mut dropped = BTreeSet::new();
    for select in selects(&mut query.body) {
        // Of distinct rows a part is not distinct.
        if select.distinct.is_some() {
            continue;
        }
        kept.retain(|&at| {
            let reasons = off(keys(&select.projection[at], columns));
            dropped.extend(&reasons);
            reasons.is_empty()
        });
    }
    let items = kept
        .iter()
        .map(|&at| selects(&mut query.body)[0].projection[at].to_string());
    let items = items.collect();
    for select in selects(&mut query.body) {
        let mut at = 0..;
        select
            .projection
            .retain(|_| kept.contains(&at.next().expect("endless")));
    }
    let found = keys(&query, columns);
    let reasons = off(found.clone());
    if !reasons.is_empty() {
        return Err(reasons);
    }
    if kept.is_empty() {
        return Err(dropped);
    }
    let met = found.into_iter().chain(dropped);
    met.for_each(|key| counts.meet(key));
    rewrite(&mut query);
    Ok(Asked {
        sql: query.to_string(),
        is_whole: kept.len() == width,
        kept,
        items,
    })
}

/// The SELECTs whose rows are the rows of the query.
fn selects(body: &mut SetExpr) -> Vec<&mut Select> {
    match body {
        SetExpr::Select(select) => vec![select],
        SetExpr::SetOperation { left, right, .. } => {
            let mut all = selects(left);
            all.extend(selects(right));
            all
        }
        SetExpr::Query(query) => selects(&mut query.body),
        other => panic!("a SELECT has no {other}"),
    }
}

/// The families that a piece of SQL belongs to.
fn keys(sql: &impl Visit, columns: &Columns) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    let _ = visit_expressions(sql, |expr| {
        found.extend(key_of(expr, columns));
        ControlFlow::<()>::Continue(())
    });
    found
}

fn key_of(expr: &Expr, columns: &Columns) -> Vec<Key> {
    let found = match expr {
        Expr::Identifier(name) => {
            let column = columns
                .blocked
                .iter()
                .find(|(column, _)| *column == name.value);
            return column.map(|(_, key)| *key).into_iter().collect();
        }
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            vec![known(&format!("fn:{name}"))]
        }
        Expr::Extract { .. } => vec![known("extract")],
        Expr::Cast {
            kind, data_type, ..
        } => vec![
            known("try_cast").filter(|_| *kind == CastKind::TryCast),
            known("tinyint").filter(|_| matches!(data_type, DataType::TinyInt(_))),
        ],
        Expr::BinaryOp { left, right, op } => {
            let arithmetic = matches!(
                op,
                BinaryOperator::Plus | BinaryOperator::Minus | BinaryOperator::Multiply
            );
            let bare = arithmetic && is_column(left) && is_column(right);
            let unsigned = bare && has(expr, &is_one_of(&columns.unsigned));
            vec![known("unsigned").filter(|_| unsigned)]
        }
        Expr::UnaryOp { expr, .. } => {
            vec![known("unsigned").filter(|_| is_one_of(&columns.unsigned)(expr))]
        }
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) if digits.contains('.') => vec![known("literal:point")],
            Value::Number(..) => vec![known("literal:integer")],
            _ => vec![],
        },
        _ => vec![],
    };
    found.into_iter().flatten().collect()
}

/// Whether an expression is there, at any depth.
fn has(sql: &impl Visit, is: &impl Fn(&Expr) -> bool) -> bool {
    let found = visit_expressions(sql, |expr| match is(expr) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_))
}

fn is_one_of(columns: &[String]) -> impl Fn(&Expr) -> bool {
    move |expr| matches!(expr, Expr::Identifier(name) if columns.contains(&name.value))
}

fn parsed(sql: &str) -> Expr {
    let parser = Parser::new(&GenericDialect {}).try_with_sql(sql);
    let expr = parser.and_then(|mut parser| parser.parse_expr());
    expr.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Keeps the planner from computing what a derived table has before it is known to have a row.
struct Fence {
    depth: usize,
}

impl VisitorMut for Fence {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        if self.depth > 1 {
            query.limit_clause = Some(LimitClause::LimitOffset {
                limit: None,
                offset: Some(Offset {
                    value: Expr::value(Value::Number("0".into(), false)),
                    rows: OffsetRows::None,
                }),
                limit_by: Vec::new(),
            });
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

fn rewrite(query: &mut Query) {
    let _ = query.visit(&mut Fence { depth: 0 });
    let _ = visit_expressions_mut(query, |expr| {
        if let Expr::Function(function) = expr {
            plain_arguments(function);
        }
        if let Some(sql) = in_other_words(expr) {
            *expr = parsed(&sql);
        }
        ControlFlow::<()>::Continue(())
    });
    for select in selects(&mut query.body) {
        let GroupByExpr::Expressions(keys, _) = &mut select.group_by else {
            continue;
        };
        for key in keys {
            match key {
                // To group by a literal is an error, but for an integer, which names a column.
                Expr::Value(literal) => *key = parsed(&format!("CAST({literal} AS TEXT)")),
                Expr::Cast {
                    expr,
                    data_type: DataType::BigInt(_),
                    ..
                } if matches!(**expr, Expr::Value(_)) => {
                    *key = (**expr).clone();
                }
                _ => {}
            }
        }
    }
}

/// Lengths and places are INT in PostgreSQL, which a BIGINT does not become.
fn plain_arguments(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else {
        return;
    };
    for argument in &mut list.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
            continue;
        };
        if let Expr::Cast {
            expr, data_type, ..
        } = argument
            && matches!(**expr, Expr::Value(_))
            && matches!(data_type, DataType::BigInt(_))
        {
            *argument = (**expr).clone();
        }
    }
}

fn in_other_words(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) if digits.contains('.') => {
                format!("CAST({digits} AS DOUBLE PRECISION)")
            }
            Value::Number(digits, _) => format!("CAST({digits} AS BIGINT)"),
            // The type of a bare NULL is not known; every number can become of this one.
            Value::Null => "CAST(NULL AS SMALLINT)".into(),
            _ => return None,
        },
        Expr::Extract {
            field: DateTimeField::Epoch | DateTimeField::Second,
            ..
        } => {
            format!("CAST({expr} AS DOUBLE PRECISION)")
        }
        Expr::Extract { .. } => format!("CAST({expr} AS INT)"),
        Expr::Cast {
            kind: CastKind::TryCast,
            expr,
            data_type,
            ..
        } => {
            // Of those that compat.sql has.
            let name = format!("try_{}", data_type.to_string().to_lowercase());
            match &**expr {
                Expr::Value(_) => format!("{name}(CAST({expr} AS TEXT))"),
                _ => format!("{name}({expr})"),
            }
        }
        Expr::Cast {
            expr,
            data_type: DataType::TinyInt(_),
            ..
        } => {
            format!("tinyint(CAST({expr} AS SMALLINT))")
        }
        Expr::Cast {
            expr,
            data_type: DataType::Double(_),
            ..
        } => {
            format!("CAST({expr} AS DOUBLE PRECISION)")
        }
        _ => return None,
    })
}

/// The FROM clause that gives each row of a window query its windows: `__ws`, `__we` and `__wt`.
///
/// `rows` is the query with the columns id, event time and keys of the rows that reach the windows.
pub fn windows(window: &Window, rows: &str, late: &[i64]) -> String {
    let second = per_second(&window.time_type);
    let interval = |units: i64| format!("INTERVAL '{} seconds'", units / second);
    let time = &window.time;
    let late: Vec<_> = late.iter().map(ToString::to_string).collect();
    let on_time = format!("id <> ALL (ARRAY[{}]::bigint[])", late.join(", "));
    let bin = |size: i64, offset: i64| {
        format!(
            "date_bin({}, {time}, timestamp '1970-01-01' + {})",
            interval(size),
            interval(offset)
        )
    };
    let last = format!(
        "__we - INTERVAL '{} microseconds' AS __wt",
        1_000_000 / second.min(1_000_000)
    );
    match window.windows {
        Windows::Tumble { size, offset } => format!(
            "JOIN LATERAL (SELECT *, {last} FROM (SELECT {bin} AS __ws, {bin} + {size} AS __we) AS __w) \
             AS __w ON {on_time}",
            bin = bin(size, offset),
            size = interval(size),
        ),
        Windows::Hop {
            slide,
            size,
            offset,
        } => format!(
            "JOIN LATERAL (SELECT *, {last} FROM (SELECT __ws, __ws + {size} AS __we \
             FROM generate_series({to} - {back}, {to}, {slide}) AS __ws) AS __w) AS __w ON {on_time}",
            size = interval(size),
            to = bin(slide, offset),
            back = interval(size - slide),
            slide = interval(slide),
        ),
        Windows::Session { gap } => {
            let keys: String = (0..window.keys).map(|key| format!("k{key}, ")).collect();
            let group = |more: &str| match keys.is_empty() && more.is_empty() {
                true => String::new(),
                false => format!(
                    "PARTITION BY {}",
                    format!("{keys}{more}").trim_end_matches(", ")
                ),
            };
            let (gap, by_key, by_island) = (interval(gap), group(""), group("island"));
            format!(
                "JOIN (SELECT *, {last} FROM (SELECT id AS __id, min({time}) OVER ({by_island}) AS __ws, \
                 max({time}) OVER ({by_island}) + {gap} AS __we FROM \
                 (SELECT *, sum(first) OVER ({by_key} ORDER BY {time}, id) AS island FROM \
                 (SELECT *, CASE WHEN {time} - lag({time}) OVER ({by_key} ORDER BY {time}, id) < {gap} \
                 THEN 0 ELSE 1 END AS first FROM ({rows}) AS r WHERE {on_time}) AS r) AS r) AS __w) \
                 AS __w ON id = __id"
            )
        }
    }
}
