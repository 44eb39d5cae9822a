//! What is shown of a text of SQL: no secret, however wrong the text is, and the right place.

use super::*;

fn is_secret(key: &str) -> Option<bool> {
    match key.to_lowercase().as_str() {
        "url" | "connector" | "format" | "path" | "rows" => Some(false),
        key => key.starts_with("headers.").then_some(true),
    }
}

fn shown_sql(sql: &str) -> ShownSql {
    ShownSql::new(sql, &is_secret)
}

#[test]
fn secrets_are_hidden_wherever_they_are() {
    for (sql, expected) in [
        (
            "WITH (url = 'ws://u:p@h/x?k=v', \"headers.Authorization\" = 'Bearer sesame', rows = 5)",
            "WITH (url = 'ws://***@h/x?k=***', \"headers.Authorization\" = '***', rows = 5)",
        ),
        (
            "SET ('HEADERS.A' = 'it''s', rows=7)",
            "SET ('HEADERS.A' = '***', rows=7)",
        ),
        ("headers.X-Key=plain, rows", "headers.X-Key=***, rows"),
        ("headers.X = $$a b$$, rows", "headers.X = $$***$$, rows"),
        ("headers.X = E'a\\'b' , rows", "headers.X = E'***' , rows"),
        ("headers.X = ['a', 'b'], rows", "headers.X = [***], rows"),
        // Wrong in many ways.
        ("headers.X = Bearer sesame, rows", "headers.X = ***, rows"),
        (
            "headers.X = 'not closed, headers.Y = '{\"a b\"}', rows",
            "headers.X = '***', rows",
        ),
        ("headers.X 'no equals', rows", "headers.X '***', rows"),
        ("headers.X == 'two', rows", "headers.X == '***', rows"),
        ("headers.X = 'se'cret', rows", "headers.X = '***, rows"),
        ("headers.X = 'not closed\nrows", "headers.X = '***\nrows"),
        (
            "url = 'not closed, \"headers.X\" = 'sesame', rows = 5",
            "url = 'not closed, \"headers.X\" = '***', rows = 5",
        ),
        (
            "-- headers.X = 'old'\nSELECT",
            "-- headers.X = '***'\nSELECT",
        ),
        ("WITH (header.X = 'misspelt')", "WITH (header.X = '***')"),
        (
            "@source(type='x', header.X='misspelt')",
            "@source(type='***', header.X='***')",
        ),
        (
            "SELECT api_token = 'x1', a = 'y'",
            "SELECT api_token = '***', a = 'y'",
        ),
        (
            "WITH (path = 'x y=1 token=t')",
            "WITH (path = 'x y=1 token=***')",
        ),
        ("SELECT 'token', 'a'", "SELECT 'token', 'a'"),
        ("headers.X = ''", "headers.X = ''"),
        ("headers.X =", "headers.X ="),
    ] {
        assert_eq!(shown_sql(sql).text(), expected);
    }
}

#[test]
fn every_line_keeps_its_number() {
    let sql = "WITH (\nheaders.X = 'one\ntwo\n\nthree',\nrows = x)";
    let shown = shown_sql(sql);
    assert_eq!(
        shown.text(),
        "WITH (\nheaders.X = '***\n***\n\n***',\nrows = x)"
    );
    let at = sql.find("x)").unwrap();
    assert_eq!(&shown.text()[shown.place(&(at..at + 1))], "x");
}

#[test]
fn a_place_follows_what_is_shown() {
    let sql = "\u{202e}url = 'ws://u:p@h', headers.X = 'sesame', \x1b[2J frmat = 'x'";
    let shown = shown_sql(sql);
    for word in ["url", "headers.X", "frmat", "[2J", "h'"] {
        let at = sql.find(word).unwrap();
        assert_eq!(&shown.text()[shown.place(&(at..at + word.len()))], word);
    }
    for (within, expected) in [("sam", "***"), ("\x1b", "\u{fffd}"), ("'sesame'", "'***'")] {
        let at = sql.find(within).unwrap();
        assert_eq!(
            &shown.text()[shown.place(&(at..at + within.len()))],
            expected
        );
    }
    let end = sql.len()..sql.len();
    assert_eq!(shown.place(&end), shown.text().len()..shown.text().len());
}

#[test]
fn a_message_quotes_no_secret() {
    let shown = shown_sql("headers.X = 'open ''sesame'' and wait sesame', headers.Y = 'ab' x");
    for (message, expected) in [
        ("found 'open ''sesame'' and wait sesame'", "found '***'"),
        ("found 'open ''ses\u{2026}", "found '***\u{2026}"),
        ("it is open 'sesame' and wait sesame.", "it is ***."),
        ("found sesame'' of it", "found ***'' of it"),
        ("ab is short", "ab is short"),
        ("\x1b of ws://u:p@h", "\u{fffd} of ws://***@h"),
    ] {
        assert_eq!(shown.message(message), expected);
    }
}

#[test]
fn any_place_of_any_text_is_one_of_what_is_shown() {
    let pieces = [
        "headers.X",
        "=",
        "'",
        "\"",
        "$$",
        "ä",
        "\n",
        "ws://u:p@h",
        " ",
        "(",
        "WITH",
        "\x1b",
        "[",
        ",",
        "E",
    ];
    let mut seed = 1_u64;
    for _ in 0..3_000 {
        let mut sql = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            sql += pieces[(seed >> 33) as usize % pieces.len()];
        }
        let shown = shown_sql(&sql);
        let lines = |text: &str| text.matches('\n').count();
        assert_eq!(lines(&sql), lines(shown.text()), "{sql:?}");
        for (start, _) in sql.char_indices() {
            for (end, _) in sql.char_indices().filter(|(end, _)| *end >= start) {
                let place = shown.place(&(start..end));
                assert!(shown.text().get(place).is_some(), "{sql:?} {start} {end}");
            }
        }
    }
}
