//! What the program prints of a file: no secret in it, and nothing that commands a terminal.

use crate::pipeline;
use crate::support::{headwater, output, with_input};

/// A source with a secret in its URL and one in an option, and a hostile comment in the same line.
const SOURCE: &str = "CREATE SOURCE s (a BIGINT) WITH (connector = 'websocket', \
    url = 'ws://127.0.0.1:1/x?key=t0psecret', \"headers.Authorization\" = 'Bearer sesame', \
    \"subscribe.message\" = '{\"login\": \"hunter2\"}', format = 'json');";

const SECRETS: [&str; 4] = ["t0psecret", "sesame", "hunter2", "\x1b"];

#[track_caller]
fn assert_none_is_shown((code, out, errors): (i32, String, String), expected: i32) {
    assert_eq!(code, expected, "{errors}");
    for secret in SECRETS {
        assert!(!out.contains(secret), "{secret:?} in {out}");
        assert!(!errors.contains(secret), "{secret:?} in {errors}");
    }
}

#[test]
fn no_error_shows_a_secret() {
    for (from, to) in [
        ("format = 'json'", "frmat = 'json'"),
        ("format = 'json'", "format = 'jsom'"),
        (", format", " format"),
        ("', \"subscribe.message", ", \"subscribe.message"),
        ("'Bearer sesame'", "Bearer sesame"),
        ("'Bearer sesame'", "'Bearer 'sesame'"),
        ("'Bearer sesame'", "'Bearer sesame"),
        ("'Bearer sesame'", "['Bearer sesame']"),
        ("\"headers.Authorization\" =", "\"headers.Authorization\""),
        ("\"headers.Authorization\"", "\"header.Authorization\""),
        ("\"subscribe.message\"", "\"subscribe.mesage\""),
        ("ws://", "ftp://user:t0psecret@"),
        ("ws://", "ws://user:t0psecret@"),
        ("BIGINT)", "BIGINT, \x1b]0;title\x07)"),
        (");", ", \u{1b}[2J x = 1);"),
        ("CREATE SOURCE s", "CREATE SOURCE \"\x1b[2J\""),
    ] {
        let sql = SOURCE.replacen(from, to, 1);
        assert_ne!(sql, SOURCE);
        let (_folder, file) = pipeline(&sql);
        let checked = output(&mut headwater(&["check", &file, "--log", "trace"]));
        println!("{to:?} instead of {from:?}");
        assert_none_is_shown(checked, 1);
    }
    let (_folder, file) = pipeline(SOURCE);
    assert_none_is_shown(
        output(&mut headwater(&["check", &file, "--log", "trace"])),
        1,
    );
}

#[test]
fn no_table_shows_a_secret() {
    let shows = "SHOW SOURCES; DESCRIBE s; EXPLAIN GUARANTEES s; SELECT * FROM system.sources;
        SELECT * FROM system.errors;";
    let shown = with_input(&["sql", "--log", "info"], &format!("{SOURCE}\n{shows}\n"));
    // The external system cannot be reached, which may or may not be known at the end.
    let code = shown.0;
    assert_none_is_shown(shown, code);
}

#[test]
fn another_statement_for_a_name_is_refused_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let arguments = ["sql", "--data", &data, "--stopped"];
    with_input(&arguments[..3], SOURCE);
    let other = SOURCE.replace("sesame", "hunter2");
    assert_none_is_shown(with_input(&arguments[..3], &other), 1);
    assert_none_is_shown(
        with_input(&arguments, "SHOW SOURCES; SELECT * FROM system.sources;"),
        0,
    );
}
