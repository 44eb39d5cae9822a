//! SELECT: an ordinary batch query over the rows of views and system tables at one moment, and over the
//! rows that logs retain.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast::{Query, Statement as AstStatement};

use super::plan::relation_names;
use super::retained_rows::{RetainedPart, RetainedRows};
use super::system_rows::system_rows;
use super::undefined::{refuse_undefined, with_fields};
use super::view_rows::{LARGE_VIEW, ViewReads, ViewTable};
use super::wildcards::expand_wildcards;
use crate::dataflow::MetadataColumns;
use crate::db::catalog::{Catalog, SYSTEM_SCHEMA, SourceEntry, SystemTable};
use crate::db::engine::{Engine, Persistence};
use crate::durable::WalWriter;
use crate::error::{Error, Result};
use crate::sql::numbers::with_exact_numbers;
use crate::sql::plan::{explain, explain_in};
use crate::sql::{
    NamedMetadataColumns, SqlError, SqlQuery, functions, output_names, resolve_identifiers,
};
use crate::topic::Topic;

/// The names of the sources, streams and views that a query names, and of their bad and late rows.
pub(crate) fn read_by(catalog: &Catalog, query: &SqlQuery) -> Vec<String> {
    let names = relation_names(&query.ast).into_iter();
    let topics = names.filter_map(|name| catalog.topic(&name).ok());
    topics.map(|topic| topic.relation.name.clone()).collect()
}

/// Answers a query over views, retained rows and system tables. Blocks.
///
/// Views are read once the query has been planned, since it may need few of their rows; what it reads of
/// them is of one moment.
pub(crate) fn select(
    engine: &Engine,
    mut query: SqlQuery,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let SelectInputs { views, logs, named } =
        inputs_of(&engine.catalog(), &engine.persistence, &mut query)?;
    let system_tables = system_tables(&query);
    if views.is_empty() || !logs.is_empty() || !system_tables.is_empty() {
        engine.workers.step()?;
    }
    let is_large = |view: &Arc<Topic>| view.kept_rows() > LARGE_VIEW;
    let partitions = match logs.is_empty() && !views.iter().any(is_large) {
        true => 1,
        false => engine.workers.count,
    };
    let context = batch_context(partitions);
    let register = |name: &str, table: Arc<dyn TableProvider>| {
        let registered = context.register_table(TableReference::bare(name), table);
        registered.map(|_| ()).map_err(explain)
    };
    let reads = ViewReads::default();
    for topic in &views {
        let table = ViewTable::new(topic, &reads, partitions);
        register(&topic.relation.name, Arc::new(table))?;
    }
    for log in &logs {
        log.wal_writer.catch_up().map_err(Error::Data)?;
        let table = log.table(&named, partitions);
        register(&log.topic.relation.name, Arc::new(table))?;
    }
    register_system_tables(engine, &context, system_tables)?;
    let failed = |error| {
        let error = engine.planner.suggest_function(explain_in(error, &query));
        let place = error.position.clone().unwrap_or_else(|| query.span.clone());
        let topics = views.iter().chain(logs.iter().map(|it| &it.topic));
        let tables: Vec<_> = topics.map(|it| Arc::clone(&it.relation.schema)).collect();
        Error::from(with_fields(error.at(place), &query, &tables))
    };
    let ast = (*query.ast).clone();
    let planned = engine
        .io
        .run_select(async move { plan(&context, ast).await })?;
    let (plan, task) = planned.map_err(failed)?;
    if !views.is_empty() {
        engine.workers.read(reads.of(&views))?;
    }
    let schema = plan.schema();
    let answer = engine.io.run_select(collect(plan, task))?;
    Ok((schema, answer.map_err(failed)?))
}

/// The system tables that a query names, each once.
fn system_tables(query: &SqlQuery) -> Vec<&'static SystemTable> {
    let mut tables = relation_names(&query.ast);
    tables.sort();
    tables.dedup();
    let tables = tables.iter().filter_map(|name| SystemTable::find(name));
    tables.collect()
}

/// Registers system tables with the rows of this moment.
fn register_system_tables(
    engine: &Engine,
    context: &SessionContext,
    tables: Vec<&'static SystemTable>,
) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let catalog = &context
        .copied_config()
        .options()
        .catalog
        .default_catalog
        .clone();
    if let Some(catalog) = context.catalog(catalog) {
        let schema = Arc::new(MemorySchemaProvider::new());
        catalog
            .register_schema(SYSTEM_SCHEMA, schema)
            .map_err(explain)?;
    }
    for table in tables {
        let rows = system_rows(engine, table);
        let rows = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(explain)?;
        let name = TableReference::partial(SYSTEM_SCHEMA, table.name);
        context
            .register_table(name, Arc::new(rows))
            .map_err(explain)?;
    }
    Ok(())
}

