//! SELECT: an ordinary batch query over what views and system tables hold at one moment, and over what
//! logs have kept.

use std::sync::{Arc, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{MemorySchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast::{Query, Statement, visit_relations};
use tokio_util::sync::CancellationToken;

use super::catalog::{Catalog, SourceEntry};
use super::history::{History, Kept};
use super::system::{SCHEMA, SystemTable};
use super::{Db, Inner};
use crate::dataflow::MetadataColumns;
use crate::durable::WalWriter;
use crate::error::{Error, Result};
use crate::sql::plan::explain;
use crate::sql::{
    NamedMetadataColumns, SqlError, SqlQuery, Statement as OurStatement, deep, parse,
    resolve_identifiers, sqlstate,
};
use crate::topic::Topic;

impl Db {
    /// Ends every SELECT that runs now, from any thread: each fails with SQLSTATE 57014. Does not
    /// block; SELECTs that begin later are not touched, nor are other statements.
    pub fn cancel_queries(&self) {
        std::mem::take(&mut *self.inner.cancellation()).cancel();
    }
}

impl Inner {
    pub(super) fn query(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        self.check_open()?;
        deep(|| self.query_alone(sql))
    }

    fn query_alone(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let mut statements = parse(sql)?;
        match (statements.pop(), statements.is_empty()) {
            (Some(only), true) => match only.node {
                OurStatement::Query(query) => self.select(query).map(|(_, batches)| batches),
                _ => Err(not_one_query()),
            },
            _ => Err(not_one_query()),
        }
    }

    /// Answers a query over views.
    pub(super) fn select(&self, query: SqlQuery) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let mut query = query;
        let place = query.span.clone();
        let Tables {
            views,
            histories,
            named,
        } = self.tables_of(&mut query)?;
        self.step_and_look()?;
        let partitions = match histories.is_empty() {
            true => 1,
            false => self.workers,
        };
        let context = batch_context(partitions);
        let register = |name: &str, table: Arc<dyn TableProvider>| {
            let registered = context.register_table(TableReference::bare(name), table);
            registered.map(|_| ()).map_err(explain)
        };
        let held = self.read(&views)?;
        for (topic, rows) in views.iter().zip(held) {
            let schema = Arc::clone(&topic.relation.schema);
            let table = MemTable::try_new(schema, vec![rows]).map_err(explain)?;
            register(&topic.relation.name, Arc::new(table))?;
        }
        for past in &histories {
            past.wal_writer.catch_up().map_err(Error::Data)?;
            let history = past.table(&named, partitions);
            register(&past.topic.relation.name, Arc::new(history))?;
        }
        self.register_system_tables(&context, &query)?;
        let ast = *query.ast;
        let answer = self.until_cancelled(async move { run(&context, ast).await })?;
        answer.map_err(|error| Error::from(explain(error).at(place)))
    }

    /// Waits for `work`, or until somebody asks for its end. It has a task of its own, so that nobody
    /// waits for it even if it is busy for long without a pause.
    fn until_cancelled<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let asked = self.cancellation().clone();
        let answer = self.block_on(async move {
            let mut work = tokio::spawn(work);
            tokio::select! {
                answer = &mut work => answer.map_err(|_| Error::Closed),
                () = asked.cancelled() => {
                    work.abort();
                    let message = "the query was cancelled";
                    Err(SqlError::new(sqlstate::QUERY_CANCELED, message).into())
                }
            }
        });
        answer.unwrap_or(Err(Error::Closed))
    }

    fn cancellation(&self) -> MutexGuard<'_, CancellationToken> {
        self.selects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a query the system tables that it names, as they are now.
    fn register_system_tables(&self, context: &SessionContext, query: &SqlQuery) -> Result<()> {
        let mut tables = relations(&query.ast);
        tables.sort();
        tables.dedup();
        let mut tables = tables
            .iter()
            .filter_map(|name| SystemTable::find(name))
            .peekable();
        if tables.peek().is_none() {
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
            catalog.register_schema(SCHEMA, schema).map_err(explain)?;
        }
        for table in tables {
            let rows = self.system_rows(table);
            let rows = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(explain)?;
            let name = TableReference::partial(SCHEMA, table.name());
            context
                .register_table(name, Arc::new(rows))
                .map_err(explain)?;
        }
        Ok(())
    }

    /// Resolves the names of a query, all of which must be views, sources that have a log, or
    /// system tables.
    fn tables_of(&self, query: &mut SqlQuery) -> Result<Tables> {
        let catalog = self.catalog();
        let mut tables = Tables {
            named: resolve_identifiers(query, &*catalog)?,
            ..Tables::default()
        };
        for name in relations(&query.ast) {
            let Ok(topic) = catalog.topic(&name) else {
                continue;
            };
            let known = |other: &Arc<Topic>| other.id == topic.id;
            let read = tables.histories.iter().any(|it| known(&it.topic));
            if read || tables.views.iter().any(known) {
                continue;
            }
            match self.kept_of(&catalog, &topic) {
                Some(past) => tables.histories.push(past),
                None if topic.is_kept() => tables.views.push(topic),
                None => return Err(keeps_no_rows(&catalog, &name, query).into()),
            }
        }
        Ok(tables)
    }

    /// What a log has kept of a topic: of a source, or of its bad rows.
    fn kept_of(&self, catalog: &Catalog, topic: &Arc<Topic>) -> Option<Past> {
        let of = |source: &&SourceEntry| {
            [&source.topic, &source.bad]
                .iter()
                .any(|it| it.id == topic.id)
        };
        let source = catalog.sources().find(of)?;
        Some(Past {
            topic: Arc::clone(topic),
            source: Arc::clone(&source.topic),
            wal_writer: self.wal_writer_of(&source.topic.relation.name)?,
        })
    }
}

