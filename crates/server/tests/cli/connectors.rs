//! `headwater connectors`, and the names that it and the SQL correct.

use crate::support::{headwater, output, with_input};

#[test]
fn connectors_are_explained() {
    let (code, list, _) = output(&mut headwater(&["connectors"]));
    assert_eq!(code, 0);
    assert!(list.contains("websocket    source, sink"), "{list}");
    let (code, help, _) = output(&mut headwater(&["connectors", "websocket"]));
    assert_eq!(code, 0);
    for expected in [
        "  url (",
        "Options that every source has:",
        "  buffer_size (integer, default 65536)",
    ] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
    let (code, _, errors) = output(&mut headwater(&["connectors", "webscoket"]));
    assert_eq!(code, 1);
    assert!(errors.contains("webscoket"), "{errors}");
}

#[test]
fn a_misspelt_name_is_corrected() {
    let (code, _, errors) = output(&mut headwater(&["connectors", "fiel"]));
    assert_eq!(code, 1);
    assert_eq!(
        errors,
        "error: there is no connector \"fiel\"; did you mean \"file\"?\n"
    );
    let sql = "CREATE SOURCE s (a INT) WITH (connector = 'fiel', path = 'x');
        CREATE SOURCE t WITH (connector = 'file', path = 'x', max_frame = '0 B');";
    let (code, _, errors) = with_input(&["check", "-"], sql);
    assert_eq!(code, 1);
    for expected in [
        "did you mean \"file\"?",
        "option \"max_frame\" is wrong: it must be at least 1 B",
    ] {
        assert!(errors.contains(expected), "{expected} in {errors}");
    }
}