/// Resolves the names of a query, all of which must be views, sources that have a log, or
/// system tables.
fn inputs_of(
    catalog: &Catalog,
    persistence: &Persistence,
    query: &mut SqlQuery,
) -> Result<SelectInputs> {
    let mut inputs = SelectInputs {
        named: resolve_identifiers(query, catalog)?,
        ..SelectInputs::default()
    };
    refuse_undefined(query, catalog)?;
    for name in relation_names(&query.ast) {
        let Ok(topic) = catalog.topic(&name) else {
            continue;
        };
        let is_same = |other: &Arc<Topic>| other.id == topic.id;
        let has_log = inputs.logs.iter().any(|it| is_same(&it.topic));
        if has_log || inputs.views.iter().any(is_same) {
            continue;
        }
        match log_of(catalog, persistence, &topic) {
            Some(log) => inputs.logs.push(log),
            None if topic.is_kept => inputs.views.push(topic),
            None => return Err(keeps_no_rows(catalog, &name, query).into()),
        }
    }
    Ok(inputs)
}

/// The log that retains the rows of a topic: of a source, or of its bad rows.
fn log_of(catalog: &Catalog, persistence: &Persistence, topic: &Arc<Topic>) -> Option<TopicLog> {
    let owns = |source: &&SourceEntry| [source.topic.id, source.bad.id].contains(&topic.id);
    let source = catalog.sources().find(owns)?;
    Some(TopicLog {
        topic: Arc::clone(topic),
        source: Arc::clone(&source.topic),
        wal_writer: persistence.wal_writer(&source.topic.relation.name)?,
    })
}

struct TopicLog {
    topic: Arc<Topic>,
    /// The source whose log it is; the topic itself, or that of its bad rows.
    source: Arc<Topic>,
    wal_writer: Arc<WalWriter>,
}

impl TopicLog {
    /// The retained rows, with the metadata columns that a query names.
    fn table(&self, named: &NamedMetadataColumns, partitions: usize) -> RetainedRows {
        let relation = &self.source.relation;
        let metadata = named.get(&relation.name).map(|columns| {
            let columns: Vec<_> = columns.iter().copied().collect();
            MetadataColumns::new(&relation.name, &relation.schema, &columns)
        });
        let is_bad = self.topic.id != self.source.id;
        let event_time = relation.event_time.first().filter(|_| !is_bad);
        RetainedRows {
            columns: Arc::clone(&relation.schema),
            part: match is_bad {
                true => RetainedPart::Bad,
                false => RetainedPart::Rows(metadata),
            },
            reader: self.wal_writer.reader(),
            time: event_time.map(|time| time.column),
            partitions,
        }
    }
}

#[derive(Default)]
struct SelectInputs {
    views: Vec<Arc<Topic>>,
    /// Sources and their bad rows, read from the logs.
    logs: Vec<TopicLog>,
    /// The metadata columns of those that the query names.
    named: NamedMetadataColumns,
}

/// Plans one query. The result's schema is known even if there will be no rows.
async fn plan(
    context: &SessionContext,
    mut query: Query,
) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>), DataFusionError> {
    let state = context.state();
    expand_wildcards(&state, &mut query).await;
    output_names::number_repeated(&mut query);
    let statement = AstStatement::Query(Box::new(query));
    let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
    let plan = state.statement_to_plan(statement).await?;
    let frame = context.execute_logical_plan(plan).await?;
    let task = Arc::new(frame.task_ctx());
    // The types of the logical plan are those before coercion; these are those of the rows.
    Ok((frame.create_physical_plan().await?, task))
}

/// A session that plans as the continuous queries are planned: names as declared, text as Utf8.
pub(super) fn batch_context(partitions: usize) -> SessionContext {
    let mut config = SessionConfig::new()
        .with_target_partitions(partitions)
        .with_information_schema(false);
    let parser = &mut config.options_mut().sql_parser;
    parser.enable_ident_normalization = false;
    parser.map_string_types_to_utf8view = false;
    parser.collect_spans = true;
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features();
    let mut context = SessionContext::new_with_state(with_exact_numbers(builder).build());
    functions::register(&mut context);
    // It sums sums, each of which would have to fit.
    context.remove_optimizer_rule("single_distinct_aggregation_to_group_by");
    context
}

fn keeps_no_rows(catalog: &Catalog, name: &str, query: &SqlQuery) -> SqlError {
    let kind = catalog
        .get(name)
        .map_or("stream".to_owned(), |entry| entry.kind().to_string());
    SqlError::not_built(format!(
        "SELECT on {name:?}, which is a {kind} and does not keep its rows,"
    ))
    .hint(format!(
        "CREATE VIEW v AS SELECT ... FROM {name}, then SELECT from v; or SUBSCRIBE TO {name}. A source \
         keeps its rows if the database has a data folder and wal_mode is not 'off'."
    ))
    .at(query.span.clone())
}