/// What a log has kept of a topic.
struct Past {
    topic: Arc<Topic>,
    /// The source whose log it is; the topic itself, or that of its bad rows.
    source: Arc<Topic>,
    wal_writer: Arc<WalWriter>,
}

impl Past {
    /// With the hidden columns that a query names.
    fn table(&self, named: &NamedMetadataColumns, partitions: usize) -> History {
        let relation = &self.source.relation;
        let hidden = named.get(&relation.name).map(|hidden| {
            let hidden: Vec<_> = hidden.iter().copied().collect();
            MetadataColumns::new(&relation.name, &relation.schema, &hidden)
        });
        let is_bad = self.topic.id != self.source.id;
        let event_time = relation.event_time.first().filter(|_| !is_bad);
        History {
            columns: Arc::clone(&relation.schema),
            of: match is_bad {
                true => Kept::Bad,
                false => Kept::Rows(hidden),
            },
            reader: self.wal_writer.reader(),
            time: event_time.map(|time| time.column),
            partitions,
        }
    }
}

/// What a query reads.
#[derive(Default)]
struct Tables {
    views: Vec<Arc<Topic>>,
    /// Sources and their bad rows, out of the logs.
    histories: Vec<Past>,
    /// Their hidden columns that it names.
    named: NamedMetadataColumns,
}

/// Runs one query to its end. The result's schema is known even if there are no rows.
async fn run(
    context: &SessionContext,
    query: Query,
) -> Result<(SchemaRef, Vec<RecordBatch>), DataFusionError> {
    let state = context.state();
    let statement = Statement::Query(Box::new(query));
    let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
    let plan = state.statement_to_plan(statement).await?;
    let frame = context.execute_logical_plan(plan).await?;
    let task = Arc::new(frame.task_ctx());
    // The types of the logical plan are those before coercion; these are those of the rows.
    let plan = frame.create_physical_plan().await?;
    Ok((plan.schema(), collect(plan, task).await?))
}

/// A session that plans as the continuous queries are planned: names as declared, text as Utf8.
pub(crate) fn batch_context(partitions: usize) -> SessionContext {
    let mut config = SessionConfig::new()
        .with_target_partitions(partitions)
        .with_information_schema(false);
    let parser = &mut config.options_mut().sql_parser;
    parser.enable_ident_normalization = false;
    parser.map_string_types_to_utf8view = false;
    SessionContext::new_with_config(config)
}

/// The names after FROM and JOIN.
fn relations(query: &Query) -> Vec<String> {
    let mut names = Vec::new();
    let _ = visit_relations(query, |relation| {
        let parts: Vec<String> = relation
            .0
            .iter()
            .filter_map(|part| part.as_ident().map(|ident| ident.value.clone()))
            .collect();
        names.push(parts.join("."));
        std::ops::ControlFlow::<()>::Continue(())
    });
    names
}

/// Refuses a continuous query over system tables.
pub(super) fn refuse_system_tables(query: &SqlQuery) -> Result<(), SqlError> {
    let tables = relations(&query.ast);
    let Some(table) = tables.iter().find_map(|name| SystemTable::find(name)) else {
        return Ok(());
    };
    let message = format!("a continuous query over {}", table.full_name());
    Err(SqlError::not_built(message)
        .hint("SELECT from it: it shows how things are at that moment.")
        .at(query.span.clone()))
}

fn not_one_query() -> Error {
    SqlError::new(sqlstate::SYNTAX_ERROR, "query() takes one SELECT")
        .hint("Run other statements with execute().")
        .into()
}

fn keeps_no_rows(catalog: &Catalog, name: &str, query: &SqlQuery) -> SqlError {
    let kind = catalog
        .get(name)
        .map_or("topic".to_owned(), |entry| entry.kind().to_string());
    SqlError::not_built(format!(
        "SELECT on {name:?}, which is a {kind} and keeps no rows,"
    ))
    .hint(format!(
        "CREATE VIEW v AS SELECT ... FROM {name}, then SELECT from v; or SUBSCRIBE TO {name}. A source \
         keeps its rows if the database has a data folder and wal_mode is not 'off'."
    ))
    .at(query.span.clone())
}
