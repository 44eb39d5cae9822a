//! Runs a case in the engine and in DataFusion, and reports the differences.

use std::collections::{HashMap, HashSet};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef};
use headwater::{ArrowSource, Db, Error, Event as Output, Subscription};

use crate::batch::{Answer, Rows, Table, answer, type_difference};
use crate::case::{Case, Event};
use crate::data::{Source, per_second};
use crate::postgres::second::{Asking, Failure, Outcome, Second};
use crate::query::{Query, Window, Windows};
use crate::windows::{self, Timed};

/// What became of the queries of a case.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Accepted, and right.
    pub right: usize,
    /// Of those, how many had windows.
    pub windowed: usize,
    /// Both failed on the rows.
    pub failed: usize,
    /// Refused with 0A000.
    pub refused: usize,
    /// Neither side plans it.
    pub invalid: usize,
    /// Not asked, since what it reads is one of the others.
    pub skipped: usize,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.right += other.right;
        self.windowed += other.windowed;
        self.failed += other.failed;
        self.refused += other.refused;
        self.invalid += other.invalid;
        self.skipped += other.skipped;
    }
}

/// Where the engine is wrong.
#[derive(Debug)]
pub struct Wrong {
    /// The name of the query.
    pub query: String,
    pub what: String,
}

/// An accepted query while it runs.
struct Running<'a> {
    query: &'a Query,
    results: Subscription,
    late: Option<Subscription>,
}

/// What a query gave in the end.
struct Given {
    rows: Result<Vec<RecordBatch>, Failure>,
    late: Vec<RecordBatch>,
    /// What a view holds.
    held: Option<Result<Vec<RecordBatch>, String>>,
    schema: SchemaRef,
}

pub fn run(case: &Case, second: &Second) -> Result<Tally, Wrong> {
    let db = Db::builder()
        .workers(case.workers)
        .in_memory()
        .expect("a database");
    for source in &case.sources {
        db.execute(&source.create).expect("a source");
    }
    let mut oracle = Oracle::new(case, second);
    let mut tally = Tally::default();
    let mut running = Vec::new();
    for query in &case.queries {
        match create(&db, query, &oracle)? {
            Created::Yes(it) => {
                oracle.known.insert(query.name.clone());
                running.push(it);
            }
            Created::Refused => tally.refused += 1,
            Created::Invalid => tally.invalid += 1,
            Created::Skipped => tally.skipped += 1,
        }
    }
    play(&db, case);
    for running in running {
        let query = running.query;
        let given = collect(&db, running);
        let wrong = |what| Wrong {
            query: query.name.clone(),
            what,
        };
        match oracle.check(query, given).map_err(wrong)? {
            Verdict::Right => {
                tally.right += 1;
                tally.windowed += usize::from(query.window.is_some());
            }
            Verdict::Failed => tally.failed += 1,
            Verdict::Skipped => tally.skipped += 1,
        }
    }
    db.close();
    Ok(tally)
}

enum Created<'a> {
    Yes(Running<'a>),
    Refused,
    Invalid,
    Skipped,
}

fn create<'a>(db: &Db, query: &'a Query, oracle: &Oracle<'_>) -> Result<Created<'a>, Wrong> {
    if !query.reads.iter().all(|it| oracle.known.contains(it)) {
        return Ok(Created::Skipped);
    }
    if let Err(error) = db.execute(&query.create()) {
        let not_built = |error: &Error| {
            let known = is_mistaken_name(&error.to_string());
            known || error.sql_errors().iter().all(|it| it.sqlstate == "0A000")
        };
        if not_built(&error) {
            if std::env::var_os("HEADWATER_DIFF_REFUSED").is_some() {
                println!("refused: {error}: {}", query.stream);
            }
            return Ok(Created::Refused);
        }
        return match oracle.plans(query) {
            Err(_) => Ok(Created::Invalid),
            Ok(()) => {
                let what = format!("  only the stream refuses it: {error}");
                Err(Wrong {
                    query: query.name.clone(),
                    what,
                })
            }
        };
    }
    let results = db.subscribe_batches(&query.name).expect("it was created");
    let late = db.subscribe_batches(&format!("{}__late", query.name)).ok();
    Ok(Created::Yes(Running {
        query,
        results,
        late,
    }))
}

