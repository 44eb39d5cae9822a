//! What creates, changes and drops entries of the catalog: CREATE, INSERT INTO, ALTER, DROP.

mod alter_source;
mod alter_stream;
mod create_query;
mod create_sink;
mod create_source;
mod create_source_group;
mod dead_letter_stream;
mod declaration;
mod drop;
mod query_options;
mod source;

pub(crate) use alter_source::alter_source;
pub(crate) use alter_stream::alter_stream;
pub(crate) use create_query::create_query;
pub(crate) use create_sink::{create_sink, insert_into, sink_query_name};
pub(crate) use create_source::create_source;
pub(crate) use create_source_group::create_source_group;
pub(crate) use drop::drop_entry;
