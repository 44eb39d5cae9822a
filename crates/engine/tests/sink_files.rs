//! What CREATE SINK says of a file that a sink must not write, and what becomes of a sink whose file has turned into one.

mod support;

use std::os::unix::net::UnixListener;

use headwater::arrow::array::AsArray;
use headwater::{Db, Outcome};
use support::until;

fn create(path: &std::path::Path) -> String {
    let path = path.display();
    format!("CREATE SINK o FROM s WITH (connector = 'file', path = '{path}', format = 'json')")
}

/// The state of the only sink, and the reason.
fn state(db: &Db) -> String {
    let rows = db.execute("SELECT state || ': ' || coalesce(reason, '') FROM system.sinks");
    let Some(Outcome::Rows { batches, .. }) = rows.unwrap().pop() else {
        panic!("a SELECT returns rows")
    };
    let texts = batches[0].column(0).as_string::<i32>();
    texts.value(0).to_owned()
}

#[test]
fn a_file_that_is_none_is_refused_when_the_sink_is_created_and_holds_up_no_restart() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [path, socket] = ["out", "socket"].map(|name| out.path().join(name));
    let _listener = UnixListener::bind(&socket).unwrap();
    let db = Db::builder().workers(1).open(folder.path()).unwrap();
    db.execute("CREATE SOURCE s (id BIGINT)").unwrap();
    let error = db.execute(&create(&socket)).unwrap_err();
    let said = error.to_string();
    let expected = format!(
        "cannot write {}: it is a socket, and a sink writes regular files only",
        socket.display()
    );
    assert!(said.contains(&expected), "{said}");
    db.execute(&create(&path)).unwrap();
    db.close();
    std::fs::remove_file(&path).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    let db = Db::builder().workers(1).open(folder.path()).unwrap();
    until("the sink fails", || {
        state(&db).starts_with("failed: cannot write")
    });
    db.close();
}
