//! The expressions of `expressions.txt`, each answered by Headwater and by PostgreSQL.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use headwater::Db;

use crate::batch::Rows;
use crate::postgres::{Postgres, values};

/// Kinds of types; within one, values can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Integer,
    Fraction,
    Text,
    Boolean,
    Date,
    Timestamp,
    ZonedTimestamp,
    Interval,
    List,
    Other,
}

fn class_of(data_type: &DataType) -> Class {
    match data_type {
        it if it.is_integer() => Class::Integer,
        it if it.is_numeric() => Class::Fraction,
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => Class::Text,
        DataType::Boolean => Class::Boolean,
        DataType::Date32 => Class::Date,
        DataType::Timestamp(_, None) => Class::Timestamp,
        DataType::Timestamp(_, Some(_)) => Class::ZonedTimestamp,
        DataType::Interval(_) | DataType::Duration(_) => Class::Interval,
        DataType::List(_) => Class::List,
        _ => Class::Other,
    }
}

/// Of a name that `pg_typeof` gives.
fn class_of_name(name: &str) -> Class {
    match name {
        "smallint" | "integer" | "bigint" => Class::Integer,
        "numeric" | "real" | "double precision" => Class::Fraction,
        "text" | "character varying" | "character" | "unknown" => Class::Text,
        "boolean" => Class::Boolean,
        "date" => Class::Date,
        "timestamp without time zone" => Class::Timestamp,
        "timestamp with time zone" => Class::ZonedTimestamp,
        "interval" => Class::Interval,
        list if list.ends_with("[]") => Class::List,
        _ => Class::Other,
    }
}

/// An answer to an expression, or the SQLSTATE and the message of an error.
type Answer<T> = Result<T, (String, String)>;

fn ours(db: &Db, expression: &str) -> Answer<(SchemaRef, Vec<RecordBatch>)> {
    let batches = db.query(&format!("SELECT {expression} AS e"));
    let batches = batches.map_err(|error| {
        let state = error.sql_errors().first().map(|it| it.sqlstate.to_owned());
        (state.unwrap_or_default(), error.to_string())
    })?;
    let schema = batches.first().expect("a row").schema();
    Ok((schema, batches))
}

/// PostgreSQL's value with the name of its type.
fn theirs(postgres: &mut Postgres, expression: &str) -> Answer<(Option<String>, String)> {
    let sql = format!("SELECT e, pg_typeof(e) FROM (SELECT {expression} AS e) AS row");
    let rows = postgres.ask(&sql);
    let rows = rows.map_err(|refusal| (refusal.sqlstate, refusal.message))?;
    let mut row = rows.into_iter().next().expect("a row");
    let type_name = row.pop().flatten().expect("a type");
    Ok((row.pop().expect("a value"), type_name))
}

/// In what the answers differ.
fn difference(db: &Db, postgres: &mut Postgres, expression: &str) -> Option<String> {
    match (ours(db, expression), theirs(postgres, expression)) {
        (Err((ours, _)), Err((theirs, message))) => {
            // Only of a value do both say what is wrong with it by the same code.
            let differ = ours.starts_with("22") && ours != theirs;
            differ.then(|| format!("error {ours}, PostgreSQL error {theirs}: {message}"))
        }
        (Err((state, message)), Ok((value, type_name))) => {
            let value = value.unwrap_or_else(|| "NULL".into());
            Some(format!(
                "error {state} {message}, PostgreSQL {value} ({type_name})"
            ))
        }
        (Ok((schema, batches)), Err((state, message))) => Some(format!(
            "{}, PostgreSQL error {state}: {message}",
            shown(&schema, &batches)
        )),
        (Ok((schema, batches)), Ok((value, type_name))) => {
            let expected = || value.as_deref().unwrap_or("NULL");
            let differs = || {
                let ours = shown(&schema, &batches);
                Some(format!("{ours}, PostgreSQL {} ({type_name})", expected()))
            };
            let data_type = schema.field(0).data_type();
            let untyped = *data_type == DataType::Null && value.is_none();
            if class_of(data_type) != class_of_name(&type_name) && !untyped {
                return differs();
            }
            let expected_row = values::read(&vec![vec![value.clone()]], &schema);
            let same = |row: RecordBatch| Rows::of(&batches).difference(Rows::of(&[row])).is_none();
            if expected_row.is_ok_and(same) {
                None
            } else {
                differs()
            }
        }
    }
}

fn shown(schema: &SchemaRef, batches: &[RecordBatch]) -> String {
    let rows = Rows::of(batches).lines();
    let value = rows.into_iter().flatten().next();
    format!(
        "{} ({})",
        value.unwrap_or_default(),
        schema.field(0).data_type()
    )
}

#[test]
#[ignore = "asks PostgreSQL: .ci/postgres cargo test -p headwater --test differential -- --ignored"]
fn expressions_give_what_postgresql_gives() {
    let db = Db::in_memory().expect("a database");
    let mut postgres = Postgres::connect();
    postgres
        .run("SET search_path TO DEFAULT;")
        .expect("a setting");
    let mut counts = BTreeMap::<&str, usize>::new();
    let (mut blessed, mut findings) = (String::new(), Vec::new());
    for (number, line) in include_str!("expressions.txt").lines().enumerate() {
        let (expression, mark) = line.split_once(" -- ").unwrap_or((line, ""));
        if line.is_empty() || line.starts_with('#') {
            blessed += &format!("{line}\n");
            continue;
        }
        let found = difference(&db, &mut postgres, expression);
        let kept = if found.is_some() { line } else { expression };
        blessed += &format!("{kept}\n");
        let kind = mark.split_once(": ").map_or(mark, |(kind, _)| kind);
        let finding = match (&found, kind) {
            (None, "") => None,
            (None, _) => Some("they agree; delete the mark"),
            (Some(found), "refused") if !found.starts_with("error ") => Some(found.as_str()),
            (Some(_), "on purpose" | "refused" | "wrong") => None,
            (Some(found), _) => Some(found.as_str()),
        };
        *counts
            .entry(if found.is_none() { "agree" } else { kind })
            .or_default() += 1;
        if let Some(found) = &found {
            println!("{expression} -- {mark}\n    {found}");
        }
        findings.extend(finding.map(|it| format!("{}: {expression}\n    {it}", number + 1)));
    }
    println!("expressions: {counts:?}");
    if std::env::var_os("HEADWATER_BLESS").is_some() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/differential/expressions.txt"
        );
        std::fs::write(path, blessed).expect("a file of the checkout");
    }
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
