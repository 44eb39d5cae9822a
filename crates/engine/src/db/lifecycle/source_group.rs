//! A source group: a stream without a query, whose rows are those of the sources attached to it.
//!
//! The columns are declared, or those of the first source attached, and are matched by name; a source
//! whose columns do not fit is refused. The dataflow is a projection for each source and a union,
//! rebuilt whenever a source is attached or detached: it keeps no state but watermarks.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use crate::dataflow::{Plan, PlanNode, Transform};
use crate::db::catalog::{Catalog, QueryEntry};
use crate::db::engine::Engine;
use crate::error::{Error, Result};
use crate::sql::plan::{EventColumn, Relation};
use crate::sql::{SqlError, sqlstate};
use crate::topic::Topic;
use crate::worker::QueryCommand;

/// The topic of a source group; once it has columns, the workers reserve its slot.
pub(crate) fn new_topic(
    engine: &Engine,
    name: &str,
    home: usize,
    schema: SchemaRef,
    event_time: Vec<EventColumn>,
) -> Result<Arc<Topic>> {
    let has_columns = !schema.fields().is_empty();
    let relation = Relation {
        event_time,
        in_order: false,
        ..Relation::new(name, schema)
    };
    let topic = Topic::new(engine.workers.next_topic(), home, relation, false)?;
    let topic = Arc::new(topic);
    topic.report_failures_to(&engine.event_log);
    if has_columns {
        let output = Arc::clone(&topic);
        engine.workers.life(QueryCommand::Reserve { output });
    }
    Ok(topic)
}

/// The dataflow of a source group; none without sources.
pub(super) fn plan(catalog: &Catalog, query: &QueryEntry) -> Result<Option<Plan>> {
    let target = &query.topic.relation.schema;
    let mut from = Vec::with_capacity(query.inputs.len());
    for (number, input) in query.inputs.iter().enumerate() {
        let source = Arc::clone(&catalog.topic(input)?.relation.schema);
        let mut exprs: Vec<Arc<dyn PhysicalExpr>> = Vec::with_capacity(target.fields().len());
        for field in target.fields() {
            let column = source.index_of(field.name());
            let column = column.map_err(Error::config)?;
            exprs.push(Arc::new(Column::new(field.name(), column)));
        }
        let schema = Arc::clone(target);
        from.push(PlanNode::Transform {
            from: Box::new(PlanNode::Input { input: number }),
            steps: vec![Transform::Project { exprs, schema }],
            changes: false,
        });
    }
    let root = match from.len() {
        0 => return Ok(None),
        1 => from.remove(0),
        _ => PlanNode::Union { from },
    };
    Ok(Some(Plan {
        root,
        metadata_columns: Vec::new(),
        schema: Arc::clone(target),
        changes: false,
        late: Vec::new(),
    }))
}

/// Refuses a source that does not have the columns of a stream, with the differences.
pub(super) fn fit(stream: &Relation, source: &Relation) -> Result<(), SqlError> {
    let mut differences = Vec::new();
    for (number, column) in stream.schema.fields().iter().enumerate() {
        let name = column.name();
        let Ok(at) = source.schema.index_of(name) else {
            differences.push(format!("it has no column {name:?}"));
            continue;
        };
        let given = source.schema.field(at);
        if given.data_type() != column.data_type() {
            differences.push(format!(
                "its {name:?} is {}, not {}",
                given.data_type(),
                column.data_type()
            ));
        } else if given.is_nullable() && !column.is_nullable() {
            differences.push(format!("its {name:?} may be NULL"));
        }
        let is_time = |of: &Relation, at: usize| of.event_time.iter().any(|it| it.column == at);
        if is_time(stream, number) && !is_time(source, at) {
            differences.push(format!("its {name:?} has no WATERMARK"));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let (source, stream) = (&source.name, &stream.name);
    let message = format!("source {source:?} does not fit stream {stream:?}");
    Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message)
        .detail(differences.join("; "))
        .hint("CREATE STREAM ... AS SELECT ... UNION ALL SELECT ... can rename and cast columns."))
}

/// The query that a source group is equivalent to, for people.
pub(super) fn query_text(schema: &SchemaRef, sources: &[String]) -> String {
    let columns = schema.fields().iter().map(|field| field.name().as_str());
    let columns: Vec<&str> = columns.collect();
    let columns = columns.join(", ");
    let select = |source: &String| format!("SELECT {columns} FROM {source}");
    let selects: Vec<String> = sources.iter().map(select).collect();
    selects.join(" UNION ALL ")
}
