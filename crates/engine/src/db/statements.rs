//! Executes statements: one at a time, in the order of the script, each in the room that it belongs to.

use arrow::array::RecordBatch;

use super::ddl;
use super::engine::Engine;
use super::options::{OptionSpan, shown_error};
use super::outcome::Outcome;
use super::{checkpoint, connectors, dead_letters, lifecycle, query};
use crate::error::{Error, Result};
use crate::sql::{Spanned, SqlError, SqlQuery, Statement, deep, parse, sqlstate};
use crate::subscription::{QUEUE_LIMIT, SubscriberQueue};
use crate::topic::Begin;

/// Executes a script, and starts what it created. `outcomes` has those of the statements before an error.
pub(crate) fn execute(engine: &Engine, sql: &str, outcomes: &mut Vec<Outcome>) -> Result<()> {
    engine.workers.check_open()?;
    deep(|| {
        let done = execute_all(engine, sql, outcomes);
        let done = done.map_err(|error| shown_error(&engine.connectors, sql, error));
        let is_change = |outcome: &Outcome| {
            use Outcome::{Altered, Created, Dropped, Lifecycle};
            matches!(
                outcome,
                Created { .. } | Altered { .. } | Dropped { .. } | Lifecycle { .. }
            )
        };
        // What was created before an error stays, so it is saved and started.
        if outcomes.iter().any(is_change) {
            match engine.starts_connectors() {
                true => connectors::start_connectors(engine).map(drop)?,
                false => checkpoint::checkpoint(engine)?,
            }
        }
        done
    })
}

/// Executes the statement of an entry again, at a restart: nothing is saved, and nothing started.
pub(crate) fn execute_again(engine: &Engine, sql: &str) -> Result<()> {
    let done = deep(|| execute_all(engine, sql, &mut Vec::new()));
    done.map_err(|error| shown_error(&engine.connectors, sql, error))
}

/// Executes a statement without text, and starts what it created; returns the names of the sources
/// started.
pub(crate) fn run_without_text(engine: &Engine, node: Statement) -> Result<Vec<String>> {
    engine.workers.check_open()?;
    execute_one(engine, Spanned { node, span: 0..0 })?;
    checkpoint::checkpoint(engine)?;
    match engine.starts_connectors() {
        true => connectors::start_connectors(engine),
        false => Ok(Vec::new()),
    }
}

fn execute_all(engine: &Engine, sql: &str, outcomes: &mut Vec<Outcome>) -> Result<()> {
    for statement in parse(sql)? {
        let text = &sql[statement.span.clone()];
        if let Some(name) = exists_unchanged(engine, &statement.node, text) {
            outcomes.push(Outcome::Unchanged { name });
            continue;
        }
        let outcome = execute_one(engine, statement)?;
        if let Outcome::Created { name, .. } = &outcome {
            engine.catalog().define(name, text);
        }
        outcomes.push(outcome);
    }
    Ok(())
}

/// The entry that a statement would create, if it exists and was created by the same text. In a database
/// with a data folder a script may so be executed at every start.
fn exists_unchanged(engine: &Engine, statement: &Statement, text: &str) -> Option<String> {
    engine.persistence.folder()?;
    let name = match statement {
        Statement::CreateSource(create) => create.name.value.clone(),
        Statement::CreateQuery(create) => create.name.value.clone(),
        Statement::CreateSourceGroup(create) => create.name.value.clone(),
        Statement::CreateSink(create) => create.name.value.clone(),
        Statement::InsertInto { target, .. } => ddl::sink_query_name(&target.value),
        _ => return None,
    };
    let is_same = engine.catalog().definition(&name)?.text == text;
    is_same.then_some(name)
}

/// Executes one statement; if that changes which sources are needed, pauses those that are not.
fn execute_one(engine: &Engine, statement: Spanned<Statement>) -> Result<Outcome> {
    let _one_at_a_time = engine.one_statement();
    engine.workers.check_open()?;
    if engine.persistence.is_stopped() && !engine.persistence.is_restoring() {
        refuse_to_run(engine, &statement)?;
    }
    let outcome = dispatch(engine, statement.node, &statement.span)?;
    if let Outcome::Created { .. } | Outcome::Dropped { .. } = outcome {
        lifecycle::regulate(engine)?;
    }
    Ok(outcome)
}

