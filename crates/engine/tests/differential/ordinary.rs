//! The ordinary statements of `tests/statements/`, answered by PostgreSQL. `tests/statements.rs` holds
//! that DataFusion gives the same as a continuous query, so here DataFusion is asked.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use headwater::Db;
use sqllogictest::{DefaultColumnType, QueryExpect, Record};

use crate::batch::{Rows, Table, answer, from_csv};
use crate::postgres::dialect::{Columns, translate};
use crate::postgres::{Postgres, values};

/// Statements whose answer differs, and why.
const DIFFERENT: &[(&str, &str)] = &[];

fn records(name: &str) -> Vec<Record<DefaultColumnType>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/statements");
    sqllogictest::parse_file(folder.join(name)).expect("a file of the checkout")
}

/// The sources that a file creates, with the rows that it pushes.
fn tables(name: &str) -> Vec<Table> {
    let db = Db::in_memory().expect("a database");
    let mut tables = Vec::new();
    for record in records(name) {
        let Record::Statement { sql, .. } = record else {
            continue;
        };
        let Some((source, lines)) = sql.strip_prefix("push ").and_then(|it| it.split_once('\n'))
        else {
            db.execute(&sql).expect("a source");
            continue;
        };
        let schema = Arc::clone(db.source_untyped(source).expect("created").schema());
        tables.push(Table {
            name: source.into(),
            batches: from_csv(&schema, lines).expect("rows"),
            schema,
        });
    }
    tables
}

/// What is wrong with our answer; `None` also where PostgreSQL cannot be asked.
fn difference(
    postgres: &mut Postgres,
    tables: &[Table],
    columns: &Columns,
    sql: &str,
) -> Option<String> {
    let ours = answer(tables, sql).ok()?;
    let intervals = |it: &DataType| matches!(it, DataType::Duration(_) | DataType::Interval(_));
    let readable = !ours
        .schema
        .fields()
        .iter()
        .any(|it| intervals(it.data_type()));
    let asked = match translate(sql, columns, &mut postgres.counts) {
        Ok(asked) if readable && (asked.is_whole || !sql.contains('*')) => asked,
        _ => {
            postgres.counts.not_asked += 1;
            return None;
        }
    };
    let rows = match postgres.ask(&asked.sql) {
        Ok(rows) => rows,
        Err(refusal) if refusal.is_static() => {
            postgres.counts.not_asked += 1;
            postgres.counts.refuse(&refusal.message);
            return None;
        }
        Err(refusal) => return Some(format!("{} {}", refusal.sqlstate, refusal.message)),
    };
    let kept = match asked.is_whole {
        true => (0..ours.schema.fields().len()).collect(),
        false => asked.kept,
    };
    let schema = Arc::new(ours.schema.project(&kept).expect("columns of the result"));
    let project = |batch: &RecordBatch| batch.project(&kept).expect("columns of the result");
    let batches: Vec<_> = ours.batches.iter().map(project).collect();
    let theirs = match values::read(&rows, &schema) {
        Ok(theirs) => theirs,
        Err(what) => return Some(what),
    };
    let found = Rows::of(&batches).difference(Rows::of(&[theirs]));
    postgres.counts.agreed += usize::from(found.is_none());
    found.map(|it| it.replace("the batch", "PostgreSQL"))
}

#[test]
#[ignore = "asks PostgreSQL: .ci/postgres cargo test -p headwater --test differential -- --ignored"]
fn statements_give_what_postgresql_gives() {
    let mut postgres = Postgres::connect();
    let (mut met, mut findings) = (0, Vec::new());
    for (name, data) in [
        ("ordinary.slt", "data/sparse.slt"),
        ("fees.slt", "data/fees.slt"),
        ("values.slt", "data/values.slt"),
    ] {
        let tables = tables(data);
        let mut columns = Columns::default();
        for table in &tables {
            let (upload, more) = values::upload(table);
            postgres.run(&upload).expect("rows of the schema");
            columns.extend(more);
        }
        for record in records(name) {
            let Record::Query {
                sql,
                loc,
                expected: QueryExpect::Results { .. },
                ..
            } = record
            else {
                continue;
            };
            let known = DIFFERENT.iter().find(|(different, _)| *different == sql);
            let found = difference(&mut postgres, &tables, &columns, &sql);
            match (known, found) {
                (None, Some(found)) => {
                    findings.push(format!("{name}:{}: {sql}\n{found}", loc.line()))
                }
                (Some((_, reason)), Some(_)) => {
                    println!("{sql}: {reason}");
                    met += 1;
                }
                (Some(_), None) => findings.push(format!("{name}:{}: {sql} agrees", loc.line())),
                (None, None) => {}
            }
        }
        for table in &tables {
            postgres
                .run(&format!("DROP TABLE {};", table.name))
                .expect("a table");
        }
    }
    println!("{}", postgres.counts);
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
    assert_eq!(
        met,
        DIFFERENT.len(),
        "a statement of DIFFERENT is in no file"
    );
}
