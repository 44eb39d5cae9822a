//! CREATE SOURCE, and the dead-letter stream that its options name.

use super::dead_letter_stream::ensure_dead_letter_stream;
use super::declaration::{is_taken, payload_of, refuse_long_name};
use super::source::add_source;
use crate::db::engine::{Engine, check_thread_for};
use crate::db::options::{OptionSpan, refuse_unbuilt_options, source_spec};
use crate::db::outcome::Outcome;
use crate::error::Result;
use crate::sql::{CreateSource, Kind};

pub(crate) fn create_source(
    engine: &Engine,
    create: CreateSource,
    place: &OptionSpan,
) -> Result<Outcome> {
    let name = create.name.value.clone();
    if is_taken(&engine.catalog(), &create.name, create.if_not_exists)? {
        return Ok(Outcome::Unchanged { name });
    }
    refuse_long_name(engine, &create.name)?;
    refuse_unbuilt_options(&create.options)?;
    let declared = (!create.columns.is_empty()).then(|| payload_of(&create.columns));
    let (options, spec) = source_spec(&engine.connectors, &create.options, declared, place)?;
    if let Some(spec) = &spec {
        if !engine.persistence.is_restoring() {
            check_thread_for(&name)?;
        }
        ensure_dead_letter_stream(engine, spec.errors(), &create.options, &name, &[])?;
    }
    add_source(engine, &create, &options, spec)?;
    Ok(Outcome::created(Kind::Source, name))
}
