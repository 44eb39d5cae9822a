//! What each statement does.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use headwater_connect::Rejection;

use super::Inner;
use super::catalog::{Entry, Kind, QueryEntry, SourceEntry};
use super::catch_up::{Past, Start, start_of};
use super::life::Life;
use super::options::{Place, rejected};
use super::select::refuse_system_tables;
use crate::clock::now_us;
use crate::dataflow::QueryFailure;
use crate::error::{Error, Result};
use crate::sql::plan::{Planned, Relation};
use crate::sql::{
    ColumnDefinition, Emit, Name, OptionEntry, Spanned, SqlError, SqlQuery, Statement, deep, parse,
    resolve_identifiers, sqlstate, windows,
};
use crate::streams::StreamStatus;
use crate::subscription::{QUEUE_ROWS, SubscriberQueue, Subscription};
use crate::topic::{Begin, Topic, TopicId};
use crate::worker::{NewQuery, WorkerCommand};

/// SQLSTATE: something of this name exists.
const DUPLICATE: &str = "42P07";
/// SQLSTATE: nothing of this name exists.
const UNDEFINED: &str = "42P01";

/// SQLSTATE: the name is ours.
const RESERVED: &str = "42939";

/// What a statement gave.
#[derive(Debug)]
pub enum Outcome {
    /// Something was created.
    Created {
        /// What kind of thing.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// It existed already, and IF NOT EXISTS was said; or it did not, and IF EXISTS was.
    Unchanged {
        /// The name.
        name: String,
    },
    /// A stream is now in this state, or something was attached to it or detached from it.
    Lifecycle {
        /// The stream.
        name: String,
        /// What it is doing.
        status: StreamStatus,
    },
    /// A sink that had failed is tried again.
    Started {
        /// Its name.
        name: String,
    },
    /// The options of a source were changed.
    Altered {
        /// Its name.
        name: String,
    },
    /// Things were dropped, in this order.
    Dropped {
        /// Their names.
        names: Vec<String>,
    },
    /// An answer that ends.
    Rows {
        /// Its columns.
        schema: SchemaRef,
        /// Its rows.
        batches: Vec<RecordBatch>,
    },
    /// An answer that does not end.
    Subscribed(Subscription),
}

/// Whether something is there already that IF NOT EXISTS lets pass.
pub(super) enum Existing {
    Free,
    Unchanged,
}

impl Inner {
    pub(super) fn execute(&self, sql: &str, outcomes: &mut Vec<Outcome>) -> Result<()> {
        self.check_open()?;
        deep(|| {
            let done = self.run_all(sql, parse(sql)?, outcomes);
            let changed = |outcome: &Outcome| {
                use Outcome::{Altered, Created, Dropped, Lifecycle};
                matches!(
                    outcome,
                    Created { .. } | Altered { .. } | Dropped { .. } | Lifecycle { .. }
                )
            };
            // What was created before an error stays, so it is saved and runs.
            match (outcomes.iter().any(changed), self.starts_connectors()) {
                (true, true) => self.start_connectors().map(drop)?,
                (true, false) => self.checkpoint().map(drop)?,
                (false, _) => {}
            }
            done
        })
    }

    /// Runs a statement that created something before a restart: it is not saved, nor anything started.
    pub(super) fn execute_again(&self, sql: &str) -> Result<()> {
        deep(|| self.run_all(sql, parse(sql)?, &mut Vec::new()))
    }

