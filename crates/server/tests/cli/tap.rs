//! `headwater tap`: the raw bytes of commands and of sources.

use crate::support::{assert_fails, headwater, output, output_bytes, rows, with_input};

#[test]
fn the_output_of_a_command_is_tapped() {
    let script = r"echo out; echo err >&2; printf '\377\0'";
    let (code, out, _) = output_bytes(&mut headwater(&["tap", "--", "sh", "-c", script]), b"");
    assert_eq!(code, 0);
    let mut lines: Vec<&[u8]> = out.split(|byte| *byte == b'\n').collect();
    lines.sort();
    assert_eq!(lines, [b"".as_slice(), b"err", b"out", b"\xff\0"]);
    let tap = output(&mut headwater(&["tap", "--", "sh", "-c", "exit 3"]));
    assert_fails(tap, 3, &["3"]);
}

#[test]
fn a_source_of_a_file_is_tapped() {
    let sql = r#"CREATE SOURCE a (n BIGINT) WITH (connector = 'process', mode = 'once',
            format = 'json', command = 'echo ''{"n": 1, "more": 2}''');
        CREATE SOURCE b (line VARCHAR) WITH (connector = 'process', command = 'no-such-program');
        CREATE SOURCE c (n BIGINT) WITH (connector = 'generate');
        CREATE SOURCE d (n BIGINT);"#;
    let tap = |source: &[&str]| with_input(&[&["tap", "-"], source].concat(), sql);
    assert_eq!(rows(tap(&["a"])), "{\"n\": 1, \"more\": 2}\n");
    for (source, code, error) in [
        (
            &[][..],
            1,
            "error: name a source of <stdin>; it has a, b, c, d\n",
        ),
        (&["c"], 1, "error: source \"c\" has no raw bytes: "),
        (&["d"], 1, "error: source \"d\" has no raw bytes: "),
        (&["b"], 3, "no-such-program"),
    ] {
        assert_fails(tap(source), code, &[error]);
    }
}
