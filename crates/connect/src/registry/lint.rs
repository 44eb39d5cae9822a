//! The rules that the declaration of every connector keeps, checked when it is registered.

use super::{sink_sets, source_sets};
use crate::connector::Connector;
use crate::formats::{self, Format};
use crate::options::OptionSet;

/// The first rule that the declaration breaks, as a sentence.
pub(super) fn broken_rule(connector: &Connector) -> Option<String> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if connector.name.is_empty() || !connector.name.chars().all(letters) {
        return Some("its name must be of lower case letters, digits and '_'".to_owned());
    }
    if connector.summary.is_empty() || connector.summary.ends_with('.') {
        return Some("its summary must be a text without a full stop".to_owned());
    }
    if connector.source.is_none() && connector.sink.is_none() {
        return Some("it is neither a source nor a sink".to_owned());
    }
    let source = connector
        .source
        .map(|kind| (kind.formats, source_sets(&kind, None)));
    let sink = connector
        .sink
        .map(|kind| (kind.formats, sink_sets(&kind, None)));
    let reads = |format: &Format| format.decoder.is_some();
    let writes = |format: &Format| format.encoder.is_some();
    lint_role(source, reads).or_else(|| lint_role(sink, writes))
}

fn lint_role(
    role: Option<(&[&str], Vec<OptionSet>)>,
    can: impl Fn(&Format) -> bool,
) -> Option<String> {
    let (formats, sets) = role?;
    let cannot = |name: &&&str| !formats::format(name).is_some_and(&can);
    if let Some(name) = formats.iter().find(cannot) {
        return Some(format!("there is no format {name:?} for what it does"));
    }
    sets.iter().find_map(OptionSet::lint)
}
