//! GROUP BY as a node of a dataflow: by keys alone, or by a window as well.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::execution::context::ExecutionProps;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, LoweredAggregateBuilder};

use super::planner_error::explain;
use super::relation::EventColumn;
use super::subplan::{Subplan, refuse_bound};
use super::window::{
    EqualWindows, WindowAggregate, WindowBound, WindowKey, WindowLengths, in_units, window_key,
};
use crate::dataflow::{
    Aggregate, EventTime, Grouping, KeyedSpec, LATE_COLUMNS, LocalDays, OutputColumn, PlanNode,
    SessionSpec, WindowSlots, WindowSpec, with_lateness,
};
use crate::sql::interval::DAY_US;
use crate::sql::numbers::guarded;
use crate::sql::{Result, SqlError, sqlstate};

/// GROUP BY without a window: a result that changes with every row.
pub(super) fn keyed(
    from: Subplan,
    aggregate: &LogicalAggregate,
    props: &ExecutionProps,
) -> Result<Subplan> {
    refuse_changes(&from)?;
    let mut keys = Vec::with_capacity(aggregate.group_expr.len());
    for key in &aggregate.group_expr {
        keys.push(from.physical(key, props)?);
    }
    let key_count = keys.len();
    let aggregates = aggregates(&aggregate.aggr_expr, &from, props)?;
    let output = (0..key_count)
        .map(OutputColumn::Key)
        .chain((0..aggregates.len()).map(OutputColumn::Aggregate))
        .collect();
    let fields = aggregate.schema.fields()[..key_count].to_vec();
    let grouping =
        Grouping::new(from.schema.as_arrow(), keys, fields, aggregates).map_err(explain)?;
    let schema = Arc::new(aggregate.schema.as_arrow().clone());
    let spec = Arc::new(KeyedSpec {
        total: grouping.total_of_nothing().map_err(explain)?,
        grouping,
        output,
        schema,
    });
    Ok(Subplan {
        node: PlanNode::Keyed {
            from: Box::new(from.node),
            spec,
        },
        schema: aggregate.schema.clone(),
        event_time: Vec::new(),
        changes: true,
        key: Some((0..key_count).collect()),
        in_order: false,
    })
}

/// GROUP BY with a window, whose results are final; `late` gets the columns of its late rows.
pub(super) fn windowed(
    mut from: Subplan,
    aggregate: &WindowAggregate,
    props: &ExecutionProps,
    late: &mut Vec<SchemaRef>,
) -> Result<Subplan> {
    refuse_changes(&from)?;
    let WindowedKeys {
        keys,
        fields,
        mut output,
        window,
    } = windowed_keys(&from, aggregate, props)?;
    let time = event_time(&window.time, &from, props)?;
    // A session is joined from parts, in an order that depends on the steps in which they came.
    from.in_order &= matches!(window.lengths, WindowLengths::Equal(_));
    let mut aggregates = aggregates(&aggregate.aggregates, &from, props)?;
    output.extend((0..aggregates.len()).map(OutputColumn::Aggregate));
    let event_time = window_event_time(&output, &window.lengths, time.lag_us);
    refuse_late_columns(&from)?;
    let (stage, columns) = (late.len(), Arc::new(from.schema.as_arrow().clone()));
    late.push(with_lateness(&columns, &time.data_type));
    let schema = Arc::new(aggregate.schema.as_arrow().clone());
    let grouping = |aggregates| Grouping::new(&columns, keys, fields, aggregates).map_err(explain);
    let from = Box::new(from.node);
    let node = match window.lengths {
        WindowLengths::Equal(windows) => {
            let spec = Arc::new(WindowSpec {
                stage,
                slots: slots(&windows, &time)?,
                grouping: grouping(aggregates)?,
                time,
                output,
                schema,
            });
            PlanNode::Window { from, spec }
        }
        WindowLengths::Session { gap_us } => {
            let gap = length(gap_us, &time)?;
            aggregates.extend(first_and_last(&time, &columns)?);
            let spec = Arc::new(SessionSpec {
                stage,
                gap,
                grouping: grouping(aggregates)?,
                time,
                output,
                schema,
            });
            PlanNode::Session { from, spec }
        }
    };
    Ok(Subplan {
        node,
        schema: aggregate.schema.clone(),
        event_time,
        changes: false,
        key: None,
        in_order: false,
    })
}

