//! Windows of the days of each time zone, and windows with an offset, answered by Headwater and by PostgreSQL.
//!
//! The rows of a zone are around all changes of its clocks. PostgreSQL's `date_trunc` puts the rows of a day apart,
//! or before its start, where midnight is there twice or the clocks skip more than what follows it: rows of
//! such days are left out, and counted. `HEADWATER_DIFF_CASES` is of how many of the 596 names the zones are.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset as _, TimeZone as _};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampSecondArray};
use datafusion::arrow::datatypes::{Int64Type, TimestampSecondType};
use headwater::Db;

use crate::postgres::{Postgres, TextRows};
use crate::setting;

const DAY: i64 = 86_400;
/// From 1840 to 2098, seconds: later years have the rules of earlier ones, which Gaza's Ramadan does not keep.
const YEARS: std::ops::Range<i64> = -130 * 365 * DAY..128 * 365 * DAY;

fn utc(second: i64) -> NaiveDateTime {
    DateTime::from_timestamp(second, 0)
        .expect("in the calendar")
        .naive_utc()
}

fn offset_at(zone: Tz, second: i64) -> i64 {
    let offset = zone.offset_from_utc_datetime(&utc(second));
    offset.fix().local_minus_utc().into()
}

/// The first seconds with another offset, but for changes that a week undoes.
fn changes(zone: Tz) -> Vec<i64> {
    let mut changes = Vec::new();
    for week in YEARS.step_by(7 * DAY as usize) {
        let (mut before, mut after) = (week, week + 7 * DAY);
        let old = offset_at(zone, before);
        if old == offset_at(zone, after) {
            continue;
        }
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            match offset_at(zone, middle) == old {
                true => before = middle,
                false => after = middle,
            }
        }
        changes.push(after);
    }
    changes
}

/// Whether PostgreSQL knows one first instant of each local day in the weeks around `second`.
fn is_plain(zone: Tz, second: i64) -> bool {
    let day = (second + offset_at(zone, second)).div_euclid(DAY);
    (day - 8..day + 9).all(|day| {
        let midnight = utc(day * DAY);
        match zone.offset_from_local_datetime(&midnight) {
            MappedLocalTime::Single(_) => true,
            MappedLocalTime::Ambiguous(..) => false,
            MappedLocalTime::None => {
                let gap = GapInfo::new(&midnight, &zone).and_then(|gap| gap.begin);
                gap.is_some_and(|(begin, _)| begin == midnight)
            }
        }
    })
}

/// Rows around all changes of a zone.
fn rows(zone: Tz) -> Vec<i64> {
    let around = [0, 1, 3_600, 43_200, DAY - 1, DAY, 2 * DAY];
    let mut rows = BTreeSet::from([-3_000 * DAY, 0, 20_000 * DAY]);
    for change in changes(zone) {
        rows.extend(around.iter().flat_map(|by| [change - by, change + by]));
    }
    rows.into_iter().collect()
}

/// Start, end and count of each window.
type Windows = Vec<(i64, i64, i64)>;

fn ours(window: &str, rows: &[i64]) -> Windows {
    let db = Db::in_memory().expect("a database");
    db.execute(&format!(
        "CREATE SOURCE s (ts TIMESTAMP(0), WATERMARK FOR ts AS ts);
         CREATE VIEW v AS SELECT window_start, window_end, COUNT(*) AS n FROM s GROUP BY {window};"
    ))
    .expect("a view");
    let times: ArrayRef = Arc::new(TimestampSecondArray::from(rows.to_vec()));
    let source = db.source_untyped("s").expect("a source");
    let batch = RecordBatch::try_from_iter_with_nullable([("ts", times, true)]);
    source.push_arrow(batch.expect("a column")).expect("rows");
    source.close();
    db.settle().expect("no failure");
    let answer = db.query("SELECT * FROM v ORDER BY window_start, window_end");
    let mut windows = Windows::new();
    for batch in answer.expect("rows") {
        let bound = |column| batch.column(column).as_primitive::<TimestampSecondType>();
        let counts = batch.column(2).as_primitive::<Int64Type>();
        windows.extend(
            (0..batch.num_rows())
                .map(|row| (bound(0).value(row), bound(1).value(row), counts.value(row))),
        );
    }
    windows
}

/// `start` and `end` are expressions over `t`, a timestamp in UTC.
fn theirs(postgres: &mut Postgres, start: &str, end: &str, rows: &[i64]) -> Windows {
    let rows: Vec<_> = rows.iter().map(ToString::to_string).collect();
    let second = |expr: &str| format!("extract(epoch FROM {expr})::bigint");
    let sql = format!(
        "SELECT {}, {}, count(*) FROM unnest(ARRAY[{}]::bigint[]) AS s, \
         LATERAL (SELECT to_timestamp(s) AS t) AS row GROUP BY 1, 2 ORDER BY 1, 2",
        second(start),
        second(end),
        rows.join(", ")
    );
    let found: TextRows = postgres
        .ask(&sql)
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let number = |text: &Option<String>| -> i64 {
        let text = text.as_deref().expect("a value");
        text.parse().expect("a number")
    };
    let windows = found
        .iter()
        .map(|row| (number(&row[0]), number(&row[1]), number(&row[2])));
    windows.collect()
}

