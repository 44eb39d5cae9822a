//! What the program makes of files, options and names that are not as they should be.

use crate::{TICKS, headwater, output};

#[test]
fn a_file_of_sql_may_begin_with_a_mark() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.sql");
    std::fs::write(&file, format!("\u{feff}{TICKS}")).unwrap();
    let file = file.to_str().unwrap();
    for command in ["check", "run", "sql"] {
        let (code, _, errors) = output(&mut headwater(&[command, file]));
        assert_eq!((code, errors.as_str()), (0, ""), "{command}");
    }
}
