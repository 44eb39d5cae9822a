//! SQL errors, drawn under the text with the wrong part underlined. Neither the text nor what is said of it
//! shows a secret.

use std::ops::Range;

use ariadne::{Config, IndexType, Label, Report, ReportKind, Source};
use headwater::connect::Connectors;
use headwater::connect::shown::shown;
use headwater::shown_sql;
use headwater::sql::SqlError;

/// All errors of a text, one after the other; `name` is the file name shown.
pub fn draw_all(name: &str, text: &str, errors: &[SqlError], color: bool) -> String {
    let (name, written) = (shown(name), text);
    let text = shown_sql(&Connectors::builtin(), written);
    let drawn = errors.iter().map(|error| {
        let of_text = |said: &String| text.message(said);
        let written_at = error.position.as_ref();
        let error = SqlError {
            sqlstate: error.sqlstate,
            message: of_text(&error.message),
            detail: error.detail.as_ref().map(of_text),
            hint: error.hint.as_ref().map(of_text),
            position: error.position.as_ref().map(|range| text.place(range)),
        };
        let drawn = draw(&name, text.text(), &error, color);
        let (Some(at), Some(marked)) = (written_at, &error.position) else {
            return drawn;
        };
        // What is hidden moves what follows it; the heading has the place in the file.
        let place = |text, range| {
            let (line, column) = line_and_column(text, visible(text, range).start);
            format!("{name}:{line}:{column}")
        };
        drawn.replacen(&place(text.text(), marked), &place(written, at), 1)
    });
    drawn.collect::<Vec<_>>().join("\n")
}

/// [`draw_all`], with colors if the standard error output shows them.
pub fn draw_for_stderr(name: &str, text: &str, errors: &[SqlError]) -> String {
    let color = crate::terminal::colors(&std::io::stderr());
    draw_all(name, text, errors, color)
}

fn draw(name: &str, text: &str, error: &SqlError, color: bool) -> String {
    let Some(position) = &error.position else {
        return without_position(error);
    };
    let range = visible(text, position);
    let config = Config::new()
        .with_color(color)
        .with_index_type(IndexType::Byte);
    let mut label = Label::new((name, range.clone()));
    if color {
        label = label.with_color(ariadne::Color::Red);
    }
    let label = label.with_message(error.detail.as_deref().unwrap_or("here"));
    let mut report = Report::build(ReportKind::Error, (name, range))
        .with_config(config)
        .with_code(error.sqlstate)
        .with_message(&error.message)
        .with_label(label);
    if let Some(hint) = &error.hint {
        report = report.with_help(hint);
    }
    let mut drawn = Vec::new();
    match report
        .finish()
        .write((name, Source::from(text)), &mut drawn)
    {
        Ok(()) => String::from_utf8_lossy(&drawn).into_owned(),
        Err(_) => without_position(error),
    }
}

/// The line and the column of a byte, counted from 1, as characters.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[start..].chars().count() + 1)
}

fn without_position(error: &SqlError) -> String {
    let mut text = format!("[{}] Error: {}\n", error.sqlstate, error.message);
    if let Some(detail) = &error.detail {
        text += &format!("  Detail: {detail}\n");
    }
    if let Some(hint) = &error.hint {
        text += &format!("  Help: {hint}\n");
    }
    text
}

/// A range that can be underlined: within the text, on one line, at least one character long. A
/// position after the end of the text is marked on its last visible character.
fn visible(text: &str, position: &Range<usize>) -> Range<usize> {
    let end = text.trim_end().len();
    let start = text.floor_char_boundary(position.start);
    if start >= end {
        let last = text[..end].char_indices().next_back();
        return last.map_or(0..0, |(at, letter)| at..at + letter.len_utf8());
    }
    let stop = text.ceil_char_boundary(position.end.clamp(start, end));
    let line = text[start..stop].lines().next().unwrap_or_default();
    let length = match line.trim_end().len() {
        0 => text[start..].chars().next().map_or(0, char::len_utf8),
        length => length,
    };
    start..start + length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, error: SqlError) -> String {
        draw_all("t.sql", text, &[error], false)
    }

    #[test]
    fn the_position_is_underlined() {
        let error = SqlError::new("42703", "there is no column \"prise\"")
            .hint("Did you mean \"price\"?")
            .at(7..12);
        let drawn = drawn("SELECT prise\nFROM trades", error);
        let lines: Vec<&str> = drawn.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "[42703] Error: there is no column \"prise\"");
        assert!(lines[1].contains("t.sql:1:8"), "{drawn}");
        assert!(drawn.contains("SELECT prise"), "{drawn}");
        assert!(drawn.contains("Help: Did you mean \"price\"?"), "{drawn}");
        assert!(!drawn.contains('\x1b'));
    }

    #[test]
    fn any_position_can_be_underlined() {
        let text = "é\n\n  SELECT ü,\n";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let range = visible(text, &(start..end));
                assert!(text.is_char_boundary(range.start) && text.is_char_boundary(range.end));
                assert!(!text[range].is_empty());
                assert!(!drawn(text, SqlError::new("42601", "no").at(start..end)).is_empty());
            }
        }
        assert_eq!(visible("", &(0..0)), 0..0);
        assert!(!drawn("", SqlError::new("42601", "no").at(0..0)).is_empty());
    }

    #[test]
    fn no_secret_is_drawn_and_nothing_that_commands_the_terminal() {
        let text = "CREATE SOURCE s WITH (url = 'ws://u:hunter2@h/?token=t0p', \
                    headers.Authorization = 'Bearer sesame', \x1b[2J frmat = 'json')";
        let at = text.find("frmat").unwrap();
        let error = SqlError::new(
            "42601",
            "found 'Bearer sesame' of ws://u:hunter2@h/\u{202e}",
        );
        let drawn = drawn(text, error.hint("Not 'Bearer ses\u{2026}.").at(at..at + 5));
        for secret in ["hunter2", "t0p", "sesame", "ses", "\x1b", "\u{202e}"] {
            assert!(!drawn.contains(secret), "{secret:?} in {drawn}");
        }
        let lines: Vec<&str> = drawn.lines().collect();
        let column = |line: &str, what: &str| line.find(what).map(|at| line[..at].chars().count());
        let source = lines.iter().find(|line| line.contains("frmat")).unwrap();
        let marks = lines.iter().find(|line| line.contains("──┬──")).unwrap();
        assert_eq!(column(source, "frmat"), column(marks, "──┬──"), "{drawn}");
        let written = text[..at].chars().count() + 1;
        assert!(drawn.contains(&format!("[ t.sql:1:{written} ]")), "{drawn}");
    }

    #[test]
    fn an_error_without_a_position_is_printed() {
        let error = SqlError::new("0A000", "joins are not supported").hint("Use a view.");
        assert_eq!(
            drawn("x", error),
            "[0A000] Error: joins are not supported\n  Help: Use a view.\n"
        );
    }
}