/// A mistake of DataFusion itself: in its optimizer `CAST(x AS ...)` and `x` have one name. Whether
/// it shows depends on rules that are not the same for a batch and for a stream.
fn is_mistaken_name(reason: &str) -> bool {
    reason
        .to_lowercase()
        .contains("projections require unique expression names")
}

fn play(db: &Db, case: &Case) {
    let open = |source: &Source| db.source_untyped(&source.name).expect("it was created");
    let sources: Vec<ArrowSource> = case.sources.iter().map(open).collect();
    for event in &case.events {
        match event {
            Event::Push { source, rows } => {
                let pushed = sources[*source].push_arrow(rows.clone());
                pushed.expect("rows of the schema");
                if case.stepwise {
                    db.settle().expect("open");
                }
            }
            Event::Settle => db.settle().expect("open"),
        }
    }
    for source in sources {
        source.close();
    }
    db.settle().expect("open");
}

fn drain(events: &mut Subscription) -> Result<Vec<RecordBatch>, Failure> {
    let gap = |reason| Failure {
        sqlstate: None,
        reason,
    };
    let mut batches = Vec::new();
    loop {
        match events.try_next() {
            Ok(Some(Output::Rows(batch))) => batches.push(batch),
            Ok(Some(Output::Missed { rows })) => return Err(gap(format!("{rows} rows missed"))),
            Ok(Some(Output::Gap { reason, .. })) => return Err(gap(reason)),
            Ok(None) => return Ok(batches),
            Err(error) => return Err(failure(&error)),
        }
    }
}

fn failure(error: &Error) -> Failure {
    let reason = error.to_string();
    // Of a SELECT it is in the error, of a stream in its text.
    let of_select = error.sql_errors().first().map(|it| it.sqlstate.into());
    let of_stream = reason
        .rsplit_once("(SQLSTATE ")
        .map(|(_, it)| it.trim_end_matches(')').into());
    Failure {
        sqlstate: of_select.or(of_stream),
        reason,
    }
}

fn collect(db: &Db, running: Running<'_>) -> Given {
    let Running {
        query,
        mut results,
        late,
    } = running;
    let rows = drain(&mut results);
    let late = match (late.map(|mut late| drain(&mut late)).transpose(), &rows) {
        (Ok(late), _) => late,
        (Err(_), Err(_)) => None,
        (Err(error), Ok(_)) => panic!("late rows fail only with their query: {error:?}"),
    };
    let held = query.view.then(|| {
        let held = db.query(&format!("SELECT * FROM {}", query.name));
        held.map_err(|error| error.to_string())
    });
    let schema = results.schema().clone();
    Given {
        rows,
        late: late.unwrap_or_default(),
        held,
        schema,
    }
}

enum Verdict {
    Right,
    Failed,
    Skipped,
}

/// DataFusion, with the rows of the sources and the answers to the queries before.
struct Oracle<'a> {
    case: &'a Case,
    tables: Vec<Table>,
    /// What was accepted, and has not failed.
    known: HashSet<String>,
    second: Option<Asking<'a>>,
}

impl<'a> Oracle<'a> {
    fn new(case: &'a Case, second: &'a Second) -> Self {
        let known = case.sources.iter().map(|it| it.name.clone()).collect();
        Self {
            case,
            tables: case.tables(),
            known,
            second: second.as_deref().map(Asking::new),
        }
    }

    /// Whether the batch query can be answered over no rows.
    fn plans(&self, query: &Query) -> Result<(), String> {
        let mut tables = self.tables.clone();
        tables.iter_mut().for_each(|it| it.batches.clear());
        if let Some(window) = &query.window {
            tables.push(windows::table(
                query.windows_table(),
                &[],
                &window.time_type,
            ));
        }
        // Queries before it have no answer yet.
        let missing = query
            .reads
            .iter()
            .any(|it| !tables.iter().any(|table| table.name == *it));
        if missing {
            return Err("not known here".into());
        }
        answer(&tables, &query.batch).map(|_| ())
    }

