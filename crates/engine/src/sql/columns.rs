//! The columns of a source or a declared sink, and its watermark.
//!
//! A column is a name, a type and `NULL` or `NOT NULL`; `types` has the Arrow type of each SQL type.
//! The watermark names one of the columns, a timestamp, and the maximum delay of out-of-order rows.
//! A column may be computed from those that arrive: `ts TIMESTAMP AS (expression)`. Keys, defaults and checks are refused: nothing would enforce them.

use std::time::Duration;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::error::{Result, SqlError, sqlstate};
use super::interval;
use super::statement::{ColumnDefinition, Name, SqlQuery, WatermarkClause};
use super::token_cursor::{TokenCursor, unquoted};
use super::types;

/// Reads `(column, ..., WATERMARK FOR ...)`, parentheses included.
pub(super) fn columns(
    cursor: &mut TokenCursor,
) -> Result<(Vec<ColumnDefinition>, Option<WatermarkClause>)> {
    let inner = cursor.parenthesized()?;
    let mut columns: Vec<ColumnDefinition> = Vec::new();
    let mut watermark: Option<WatermarkClause> = None;
    for mut part in inner.comma_separated() {
        if part.sees(&["WATERMARK", "FOR"]) {
            if watermark.is_some() {
                return Err(SqlError::syntax("a source has one watermark").at(part.rest()));
            }
            watermark = Some(read_watermark(&mut part)?);
            continue;
        }
        let column = column(&mut part)?;
        if columns
            .iter()
            .any(|other| other.name.value == column.name.value)
        {
            let message = format!("column {:?} is declared twice", column.name.value);
            let error = SqlError::new(sqlstate::DUPLICATE_COLUMN, message);
            return Err(error.at(column.name.span));
        }
        columns.push(column);
    }
    if let Some(watermark) = &mut watermark {
        bind(watermark, &columns)?;
    }
    Ok((columns, watermark))
}

fn column(part: &mut TokenCursor) -> Result<ColumnDefinition> {
    refuse_constraint(part)?;
    let name = part.name("a column")?;
    if part.at_end() {
        return Err(part.unexpected(&format!("the type of column {:?}", name.value), &[]));
    }
    let data_type = types::read(part)?;
    let (mut nullable, mut computed) = (None, None);
    while !part.at_end() {
        let here = part.here();
        if computed.is_none() && (part.sees(&["AS"]) || part.sees(&["GENERATED", "ALWAYS"])) {
            computed = Some(expression(part)?);
            continue;
        }
        let null_allowed = if part.eat(&["NOT", "NULL"]) {
            false
        } else if part.eat(&["NULL"]) {
            true
        } else {
            return Err(not_null_only(part));
        };
        if nullable.is_some_and(|before| before != null_allowed) {
            let message = format!("column {:?} is both NULL and NOT NULL", name.value);
            return Err(SqlError::syntax(message).at(here));
        }
        nullable = Some(null_allowed);
    }
    Ok(ColumnDefinition {
        name,
        data_type,
        nullable: nullable.unwrap_or(true),
        computed,
    })
}

/// `[GENERATED ALWAYS] AS (expression) [STORED]`.
fn expression(part: &mut TokenCursor) -> Result<SqlQuery> {
    part.eat(&["GENERATED", "ALWAYS"]);
    part.expect("AS")?;
    let expression = part.parenthesized()?.expression()?;
    part.eat(&["STORED"]);
    Ok(expression)
}

/// Refuses computed columns where rows do not arrive.
pub(super) fn refuse_computed(columns: &[ColumnDefinition], of: &str) -> Result<()> {
    let computed = columns.iter().find_map(|column| column.computed.as_ref());
    computed.map_or(Ok(()), |expression| {
        Err(SqlError::not_built(format!("a computed column of {of}"))
            .hint("Compute it in the query.")
            .at(expression.span.clone()))
    })
}

const TABLE_WIDE: &[(&[&str], &str)] = &[
    (&["PRIMARY", "KEY"], "PRIMARY KEY"),
    (&["FOREIGN", "KEY"], "FOREIGN KEY"),
    (&["UNIQUE"], "UNIQUE"),
    (&["CHECK"], "CHECK"),
];

const OF_A_COLUMN: &[(&[&str], &str)] = &[
    (&["CONSTRAINT"], "a constraint"),
    (&["DEFAULT"], "DEFAULT"),
    (&["REFERENCES"], "REFERENCES"),
    (&["GENERATED"], "an identity column"),
    (&["COLLATE"], "COLLATE"),
    (&["COMMENT"], "COMMENT"),
    (&["METADATA"], "METADATA"),
];

