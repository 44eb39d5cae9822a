//! One field of a JSON object, for who reads no more of it.

use std::borrow::Cow;

use super::object::key;
use super::scanner::JsonScanner;

/// The text or the digits of the field with this name; of several, the last. `None` if `text` is not a JSON
/// object, or the field is missing or neither a text nor an integer.
pub(crate) fn json_field<'a>(text: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let text = std::str::from_utf8(text).ok()?.as_bytes();
    let mut scan = JsonScanner::new(text, 0, text.len());
    let (mut first, mut found) = (true, None);
    while let Some(key) = key(&mut scan, first).ok()? {
        first = false;
        if *key == *name.as_bytes() {
            found = value(&mut scan)?;
        } else {
            scan.skip_value().ok()?;
        }
    }
    scan.blanks();
    found.filter(|_| scan.at_end())
}

/// Moves past a value; `None` if it is malformed.
fn value<'a>(scan: &mut JsonScanner<'a>) -> Option<Option<Cow<'a, str>>> {
    if scan.peek() == b'"' {
        let text = match scan.string().ok()? {
            Cow::Borrowed(text) => Cow::Borrowed(std::str::from_utf8(text).ok()?),
            Cow::Owned(text) => Cow::Owned(String::from_utf8(text).ok()?),
        };
        return Some(Some(text));
    }
    let start = scan.at;
    scan.skip_value().ok()?;
    let text = std::str::from_utf8(scan.since(start)).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_integer = digits.bytes().all(|byte| byte.is_ascii_digit());
    Some(is_integer.then_some(Cow::Borrowed(text)))
}