    fn check(&mut self, query: &Query, given: Given) -> Result<Verdict, String> {
        if !query.reads.iter().all(|it| self.known.contains(it)) {
            self.known.remove(&query.name);
            return Ok(Verdict::Skipped);
        }
        if let Some(window) = &query.window {
            let members = match self.rows_in_windows(window) {
                // Where a query fails, its late rows of that step are gone with it.
                Ok(rows) if given.rows.is_err() => windows::members(&rows, window.windows),
                Ok(rows) => members(window, rows, &given.late)?,
                Err(reason) => return self.both_failed(query, &given, reason),
            };
            self.tables.push(windows::table(
                query.windows_table(),
                &members,
                &window.time_type,
            ));
        }
        let expected = match answer(&self.tables, &query.batch) {
            Ok(expected) => expected,
            Err(reason) => return self.both_failed(query, &given, reason),
        };
        if given.rows.is_err() && self.fails_whole(query) {
            self.known.remove(&query.name);
            return Ok(Verdict::Failed);
        }
        self.ask_second(query, &given)?;
        compare(query, given, &expected)?;
        let Answer { schema, batches } = expected;
        self.tables.push(Table {
            name: query.name.clone(),
            schema,
            batches,
        });
        Ok(Verdict::Right)
    }

    fn both_failed(
        &mut self,
        query: &Query,
        given: &Given,
        reason: String,
    ) -> Result<Verdict, String> {
        self.known.remove(&query.name);
        match &given.rows {
            Err(_) => self.ask_second(query, given).map(|()| Verdict::Failed),
            Ok(_) if is_mistaken_name(&reason) => Ok(Verdict::Skipped),
            Ok(_) => Err(format!("  only the batch fails: {reason}")),
        }
    }

    /// Compares with PostgreSQL, if it is there.
    fn ask_second(&mut self, query: &Query, given: &Given) -> Result<(), String> {
        let Some(second) = &mut self.second else {
            return Ok(());
        };
        let outcome = Outcome {
            rows: given.rows.as_deref(),
            schema: &given.schema,
            changes: changes(&given.schema),
        };
        let late: Vec<_> = late_ids(&given.late)?.into_iter().collect();
        second.check(&self.tables, query, &late, &outcome)
    }

    /// Late rows have all columns of the relation in FROM. So a window fails where any of them
    /// does, used or not; a batch computes only those used.
    fn fails_whole(&self, query: &Query) -> bool {
        let window = query.window.as_ref();
        window.is_some_and(|it| answer(&self.tables, &it.whole).is_err())
    }

    /// The rows that reach the windows, each with the number of its group.
    fn rows_in_windows(&self, window: &Window) -> Result<Vec<Timed>, String> {
        let rows = windows::timed(&answer(&self.tables, &window.rows)?);
        let groups = self.groups(&window.rows)?;
        let bounds = self.bounds(window);
        let rows = rows.into_iter().map(|(id, at)| Timed {
            id,
            at,
            key: groups.get(&id).copied().unwrap_or_default(),
            bound: bounds.get(&id).copied().unwrap_or(i64::MIN),
        });
        Ok(rows.collect())
    }

    /// The number of the group that each row is in, by DataFusion's own idea of equal keys.
    fn groups(&self, rows: &str) -> Result<HashMap<i64, usize>, String> {
        let columns = answer(&self.tables, rows)?.schema;
        let keys: Vec<_> = columns.fields()[2..]
            .iter()
            .map(|it| it.name().clone())
            .collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let keys = keys.join(", ");
        let sql = format!("SELECT ARRAY_AGG(id) FROM ({rows}) AS r GROUP BY {keys}");
        let mut groups = HashMap::new();
        let mut number = 0;
        for batch in answer(&self.tables, &sql)?.batches {
            for ids in batch.column(0).as_list::<i32>().iter().flatten() {
                number += 1;
                let ids = ids.as_primitive::<Int64Type>().clone();
                groups.extend(ids.values().iter().map(|&id| (id, number)));
            }
        }
        Ok(groups)
    }

