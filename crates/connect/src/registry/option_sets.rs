//! The sets of options that apply to a source or a sink.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::connector::{SinkKind, SourceKind};
use crate::formats::Format;
use crate::options::{ByteSize, Objection, OptionSet, Options, Row};
use crate::output::MAX_FRAME;
use crate::restart::RestartOptions;

/// Options of every source of frames.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FrameOptions {
    /// How the bytes of a message become columns.
    #[serde(default)]
    #[allow(dead_code)] // Read before the options of the format are known, see `ChosenFormat`.
    format: Option<String>,
    /// The largest message accepted, at most 256 MiB; a larger one becomes a bad row.
    #[serde(default)]
    pub(super) max_frame: Option<ByteSize>,
}

impl Options for FrameOptions {
    fn objections(&self) -> Vec<Objection> {
        let objection = |why: &str| vec![Objection::new(&["max_frame"], why)];
        match self.max_frame {
            Some(ByteSize(0)) => objection("it must be at least 1 B"),
            Some(size) if size > MAX_FRAME => objection(&format!("it must be at most {MAX_FRAME}")),
            _ => Vec::new(),
        }
    }
}

/// Options of every sink that writes bytes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FormatOptions {
    /// How rows become bytes.
    #[serde(default)]
    #[allow(dead_code)] // Read before the options of the format are known, see `ChosenFormat`.
    format: Option<String>,
}

impl Options for FormatOptions {}

/// The sets of options that a source of this kind and format has.
pub(crate) fn source_sets(kind: &SourceKind, format: Option<&Format>) -> Vec<OptionSet> {
    let frames = (!kind.formats.is_empty()).then(OptionSet::of::<FrameOptions>);
    let format = format.and_then(|format| format.decoder_options);
    let restart = OptionSet::of::<RestartOptions>();
    [Some(kind.options), frames, format, Some(restart)]
        .into_iter()
        .flatten()
        .collect()
}

/// The sets of options that a sink of this kind and format has.
pub(crate) fn sink_sets(kind: &SinkKind, format: Option<&Format>) -> Vec<OptionSet> {
    let formats = (!kind.formats.is_empty()).then(OptionSet::of::<FormatOptions>);
    let format = format.and_then(|format| format.encoder_options);
    [Some(kind.options), formats, format]
        .into_iter()
        .flatten()
        .collect()
}

/// The options for docs and help: required ones first, then by name.
pub(crate) fn sorted_rows(sets: &[OptionSet]) -> Vec<Row> {
    let mut rows: Vec<Row> = sets.iter().flat_map(OptionSet::rows).collect();
    rows.sort_by(|a, b| (b.required, &a.name).cmp(&(a.required, &b.name)));
    rows
}