/// The keys of a windowed GROUP BY: those of the dataflow, and the window.
struct WindowedKeys {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    fields: Vec<FieldRef>,
    /// The output columns of all keys, in the order of the query.
    output: Vec<OutputColumn>,
    window: WindowKey,
}

fn windowed_keys(
    from: &Subplan,
    aggregate: &WindowAggregate,
    props: &ExecutionProps,
) -> Result<WindowedKeys> {
    let (mut keys, mut fields, mut output, mut window) = (Vec::new(), Vec::new(), Vec::new(), None);
    for (number, expr) in aggregate.keys.iter().enumerate() {
        match window_key(expr).map_err(explain)? {
            Some(key) => {
                output.push(match key.bound {
                    WindowBound::Start => OutputColumn::WindowStart,
                    WindowBound::End => OutputColumn::WindowEnd,
                    WindowBound::Time => OutputColumn::WindowTime,
                });
                window = Some(key);
            }
            None => {
                output.push(OutputColumn::Key(keys.len()));
                keys.push(from.physical(expr, props)?);
                fields.push(Arc::clone(&aggregate.schema.fields()[number]));
            }
        }
    }
    let without_window = || {
        let message = "a windowed GROUP BY without a window";
        SqlError::new(sqlstate::GROUPING_ERROR, message)
    };
    Ok(WindowedKeys {
        keys,
        fields,
        output,
        window: window.ok_or_else(without_window)?,
    })
}

/// The aggregates whose value follows the order of the rows.
const FOLLOW_ORDER: &[&str] = &[
    "array_agg",
    "string_agg",
    "first_value",
    "last_value",
    "nth_value",
    "any_value",
];

fn aggregates(exprs: &[Expr], from: &Subplan, props: &ExecutionProps) -> Result<Vec<Aggregate>> {
    let columns = from.schema.as_arrow();
    let context = PhysicalPlanningContext::default();
    let lower = |expr: &Expr| {
        refuse_bound(expr)?;
        let lowered = LoweredAggregateBuilder::new(expr, &from.schema, columns, props, &context);
        let lowered = lowered.build().map_err(explain)?;
        let name = lowered.aggregate.fun().name();
        if lowered.order_bys.is_empty() && !from.in_order && FOLLOW_ORDER.contains(&name) {
            let what = format!("{name}() of rows in no order");
            return Err(SqlError::not_built(what).hint(format!(
                "Rows of a UNION, of windows and within sessions have no order of their own: write {name}(x ORDER BY y)."
            )));
        }
        let sorted = lowered.aggregate.order_sensitivity();
        if !lowered.order_bys.is_empty()
            && matches!(sorted, AggregateOrderSensitivity::HardRequirement)
        {
            let what = format!("ORDER BY in {name}()");
            return Err(SqlError::not_built(what)
                .hint("A stream is never sorted: order the SELECT on a VIEW instead."));
        }
        let filter = lowered.filter.map(|filter| guarded(filter, columns));
        Ok(Aggregate {
            function: lowered.aggregate,
            filter: filter.transpose().map_err(explain)?,
        })
    };
    exprs.iter().map(lower).collect()
}

fn event_time(expr: &Expr, from: &Subplan, props: &ExecutionProps) -> Result<EventTime> {
    let Some(lag_us) = from.event_lag_us(expr) else {
        let message = format!("{expr} is not event time: the stream has no watermark for it");
        return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message).hint(
            "Declare WATERMARK FOR the column in CREATE SOURCE, and group by the column \
             itself or, over a windowed stream, by its window_time.",
        ));
    };
    let physical = from.physical(expr, props)?;
    let data_type = physical.data_type(from.schema.as_arrow());
    Ok(EventTime {
        data_type: data_type.map_err(explain)?,
        expr: physical,
        lag_us,
    })
}

