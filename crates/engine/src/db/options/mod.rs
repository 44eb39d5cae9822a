//! The `WITH` lists of statements: the options of every source, those of connectors, and what is wrong
//! with them.

mod ingest_options;
mod shown_options;
mod with_list;

pub use ingest_options::source_options;
pub(crate) use ingest_options::{IngestOptions, WalOption};
pub(crate) use shown_options::shown_error;
pub use shown_options::shown_sql;
pub(crate) use with_list::{
    OptionSpan, refuse_all_but, refuse_allowed_lateness, refuse_unbuilt_options, refuse_unusable,
    sink_spec, source_spec,
};
