//! What people are shown of texts that others wrote: no secrets of URLs, and no character that commands a
//! terminal or reverses what follows it.
//!
//! Data, names, options and the errors of peers all come by here before they are drawn, logged or listed.

use std::borrow::Cow;
use std::ops::Range;

/// What is shown in the place of a secret.
pub const HIDDEN: &str = "***";

/// What is shown in the place of a character that would command a terminal.
pub const REPLACED: char = '\u{fffd}';

/// A text without the secrets of its URLs, and without characters that command a terminal.
pub fn shown(text: &str) -> Cow<'_, str> {
    match without_url_secrets(text) {
        Cow::Borrowed(text) => printable(text),
        Cow::Owned(text) => Cow::Owned(printable(&text).into_owned()),
    }
}

/// The first `max` bytes of a text of somebody else, on one line, for a message. What is not UTF-8 is replaced.
pub(crate) fn excerpt(text: &[u8], max: usize) -> String {
    let kept = String::from_utf8_lossy(&text[..text.len().min(max)]);
    let mut excerpt = printable(&kept).replace(['\n', '\t'], "\u{fffd}");
    if text.len() > max {
        excerpt.push('…');
    }
    excerpt
}

/// A text without characters that command a terminal; line ends and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    match text.chars().any(commands_terminal) {
        false => Cow::Borrowed(text),
        true => {
            let clean = |letter| match commands_terminal(letter) {
                true => REPLACED,
                false => letter,
            };
            Cow::Owned(text.chars().map(clean).collect())
        }
    }
}

/// Whether a terminal does something else with a character than to draw it: control characters but line
/// ends and tabs, and marks that change the direction of a text.
pub fn commands_terminal(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' => true,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        letter => letter.is_control(),
    }
}

/// A text with `***` instead of users, passwords and parameters of its URLs.
pub fn without_url_secrets(text: &str) -> Cow<'_, str> {
    let secrets = url_secrets(text);
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut end) = (String::with_capacity(text.len()), 0);
    for secret in secrets {
        shown += &text[end..secret.start];
        shown += HIDDEN;
        end = secret.end;
    }
    Cow::Owned(shown + &text[end..])
}

/// Where the URLs in a text have users, passwords and parameters, in their order.
pub fn url_secrets(text: &str) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let mut from = 0;
    while let Some(found) = text[from..].find("://") {
        let begin = from + found + 3;
        let ends = |letter: char| letter.is_whitespace() || "\"'`<>".contains(letter);
        let end = text[begin..].find(ends).map_or(text.len(), |at| begin + at);
        let of_url = secrets_of(&text[begin..end]);
        secrets.extend(of_url.map(|it| begin + it.start..begin + it.end));
        from = end;
    }
    secrets
}

/// The secrets of one URL, given from behind its `://` on.
fn secrets_of(url: &str) -> impl Iterator<Item = Range<usize>> {
    let host = url.find(['/', '?', '#']).unwrap_or(url.len());
    let login = url[..host].rfind('@').or_else(|| {
        // A password with a slash, which would have to be written %2F.
        let has_password = url[..host].split_once(':').is_some_and(|(_, port)| {
            !port.is_empty() && !port.bytes().all(|byte| byte.is_ascii_digit())
        });
        url.rfind('@').filter(|_| has_password)
    });
    let login = login.filter(|end| *end > 0).map(|end| 0..end);
    let behind = login.as_ref().map_or(0, |login| login.end);
    let query = url[behind..].find(['?', '#']);
    let query = query.map_or(url.len(), |at| behind + at);
    let mut at = query;
    let parameters = url[query..].split_inclusive(['?', '#', '&', ';']);
    let parameters = parameters.filter_map(move |part| {
        let begin = at;
        at += part.len();
        let part = part.trim_end_matches(['?', '#', '&', ';']);
        // A parameter without a name is one as a whole.
        let value = part.find('=').map_or(0, |equals| equals + 1);
        (value < part.len()).then_some(begin + value..begin + part.len())
    });
    login.into_iter().chain(parameters.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_and_parameters_of_urls_are_hidden() {
        for (text, expected) in [
            ("ws://host:9001/feed", "ws://host:9001/feed"),
            ("a URL :// of nothing", "a URL :// of nothing"),
            ("no://", "no://"),
            ("ws://user:pass@host/x", "ws://***@host/x"),
            ("ws://user@host", "ws://***@host"),
            ("ws://u:p@ss@host/", "ws://***@host/"),
            ("ws://u:p/ss@host/", "ws://***@host/"),
            ("ws://u:p?ss@host/", "ws://***@host/"),
            ("wss://h/@name/x", "wss://h/@name/x"),
            (
                "wss://h/x?token=t&n=1#part",
                "wss://h/x?token=***&n=***#***",
            ),
            ("wss://h?t0ken", "wss://h?***"),
            ("wss://h/?empty=", "wss://h/?empty="),
            (
                "from \"ws://a:b@h\" and 'http://h?k=v', too",
                "from \"ws://***@h\" and 'http://h?k=***', too",
            ),
        ] {
            assert_eq!(without_url_secrets(text), expected);
        }
    }

    #[test]
    fn nothing_commands_the_terminal() {
        let hostile = "\x1b]0;x\x07\u{9b}2J\r\u{7f}\u{202e}abc\u{2066}\u{200f}\u{61c}\u{2028}";
        let clean = printable(hostile);
        assert!(!clean.chars().any(commands_terminal), "{clean:?}");
        assert_eq!(clean.chars().count(), hostile.chars().count());
        assert_eq!(printable("a\tb\nß😀"), "a\tb\nß😀");
        assert_eq!(shown("\x1bws://u:p@h"), "\u{fffd}ws://***@h");
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_is_left() {
        assert_eq!(excerpt("süß 日".as_bytes(), 99), "süß 日");
        assert_eq!(excerpt(b"\x1b[2Jx\ny", 99), "\u{fffd}[2Jx\u{fffd}y");
        assert_eq!(
            excerpt("a\u{202e}b\u{9b}c".as_bytes(), 99),
            "a\u{fffd}b\u{fffd}c"
        );
        assert_eq!(excerpt(b"abcd", 3), "abc…");
        assert_eq!(excerpt(b"a\xffb", 3), "a\u{fffd}b");
    }
}