/// Refuses columns that late rows get.
fn refuse_late_columns(from: &Subplan) -> Result<()> {
    let names = from.schema.fields().iter().map(|field| field.name());
    let taken = names
        .into_iter()
        .find(|name| LATE_COLUMNS.contains(&name.as_str()));
    let Some(name) = taken else { return Ok(()) };
    let message = format!("{name:?} is a column that late rows get");
    Err(SqlError::new(sqlstate::DUPLICATE_COLUMN, message)
        .hint("Group a stream that gives the column another name."))
}

fn refuse_changes(from: &Subplan) -> Result<()> {
    if !from.changes {
        return Ok(());
    }
    Err(
        SqlError::not_built("GROUP BY or DISTINCT over a result that changes")
            .hint("Group the original stream, or group by a window so that results are final."),
    )
}

fn window_event_time(
    output: &[OutputColumn],
    lengths: &WindowLengths,
    lag_us: i64,
) -> Vec<EventColumn> {
    let columns = output.iter().enumerate();
    let lags = columns.filter_map(|(column, bound)| {
        use OutputColumn::{WindowEnd, WindowStart, WindowTime};
        let more_us = match (bound, lengths) {
            (WindowEnd | WindowTime, WindowLengths::Equal(_)) => 0,
            // With many sessions open, a closed one is emitted up to a sixteenth of a gap later.
            (WindowEnd | WindowTime, WindowLengths::Session { gap_us }) => gap_us / 16 + 1,
            // No zone has moved its clocks back by more than a day.
            (WindowStart, WindowLengths::Equal(windows)) => match windows.zone {
                Some(_) => windows.size_us.saturating_add(DAY_US),
                None => windows.size_us,
            },
            _ => return None,
        };
        let lag_us = lag_us.saturating_add(more_us);
        Some(EventColumn::new(column, lag_us))
    });
    lags.collect()
}

/// The windows in units of the event time column, or in days of their time zone.
fn slots(windows: &EqualWindows, time: &EventTime) -> Result<WindowSlots> {
    let slots = |days, length: &dyn Fn(i64) -> Result<i64>| {
        Ok(WindowSlots {
            size: length(windows.size_us)?,
            slide: length(windows.slide_us)?,
            offset: length(windows.offset_us)?,
            days,
        })
    };
    match windows.zone {
        Some(zone) => {
            let days = LocalDays::new(zone, unit(time)?);
            slots(Some(days), &|us| Ok(us / DAY_US))
        }
        None => slots(None, &|us| length(us, time)),
    }
}

fn unit(time: &EventTime) -> Result<TimeUnit> {
    match &time.data_type {
        DataType::Timestamp(unit, _) => Ok(*unit),
        other => {
            let message = format!("a window needs a TIMESTAMP, not {other}");
            Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message))
        }
    }
}

/// A length in units of the event time column.
fn length(us: i64, time: &EventTime) -> Result<i64> {
    let unit = unit(time)?;
    in_units(us, unit).ok_or_else(|| {
        let message =
            format!("an interval of {us} microseconds is not a whole number of {unit:?}s");
        SqlError::new(sqlstate::INVALID_PARAMETER, message)
            .hint("Make the interval a multiple of the unit of the event time column.")
    })
}

/// First and last event time of a group: the last two aggregates of a session.
fn first_and_last(time: &EventTime, schema: &Schema) -> Result<[Aggregate; 2]> {
    let build = |function, alias| {
        let builder = AggregateExprBuilder::new(function, vec![Arc::clone(&time.expr)]);
        let built = builder
            .schema(Arc::new(schema.clone()))
            .alias(alias)
            .build();
        let function = Arc::new(built.map_err(explain)?);
        Ok(Aggregate {
            function,
            filter: None,
        })
    };
    Ok([build(min_udaf(), "first")?, build(max_udaf(), "last")?])
}
