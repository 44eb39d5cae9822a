//! A sink whose stream fails and is started again has every row once.

mod support;

use std::path::Path;
use std::sync::Arc;

use headwater::Db;
use headwater::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use support::until;

fn push(db: &Db, rows: &[(i64, &str)]) {
    let source = db.source_untyped("s").unwrap();
    let ids: Int64Array = rows.iter().map(|(id, _)| Some(*id)).collect();
    let texts: StringArray = rows.iter().map(|(_, text)| Some(*text)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(texts)];
    let batch = RecordBatch::try_new(Arc::clone(source.schema()), columns).unwrap();
    source.push_arrow(batch).unwrap();
    db.settle().unwrap();
}

fn create(db: &Db, out: &Path) {
    db.execute(&format!(
        "CREATE SOURCE s (id BIGINT, a VARCHAR);
         CREATE STREAM q AS SELECT id, CAST(a AS BIGINT) AS a FROM s;
         CREATE STREAM r AS SELECT id + a AS b FROM q;
         CREATE SINK o FROM q WITH (connector = 'file', path = '{}');
         CREATE SINK p FROM r WITH (connector = 'file', path = '{}')",
        out.join("o").display(),
        out.join("p").display(),
    ))
    .unwrap();
}

fn expect(out: &Path, file: &str, lines: &[&str]) {
    until("the rows in the file", || {
        let written = std::fs::read_to_string(out.join(file)).unwrap_or_default();
        written.lines().count() >= lines.len()
    });
    let written = std::fs::read_to_string(out.join(file)).unwrap();
    assert_eq!(written.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn a_sink_goes_on_with_its_stream() {
    for (workers, reopened) in [(1, false), (2, false), (1, true), (2, true)] {
        let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = || Db::builder().workers(workers).open(folder.path()).unwrap();
        let mut db = open();
        create(&db, out.path());
        push(&db, &[(1, "10"), (2, "20")]);
        push(&db, &[(3, "bad")]);
        push(&db, &[(4, "40")]);
        if reopened {
            db.close();
            db = open();
        }
        push(&db, &[(5, "50")]);
        db.execute("ALTER STREAM q SET (on_error = 'dead_letter'); START STREAM q")
            .unwrap();
        push(&db, &[(6, "60")]);
        let row = |id: i64| format!(r#"{{"id":{id},"a":{}}}"#, id * 10);
        let rows: Vec<String> = [1, 2, 4, 5, 6].map(row).into();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        expect(out.path(), "o", &rows);
        let sums = [
            r#"{"b":11}"#,
            r#"{"b":22}"#,
            r#"{"b":44}"#,
            r#"{"b":55}"#,
            r#"{"b":66}"#,
        ];
        expect(out.path(), "p", &sums);
        db.close();
        expect(out.path(), "o", &rows);
    }
}
