//! The columns of a source or a declared sink, and its watermark.
//!
//! A column is a name, a type and `NULL` or `NOT NULL`; `types` has the Arrow type of each SQL type.
//! The watermark names one of the columns, a timestamp, and the maximum delay of out-of-order rows.
//! A column may be computed from those that arrive: `ts TIMESTAMP AS (expression)`; a watermark for a field,
//! `data.T`, declares the computed column `T`. Keys, defaults and checks are refused: nothing would enforce
//! them.

use std::time::Duration;

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Ident};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::error::{Result, SqlError, sqlstate};
use super::statement::{ColumnDefinition, Name, SqlQuery, WatermarkClause};
use super::token_cursor::{TokenCursor, unquoted};
use super::types;
use super::{interval, refuse};

/// Reads `(column, ..., WATERMARK FOR ...)`, parentheses included.
pub(super) fn columns(
    cursor: &mut TokenCursor,
) -> Result<(Vec<ColumnDefinition>, Option<WatermarkClause>)> {
    let inner = cursor.parenthesized()?;
    let mut columns: Vec<ColumnDefinition> = Vec::new();
    let mut watermark: Option<WatermarkDeclaration> = None;
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
    let watermark = watermark.map(|watermark| watermark.bind(&mut columns));
    Ok((columns, watermark.transpose()?))
}

/// `WATERMARK FOR path AS path [- INTERVAL '...']`, as written.
struct WatermarkDeclaration {
    /// A column, and the fields below it that lead to the event time.
    path: Vec<Name>,
    /// The path as an expression.
    expression: SqlQuery,
    delay: Duration,
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
        let generated = part.sees(&["GENERATED", "ALWAYS", "AS"]) && !part.sees(IDENTITY);
        if computed.is_none() && (part.sees(&["AS"]) || generated) {
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
    refuse::clauses(&expression)?;
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

const IDENTITY: &[&str] = &["GENERATED", "ALWAYS", "AS", "IDENTITY"];

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
fn read_watermark(part: &mut TokenCursor) -> Result<WatermarkDeclaration> {
    part.expect("WATERMARK")?;
    part.expect("FOR")?;
    let mut written = part.clone();
    let mut path = vec![part.name("the event time column")?];
    while part.eat_token(&Token::Period) {
        path.push(part.name("a field")?);
    }
    written.split_tail(part.remaining());
    part.expect("AS")?;
    let position = part.rest();
    let expr = part.parse(|parser| parser.parse_expr())?;
    part.expect_end()?;
    let form = || {
        let path: Vec<String> = path.iter().map(Name::to_string).collect();
        let path = path.join(".");
        SqlError::syntax("a watermark is its column, less an interval")
            .hint(format!(
                "Write AS {path} - INTERVAL '1 second', or AS {path}."
            ))
            .at(position.clone())
    };
    let (base, delay) = match expr {
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Minus,
            right,
        } => (*left, delay_micros(&right, &position)?),
        base => (base, 0),
    };
    let base: Vec<Ident> = match base {
        Expr::Identifier(base) => vec![base],
        Expr::CompoundIdentifier(parts) => parts,
        _ => return Err(form()),
    };
    let is_same = |(base, name): (&Ident, &Name)| {
        base.value == name.value || !name.quoted && base.value.eq_ignore_ascii_case(&name.value)
    };
    if base.len() != path.len() || !base.iter().zip(&path).all(is_same) {
        return Err(form());
    }
    Ok(WatermarkDeclaration {
        path,
        expression: written.expression()?,
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

impl WatermarkDeclaration {
    /// Finds the column of the watermark, which must be a timestamp, in its declared spelling. A field
    /// becomes a computed column of its name.
    fn bind(self, columns: &mut Vec<ColumnDefinition>) -> Result<WatermarkClause> {
        let declared: Vec<&str> = columns.iter().map(|it| it.name.value.as_str()).collect();
        let (first, fields) = self.path.split_first().expect("a path has a name");
        let position = find(first, &declared).ok_or_else(|| undeclared(first, &declared))?;
        let mut data_type = columns[position].data_type.clone();
        let mut path = vec![declared[position].to_owned()];
        for name in fields {
            let DataType::Struct(below) = &data_type else {
                return Err(undeclared(name, &[]));
            };
            let known: Vec<&str> = below.iter().map(|field| field.name().as_str()).collect();
            // Queries find fields by their exact names, too.
            let field = known.iter().position(|field| *field == name.value);
            let field = field.ok_or_else(|| undeclared(name, &known))?;
            path.push(known[field].to_owned());
            data_type = below[field].data_type().clone();
        }
        let last = fields.last().unwrap_or(first).clone();
        let mut column = Name {
            value: path.last().cloned().unwrap_or_default(),
            ..last
        };
        refuse_time_type(&column, &data_type)?;
        if fields.is_empty() {
            path.clear();
        } else {
            refuse_taken(&column, &declared)?;
            column.span = self.expression.span.clone();
            columns.push(ColumnDefinition {
                name: column.clone(),
                data_type,
                nullable: true,
                computed: Some(self.expression),
            });
        }
        Ok(WatermarkClause {
            column,
            field: path,
            delay: self.delay,
        })
    }
}

fn undeclared(name: &Name, known: &[&str]) -> SqlError {
    let message = format!("watermark column {:?} is not declared", name.value);
    SqlError::new(sqlstate::UNDEFINED_COLUMN, message)
        .maybe_hint(super::suggest::did_you_mean(&name.value, known))
        .at(name.span.clone())
}

fn refuse_time_type(name: &Name, data_type: &DataType) -> Result<()> {
    if matches!(data_type, DataType::Timestamp(..)) {
        return Ok(());
    }
    let message = format!("watermark column {:?} is not a TIMESTAMP", name.value);
    Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message)
        .detail(format!("It is declared with the Arrow type {data_type}."))
        .hint("Declare it as TIMESTAMP, or TIMESTAMP(3) for milliseconds.")
        .at(name.span.clone()))
}

/// Refuses a field whose column would have the name of another.
fn refuse_taken(name: &Name, declared: &[&str]) -> Result<()> {
    if !declared.contains(&name.value.as_str()) {
        return Ok(());
    }
    let message = format!("column {:?} is declared already", name.value);
    Err(SqlError::new(sqlstate::DUPLICATE_COLUMN, message)
        .detail("A watermark for a field declares a column of its name.")
        .hint("Give the field another column, such as event_time TIMESTAMP AS (a.b), and the watermark for that.")
        .at(name.span.clone()))
}

/// The number of the declared name that is meant.
fn find(name: &Name, declared: &[&str]) -> Option<usize> {
    let exact = declared.iter().position(|other| *other == name.value);
    let mut similar =
        (0..declared.len()).filter(|&other| declared[other].eq_ignore_ascii_case(&name.value));
    match (exact, similar.next(), similar.next()) {
        (Some(exact), ..) => Some(exact),
        (None, Some(only), None) if !name.quoted => Some(only),
        _ => None,
    }
}