    /// For each row of a source with one producer, the frontier before it: whatever the steps were.
    fn bounds(&self, window: &Window) -> HashMap<i64, i64> {
        let mut bounds = HashMap::new();
        let source = self
            .case
            .sources
            .iter()
            .position(|it| Some(&it.name) == window.direct.as_ref());
        let Some(source) = source else {
            return bounds;
        };
        let per_second = i128::from(per_second(&window.time_type));
        let to_us = |at: i64| (i128::from(at) * 1_000_000).div_euclid(per_second);
        let delay = i128::from(self.case.sources[source].delay_us);
        let mut latest_us: Option<i128> = None;
        for event in &self.case.events {
            let Event::Push { source: to, rows } = event else {
                continue;
            };
            if *to != source {
                continue;
            }
            let ids = rows.column(0).as_primitive::<Int64Type>();
            let times = cast(rows.column(1), &DataType::Int64).expect("a timestamp is a number");
            let times = times.as_primitive::<Int64Type>();
            for (&id, time) in ids.values().iter().zip(times) {
                let bound = latest_us.map_or(i128::from(i64::MIN), |us| {
                    ((us - delay) * per_second).div_euclid(1_000_000)
                });
                let bound = bound.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
                bounds.insert(id, bound);
                latest_us = latest_us.max(time.map(to_us));
            }
        }
        bounds
    }
}

/// Checks which rows were late, and puts the others into windows.
fn members(
    window: &Window,
    rows: Vec<Timed>,
    late: &[RecordBatch],
) -> Result<Vec<windows::Member>, String> {
    let late_ids = late_ids(late)?;
    for row in &rows {
        check_late(window, row, late_ids.contains(&row.id))?;
    }
    let on_time = rows.into_iter().filter(|row| !late_ids.contains(&row.id));
    Ok(windows::members(
        &on_time.collect::<Vec<_>>(),
        window.windows,
    ))
}

fn late_ids(late: &[RecordBatch]) -> Result<HashSet<i64>, String> {
    let mut late_ids = HashSet::new();
    for batch in late {
        let ids = batch
            .column_by_name("id")
            .ok_or("  late rows without the column id")?;
        let counted = batch
            .column_by_name("_counted")
            .ok_or("  late rows without the column _counted")?;
        let ids = ids.as_primitive::<Int64Type>().values().iter();
        let late = ids.zip(counted.as_boolean().values());
        late_ids.extend(late.filter(|(_, counted)| !counted).map(|(id, _)| *id));
    }
    Ok(late_ids)
}

fn check_late(window: &Window, row: &Timed, late: bool) -> Result<(), String> {
    let known = row.bound > i64::MIN;
    let is_in_window = !windows::members(std::slice::from_ref(row), window.windows).is_empty();
    let expected = match (row.at, window.windows) {
        (None, _) => Some(true),
        _ if window.orderly => Some(false),
        (Some(at), Windows::Session { .. }) => (known && at >= row.bound).then_some(false),
        _ => known.then_some(!is_in_window),
    };
    match expected {
        Some(expected) if expected != late => Err(format!(
            "  row {} at {:?} came when the bound was {}; late: {late}",
            row.id, row.at, row.bound
        )),
        _ => Ok(()),
    }
}

/// Whether the last column of a result says which rows were added and which removed.
fn changes(schema: &SchemaRef) -> bool {
    schema
        .fields()
        .last()
        .is_some_and(|it| it.name() == "_diff")
}

fn compare(query: &Query, given: Given, expected: &Answer) -> Result<(), String> {
    let rows = given
        .rows
        .map_err(|failure| format!("  only the stream fails: {}", failure.reason))?;
    let changes = changes(&given.schema);
    let schema = match changes {
        true => {
            let fields = given.schema.fields();
            let columns = fields[..fields.len() - 1].to_vec();
            SchemaRef::new(datafusion::arrow::datatypes::Schema::new(columns))
        }
        false => given.schema,
    };
    if let Some(difference) = type_difference(&schema, &expected.schema) {
        return Err(difference);
    }
    let net = if changes {
        Rows::net(&rows)
    } else {
        Rows::of(&rows)
    };
    if let Some(difference) = net.difference(Rows::of(&expected.batches)) {
        return Err(difference);
    }
    if !query.view {
        return Ok(());
    }
    let held = given.held.unwrap_or(Ok(Vec::new()));
    let held = held.map_err(|reason| format!("  the view cannot be read: {reason}"))?;
    let difference = Rows::of(&held).difference(Rows::of(&expected.batches));
    difference.map_or(Ok(()), |difference| {
        Err(format!("  in the view:\n{difference}"))
    })
}