fn difference(ours: &Windows, theirs: &Windows) -> Option<String> {
    let at = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at))?;
    Some(format!(
        "{:?}, PostgreSQL {:?}",
        ours.get(at),
        theirs.get(at)
    ))
}

/// The rows behind the last for which PostgreSQL's database has another offset: Debian's has more of the time
/// before 1970.
fn where_databases_agree(postgres: &mut Postgres, zone: Tz, rows: &[i64]) -> Vec<i64> {
    let offsets = rows
        .iter()
        .map(|row| format!("({row}, {})", offset_at(zone, *row)));
    let sql = format!(
        "SELECT max(s) FROM (VALUES {}) AS row (s, ahead) \
         WHERE extract(epoch FROM to_timestamp(s) AT TIME ZONE '{}') <> s + ahead",
        offsets.collect::<Vec<_>>().join(", "),
        zone.name()
    );
    let last = postgres
        .ask(&sql)
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let last = last[0][0]
        .as_deref()
        .map(|last| last.parse::<i64>().expect("a number"));
    let agree = |row: &&i64| last.is_none_or(|last| **row > last + 30 * DAY);
    rows.iter().filter(agree).copied().collect()
}

/// The days and the weeks of `rows`, in which Headwater and PostgreSQL differ.
fn differences(postgres: &mut Postgres, zone: Tz, rows: &[i64]) -> Vec<String> {
    let name = zone.name();
    let days = format!("TUMBLE(ts, INTERVAL '1 day', '{name}')");
    let weeks = format!("TUMBLE(ts, INTERVAL '7 days', INTERVAL '4 days', '{name}')");
    let asked = [(days, "day", "1 day"), (weeks, "week", "7 days")];
    let found = asked.into_iter().filter_map(|(window, unit, length)| {
        let start = format!("date_trunc('{unit}', t, '{name}')");
        let local = format!("date_trunc('{unit}', t AT TIME ZONE '{name}')");
        let end = format!("(({local} + interval '{length}') AT TIME ZONE '{name}')");
        let theirs = theirs(postgres, &start, &end, rows);
        let found = difference(&ours(&window, rows), &theirs)?;
        Some(format!("{window}: {found}"))
    });
    found.collect()
}

#[test]
#[ignore = "asks PostgreSQL: .ci/postgres cargo test -p headwater --test differential -- --ignored"]
fn windows_of_days_are_those_of_postgresql() {
    let mut postgres = Postgres::connect();
    postgres
        .run("SET search_path TO DEFAULT;")
        .expect("a setting");
    let (mut known, mut wrong) = (BTreeSet::new(), Vec::new());
    let (mut asked, mut odd, mut other_data) = (0, 0, 0);
    let always = [
        Tz::Europe__Berlin,
        Tz::America__Sao_Paulo,
        Tz::Asia__Beirut,
        Tz::Asia__Kathmandu,
        Tz::Pacific__Apia,
    ];
    let step = TZ_VARIANTS.len() / setting("HEADWATER_DIFF_CASES", 200);
    let some = TZ_VARIANTS.into_iter().step_by(step.max(1));
    for zone in always.into_iter().chain(some) {
        let all = rows(zone);
        let offsets: Vec<_> = all.iter().map(|row| offset_at(zone, *row)).collect();
        if !known.insert((all.clone(), offsets)) {
            // Another name of a zone.
            continue;
        }
        let plain: Vec<i64> = all
            .iter()
            .copied()
            .filter(|row| is_plain(zone, *row))
            .collect();
        let rows = where_databases_agree(&mut postgres, zone, &plain);
        asked += rows.len();
        odd += all.len() - plain.len();
        other_data += plain.len() - rows.len();
        wrong.extend(differences(&mut postgres, zone, &rows));
    }
    println!(
        "{} zones, {asked} rows; left out: {odd} near an odd midnight, {other_data} where the databases differ",
        known.len()
    );
    assert!(
        wrong.is_empty(),
        "{} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
#[ignore = "asks PostgreSQL: .ci/postgres cargo test -p headwater --test differential -- --ignored"]
fn windows_with_an_offset_are_those_of_postgresql() {
    let mut postgres = Postgres::connect();
    postgres
        .run("SET search_path TO DEFAULT;")
        .expect("a setting");
    let rows: Vec<i64> = (-50_000..50_000).step_by(97).collect();
    for (size, offset) in [
        ("1 hour", "15 minutes"),
        ("1 hour", "-15 minutes"),
        ("1 hour", "25 hours 15 minutes"),
        ("7 minutes", "-1 second"),
        ("1 day", "-3 hours"),
        ("10 hours", "30 hours"),
    ] {
        let window = format!("TUMBLE(ts, INTERVAL '{size}', INTERVAL '{offset}')");
        let start = format!(
            "date_bin('{size}', t AT TIME ZONE 'UTC', timestamp '1970-01-01' + interval '{offset}')"
        );
        let end = format!("({start} + interval '{size}')");
        let found = difference(
            &ours(&window, &rows),
            &theirs(&mut postgres, &start, &end, &rows),
        );
        assert_eq!(found, None, "{window}");
    }
}