    fn run_all(
        &self,
        sql: &str,
        statements: Vec<Spanned<Statement>>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<()> {
        for statement in statements {
            let text = &sql[statement.span.clone()];
            if let Some(name) = self.says_what_exists(&statement.node, text) {
                outcomes.push(Outcome::Unchanged { name });
                continue;
            }
            let outcome = self.statement(statement)?;
            if let Outcome::Created { name, .. } = &outcome {
                self.catalog().define(name, text);
            }
            outcomes.push(outcome);
        }
        Ok(())
    }

    /// In a database with a data folder a script may run again: a statement that says word for word
    /// what exists changes nothing.
    fn says_what_exists(&self, statement: &Statement, text: &str) -> Option<String> {
        self.durability.as_ref()?;
        let name = match statement {
            Statement::CreateSource(create) => create.name.value.clone(),
            Statement::CreateStream(create) => create.name.value.clone(),
            Statement::CreateView(create) => create.name.value.clone(),
            Statement::CreateSourceGroup(create) => create.name.value.clone(),
            Statement::CreateSink(create) => create.name.value.clone(),
            Statement::InsertInto { target, .. } => query_name(&target.value),
            _ => return None,
        };
        let same = self.catalog().definition(&name)?.text == text;
        same.then_some(name)
    }

    /// Starts what `execute` is to start; gives the names of the sources.
    pub(super) fn start_wanted(&self) -> Result<Vec<String>> {
        match self.starts_connectors() {
            true => self.start_connectors(),
            false => Ok(Vec::new()),
        }
    }

    /// Whether what is created is to start at once.
    fn starts_connectors(&self) -> bool {
        self.start_connectors || self.connectors_begun.load(Ordering::Acquire)
    }

    /// Runs one statement; what it changes about which sources are needed is made true.
    pub(super) fn statement(&self, statement: Spanned<Statement>) -> Result<Outcome> {
        let place = statement.span;
        let _one_at_a_time = self
            .statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.check_open()?;
        let outcome = self.run_statement(statement.node, &place)?;
        if let Outcome::Created { .. } | Outcome::Dropped { .. } = outcome {
            self.regulate()?;
        }
        Ok(outcome)
    }

    fn run_statement(&self, statement: Statement, place: &Place) -> Result<Outcome> {
        match statement {
            Statement::CreateSource(create) => self.create_source(create, place),
            Statement::CreateStream(create) => {
                let start = start_of(Start::Now, &create.options)?;
                if create.emit == Some(Emit::OnUpdate) {
                    let error = SqlError::not_built("EMIT ON UPDATE")
                        .hint("Leave it out: a window gives its result when it closes.");
                    return Err(error.at(create.query.span).into());
                }
                let if_not_exists = create.if_not_exists;
                let name = &create.name;
                self.create_query(Kind::Stream, name, if_not_exists, create.query, start)
            }
            Statement::CreateView(create) => {
                let start = start_of(Start::Retained, &create.options)?;
                let if_not_exists = create.if_not_exists;
                let name = &create.name;
                self.create_query(Kind::View, name, if_not_exists, create.query, start)
            }
            Statement::CreateSourceGroup(create) => self.create_set(create),
            Statement::Lifecycle { action, stream } => self.lifecycle(action, &stream),
            Statement::StartSink(name) => self.start_sink_again(&name),
            Statement::Attach(attach) => self.attach(&attach),
            Statement::Replay(replay) => self.replay_statement(&replay),
            Statement::AlterSource(alter) => self.alter_source(&alter, place),
            Statement::Reprocess(name) => self.reprocess(&name),
            Statement::CreateSink(create) => self.create_sink(create, place),
            Statement::InsertInto {
                target,
                columns,
                query,
            } => self.insert_into(&target, &columns, query),
            Statement::Query(query) => {
                let (schema, batches) = self.select(query)?;
                Ok(Outcome::Rows { schema, batches })
            }
            Statement::Subscribe(name) => {
                let topic = self.topic(&name)?;
                let queue = SubscriberQueue::new(QUEUE_ROWS, None);
                Ok(Outcome::Subscribed(self.subscribe(
                    &topic,
                    queue,
                    Begin::Kept,
                )))
            }
            Statement::Show(shown) => Ok(self.show(shown)),
            Statement::Describe(name) => self.describe(&name),
            Statement::Explain(explain) => self.explain(explain, place),
            Statement::Drop(drop) => self.drop_entry(&drop),
        }
    }

    /// The topic of this name, or an error that points at it.
    pub(super) fn topic(&self, name: &Name) -> Result<Arc<Topic>> {
        self.catalog()
            .topic(&name.value)
            .map_err(|error| match error {
                Error::NotFound { .. } => undefined(name).into(),
                other => other,
            })
    }

    fn create_query(
        &self,
        kind: Kind,
        name: &Name,
        if_not_exists: bool,
        query: SqlQuery,
        start: Start,
    ) -> Result<Outcome> {
        if let Existing::Unchanged = self.existing(name, if_not_exists)? {
            return Ok(Outcome::Unchanged {
                name: name.value.clone(),
            });
        }
        let text = query.text.clone();
        let planned = self.plan(query)?;
        let pasts = self.pasts(&planned.inputs, start)?;
        let output = self.install(kind, &name.value, text, planned, None, &pasts)?;
        if !pasts.is_empty() {
            self.catch_up(output, &pasts)?;
            self.release(output);
            self.look()?;
        }
        Ok(Outcome::Created {
            kind,
            name: name.value.clone(),
        })
    }

    /// Plans a continuous query over what exists.
    pub(super) fn plan(&self, query: SqlQuery) -> Result<Planned> {
        let mut query = query;
        let catalog = self.catalog();
        windows::rewrite(&mut query)?;
        let named = resolve_identifiers(&mut query, &*catalog)?;
        refuse_system_tables(&query)?;
        let planned = self.planner.plan(query, &catalog.relations(&named))?;
        for input in &planned.inputs {
            if let Some(reason) = catalog.topic(input)?.failure()
                && !self.is_restoring()
            {
                return Err(Error::QueryFailed {
                    reason: format!("{input:?} has failed: {reason}"),
                });
            }
        }
        Ok(planned)
    }

    /// Begins a query. `first` subscribes before it has any result; `pasts` are inputs that it does not
    /// hear yet.
    pub(super) fn install(
        &self,
        kind: Kind,
        name: &str,
        text: String,
        planned: Planned,
        first: Option<Arc<SubscriberQueue>>,
        pasts: &[Past],
    ) -> Result<TopicId> {
        let mut catalog = self.catalog();
        let inputs = planned.inputs.iter().map(|input| catalog.topic(input));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let home = inputs.first().map_or(0, |topic| topic.home);
        let relation = Relation {
            name: name.to_owned(),
            schema: Arc::clone(&planned.plan.schema),
            event_time: planned.event_time,
            changes: planned.plan.changes,
            metadata_columns: None,
        };
        // A result that changes is kept, so that whoever comes later begins with what it is.
        let kept = kind == Kind::View || planned.plan.changes;
        let output = Arc::new(Topic::new(self.next_topic(), home, relation, kept)?);
        self.restore_topic(&output)?;
        let mut late = Vec::with_capacity(planned.plan.late.len());
        for (number, schema) in planned.plan.late.iter().enumerate() {
            let relation = Relation {
                name: late_name(name, number),
                schema: Arc::clone(schema),
                event_time: Vec::new(),
                changes: false,
                metadata_columns: None,
            };
            let topic = Topic::new(self.next_topic(), home, relation, false)?;
            self.restore_topic(&topic)?;
            late.push(Arc::new(topic));
        }
        let state = self.saved_query(name);
        let from = match state {
            Some(_) => Begin::Next,
            None => Begin::Kept,
        };
        if let Some(queue) = first {
            self.sequencer.command(WorkerCommand::Subscribe {
                topic: Arc::clone(&output),
                queue,
                from,
            });
        }
        output.report_failures_to(&self.event_log);
        let life = Life::active(planned.plan.clone(), now_us());
        self.sequencer.command(WorkerCommand::AddQuery(NewQuery {
            plan: planned.plan,
            inputs,
            output: Arc::clone(&output),
            late: late.clone(),
            failure: QueryFailure::default(),
            state,
            held: pasts.iter().map(Past::hold).collect(),
        }));
        let id = output.id;
        let (inputs, logical) = (planned.inputs, planned.logical);
        let entry = QueryEntry {
            kind,
            topic: output,
            late,
            inputs,
            text,
            logical,
            life,
        };
        catalog.insert(name, Entry::Query(entry));
        Ok(id)
    }

    pub(super) fn existing(&self, name: &Name, if_not_exists: bool) -> Result<Existing> {
        if let Some(ending) = reserved_ending(&name.value) {
            let message = format!(
                "{:?} ends with {ending:?}, as names that are given by us do",
                name.value
            );
            let error = SqlError::new(RESERVED, message).hint("Choose another name.");
            return Err(error.at(name.span.clone()).into());
        }
        let catalog = self.catalog();
        let taken = catalog.entries.contains_key(&name.value)
            || catalog
                .topics()
                .any(|topic| topic.relation.name == name.value);
        match (taken, if_not_exists) {
            (false, _) => Ok(Existing::Free),
            (true, true) => Ok(Existing::Unchanged),
            (true, false) => {
                let message = format!("{:?} exists already", name.value);
                let hint = "Choose another name, DROP it first, or say IF NOT EXISTS.";
                let error = SqlError::new(DUPLICATE, message).hint(hint);
                Err(error.at(name.span.clone()).into())
            }
        }
    }
}

/// The ending of a name that is given by us: bad rows, late rows, the query of a sink.
fn reserved_ending(name: &str) -> Option<&str> {
    let (_, ending) = name.rsplit_once("__")?;
    let numbered = ending
        .strip_prefix("late_")
        .is_some_and(|number| number.parse::<u32>().is_ok());
    let ours = matches!(ending, "bad" | "late" | "query") || numbered;
    ours.then(|| &name[name.len() - ending.len() - 2..])
}

/// The stream behind a sink that has a query of its own.
pub(super) fn query_name(sink: &str) -> String {
    format!("{sink}__query")
}

fn late_name(query: &str, number: usize) -> String {
    match number {
        0 => format!("{query}__late"),
        more => format!("{query}__late_{}", more + 1),
    }
}

pub(super) fn published(planned: &Planned) -> SchemaRef {
    match planned.plan.changes {
        true => crate::dataflow::with_diff(&planned.plan.schema),
        false => Arc::clone(&planned.plan.schema),
    }
}

pub(super) fn schema_of(columns: &[ColumnDefinition]) -> SchemaRef {
    let field = |column: &ColumnDefinition| {
        Field::new(
            &column.name.value,
            column.data_type.clone(),
            column.nullable,
        )
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

pub(super) fn refused(
    rejection: Rejection<Place>,
    connector: &OptionEntry,
    place: &Place,
) -> Error {
    match rejection {
        Rejection::Options(problems) => rejected(problems, place),
        Rejection::Error(error) => SqlError::new(sqlstate::UNDEFINED_OBJECT, error.to_string())
            .maybe_hint(error.hint())
            .at(connector.value_span.clone())
            .into(),
    }
}

pub(super) fn undefined(name: &Name) -> SqlError {
    SqlError::new(UNDEFINED, format!("there is no {:?}", name.value))
        .hint("SHOW SOURCES, SHOW STREAMS, SHOW VIEWS and SHOW SINKS list what there is.")
        .at(name.span.clone())
}

/// Rows that a source has dropped, for people: by its backpressure, as bad by its error strategy, or
/// because an option of its connector says so.
pub(super) fn dropped(source: &SourceEntry) -> u64 {
    let left_out = source.connector.as_ref();
    let left_out = left_out.map_or(0, |it| it.dropped_before + it.spec.dropped().total());
    source.shared.dropped.load(Ordering::Relaxed) + left_out
}