/// Refuses what a database that runs nothing cannot do.
fn refuse_to_run(engine: &Engine, statement: &Spanned<Statement>) -> Result<()> {
    use Statement::{AlterSource, AlterStream, Describe, Drop, Explain, Query, Show};
    let what = match &statement.node {
        AlterSource(_) | AlterStream(_) | Describe(_) | Drop(_) | Explain(_) | Show(_) => {
            return Ok(());
        }
        Query(select) => match &query::read_by(&engine.catalog(), select)[..] {
            [] => return Ok(()),
            [name, ..] => format!("the rows of {name:?} are not loaded"),
        },
        _ => "this statement needs a database that runs".to_owned(),
    };
    let message = format!("{what}: the data folder is open without running anything");
    let hint = "SHOW, DESCRIBE, EXPLAIN and SELECT from system tables work, and so do ALTER and DROP. For \
                everything else start without --stopped.";
    let error = SqlError::new(sqlstate::NOT_IN_STATE, message).hint(hint);
    Err(error.at(statement.span.clone()).into())
}

fn dispatch(engine: &Engine, statement: Statement, place: &OptionSpan) -> Result<Outcome> {
    match statement {
        Statement::CreateSource(create) => ddl::create_source(engine, create, place),
        Statement::CreateQuery(create) => ddl::create_query(engine, create),
        Statement::CreateSourceGroup(create) => ddl::create_source_group(engine, create),
        Statement::CreateSink(create) => ddl::create_sink(engine, create, place),
        Statement::InsertInto {
            target,
            columns,
            query,
        } => ddl::insert_into(engine, &target, &columns, query),
        Statement::AlterSource(alter) => ddl::alter_source(engine, &alter, place),
        Statement::AlterStream(alter) => ddl::alter_stream(engine, &alter),
        Statement::Drop(drop) => ddl::drop_entry(engine, &drop),
        Statement::Lifecycle { action, stream } => lifecycle::change_state(engine, action, &stream),
        Statement::Attach(attach) => lifecycle::attach(engine, &attach),
        Statement::StartSink(name) => connectors::restart_sink(engine, &name),
        Statement::Reprocess(name) => dead_letters::reprocess(engine, &name),
        Statement::Replay(replay) => query::replay_statement(engine, &replay),
        Statement::Query(select) => answer(engine, select),
        Statement::Subscribe(name) => {
            let topic = engine.catalog().topic_named(&name)?;
            let queue = SubscriberQueue::new(QUEUE_LIMIT, None);
            let rows = engine.workers.subscribe(&topic, queue, Begin::Kept);
            connectors::begin_reading(engine, std::slice::from_ref(&topic.relation.name))?;
            let name = topic.relation.name.clone();
            Ok(Outcome::Subscribed { name, rows })
        }
        Statement::Show(shown) => Ok(query::show(engine, shown)),
        Statement::Describe(name) => query::describe(engine, &name),
        Statement::Explain(explain) => query::explain(engine, explain, place),
    }
}

/// Answers a SELECT. In a script first the finite inputs that it reads come to their end.
fn answer(engine: &Engine, select: SqlQuery) -> Result<Outcome> {
    let read = query::read_by(&engine.catalog(), &select);
    connectors::begin_reading(engine, &read)?;
    if engine.runs_script() {
        connectors::wait_for_end(engine, &read)?;
    }
    let (schema, batches) = query::select(engine, select)?;
    Ok(Outcome::Rows {
        schema,
        batches,
        reading: connectors::still_read(&engine.catalog(), &read),
    })
}

/// Answers a text that is one SELECT, with what has been read so far.
pub(crate) fn select_text(engine: &Engine, sql: &str) -> Result<Vec<RecordBatch>> {
    engine.workers.check_open()?;
    let answer = deep(|| {
        let mut statements = parse(sql)?;
        let (Some(Statement::Query(select)), true) =
            (statements.pop().map(|it| it.node), statements.is_empty())
        else {
            return Err(not_one_query());
        };
        let read = query::read_by(&engine.catalog(), &select);
        if !read.is_empty() {
            engine.check_running()?;
        }
        let (_, batches) = query::select(engine, select)?;
        let reading = connectors::still_read(&engine.catalog(), &read);
        if !reading.is_empty() {
            let sources = reading.join(", ");
            tracing::info!(sources, "answered while these sources are still being read");
        }
        Ok(batches)
    });
    answer.map_err(|error| shown_error(&engine.connectors, sql, error))
}

/// Starts the sources that wait for the end of the script; returns when the finite ones that sinks read
/// have ended and been processed.
pub(crate) fn end_script(engine: &Engine) -> Result<()> {
    engine.workers.check_open()?;
    if engine.persistence.is_stopped() {
        return Ok(());
    }
    connectors::end_waiting(engine);
    connectors::start_connectors(engine)?;
    let inputs: Vec<String> = {
        let catalog = engine.catalog();
        let inputs = catalog.sinks().map(|(_, sink)| sink.input.clone());
        inputs.collect()
    };
    connectors::wait_for_end(engine, &inputs)
}

fn not_one_query() -> Error {
    SqlError::new(sqlstate::SYNTAX_ERROR, "query() takes one SELECT")
        .hint("Run other statements with execute().")
        .into()
}