/// Refuses a constraint where a column is expected.
fn refuse_constraint(part: &TokenCursor) -> Result<()> {
    // A column can have the name of a constraint; then its type follows, not a parenthesis or KEY.
    let names_one = part.sees(&["CONSTRAINT"])
        && TABLE_WIDE
            .iter()
            .any(|(words, _)| starts(part.peek_nth(2), words));
    let is_constraint = |(words, _): &&(&[&str], &str)| {
        part.sees(words) && (words.len() == 2 || part.peek_nth(1) == Some(&Token::LParen))
    };
    let found = TABLE_WIDE.iter().find(is_constraint).map(|(_, what)| *what);
    match found.or(names_one.then_some("a constraint")) {
        None => Ok(()),
        Some(what) => Err(SqlError::not_built(what)
            .hint("A source does not check its rows: filter them in a stream instead.")
            .at(part.here())),
    }
}

fn starts(token: Option<&Token>, words: &[&str]) -> bool {
    let word = token.and_then(unquoted).unwrap_or_default();
    words
        .first()
        .is_some_and(|first| first.eq_ignore_ascii_case(word))
}

/// The error about a word other than NULL after the type of a column.
fn not_null_only(part: &TokenCursor) -> SqlError {
    let known = OF_A_COLUMN
        .iter()
        .chain(TABLE_WIDE)
        .find(|(words, _)| part.sees(words));
    match known {
        Some((_, what)) => SqlError::not_built(what)
            .hint("A column has a name, a type, and NULL or NOT NULL.")
            .at(part.here()),
        None => part.unexpected(
            "NOT NULL, a comma or the closing parenthesis",
            &["NOT", "NULL"],
        ),
    }
}

/// `WATERMARK FOR ts AS ts`, or `AS ts - INTERVAL '...'`.
fn read_watermark(part: &mut TokenCursor) -> Result<WatermarkClause> {
    part.expect("WATERMARK")?;
    part.expect("FOR")?;
    let column = part.name("the event time column")?;
    part.expect("AS")?;
    let position = part.rest();
    let expr = part.parse(|parser| parser.parse_expr())?;
    part.expect_end()?;
    let form = || {
        SqlError::syntax("a watermark is its column, less an interval")
            .hint(format!(
                "Write AS {column} - INTERVAL '1 second', or AS {column}."
            ))
            .at(position.clone())
    };
    let (base, delay) = match expr {
        Expr::Identifier(base) => (base, 0),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Minus,
            right,
        } => match *left {
            Expr::Identifier(base) => (base, delay_micros(&right, &position)?),
            _ => return Err(form()),
        },
        _ => return Err(form()),
    };
    let is_column = base.value == column.value
        || !column.quoted && base.value.eq_ignore_ascii_case(&column.value);
    if !is_column {
        return Err(form());
    }
    Ok(WatermarkClause {
        column,
        delay: Duration::from_micros(delay),
    })
}

fn delay_micros(expr: &Expr, position: &std::ops::Range<usize>) -> Result<u64> {
    let micros = interval::micros(expr).map_err(|message| {
        SqlError::new(sqlstate::INVALID_PARAMETER, message)
            .hint(interval::HINT)
            .at(position.clone())
    })?;
    u64::try_from(micros).map_err(|_| {
        let message = format!("watermark delay of {micros} microseconds is less than zero");
        SqlError::new(sqlstate::INVALID_PARAMETER, message).at(position.clone())
    })
}

/// Finds the column of the watermark, which must be a timestamp, and uses its declared spelling.
fn bind(watermark: &mut WatermarkClause, columns: &[ColumnDefinition]) -> Result<()> {
    let name = &watermark.column;
    let Some(column) = find(name, columns) else {
        let message = format!("watermark column {:?} is not declared", name.value);
        let known: Vec<&str> = columns
            .iter()
            .map(|column| column.name.value.as_str())
            .collect();
        return Err(SqlError::new(sqlstate::UNDEFINED_COLUMN, message)
            .maybe_hint(super::suggest::did_you_mean(&name.value, &known))
            .at(name.span.clone()));
    };
    if !matches!(column.data_type, DataType::Timestamp(..)) {
        let message = format!("watermark column {:?} is not a TIMESTAMP", name.value);
        return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message)
            .detail(format!(
                "It is declared with the Arrow type {}.",
                column.data_type
            ))
            .hint("Declare it as TIMESTAMP, or TIMESTAMP(3) for milliseconds.")
            .at(name.span.clone()));
    }
    watermark.column.value.clone_from(&column.name.value);
    Ok(())
}

fn find<'a>(name: &Name, columns: &'a [ColumnDefinition]) -> Option<&'a ColumnDefinition> {
    let exact = columns
        .iter()
        .find(|column| column.name.value == name.value);
    let mut similar = columns
        .iter()
        .filter(|column| column.name.value.eq_ignore_ascii_case(&name.value));
    match (exact, similar.next(), similar.next()) {
        (Some(exact), ..) => Some(exact),
        (None, Some(only), None) if !name.quoted => Some(only),
        _ => None,
    }
}
