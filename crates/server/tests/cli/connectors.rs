//! `headwater connectors`, and the names that it and the SQL correct.

use crate::support::{assert_fails, headwater, output, rows, with_input};

#[test]
fn connectors_are_explained() {
    let list = rows(output(&mut headwater(&["connectors"])));
    assert!(list.contains("websocket    source, sink"), "{list}");
    let help = rows(output(&mut headwater(&["connectors", "websocket"])));
    for expected in [
        "  url (",
        "Options that every source has:",
        "  buffer_size (integer, default 65536)",
    ] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
}

#[test]
fn a_misspelt_name_is_corrected() {
    let corrected = "error: there is no connector \"fiel\"; did you mean \"file\"?\n";
    assert_fails(
        output(&mut headwater(&["connectors", "fiel"])),
        1,
        &[corrected],
    );
    let sql = "CREATE SOURCE s (a INT) WITH (connector = 'fiel', path = 'x');
        CREATE SOURCE t WITH (connector = 'file', path = 'x', max_frame = '0 B');";
    let expected = [
        "did you mean \"file\"?",
        "option \"max_frame\" is wrong: it must be at least 1 B",
    ];
    assert_fails(with_input(&["check", "-"], sql), 1, &expected);
}
